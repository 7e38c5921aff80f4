"""Run folders from end to end: settings, training, evaluation, comparison, prediction, and where each result comes from."""
