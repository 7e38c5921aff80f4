"""Run folders from end to end: settings, training, evaluation, comparison, prediction, where results come from."""
