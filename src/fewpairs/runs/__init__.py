"""Run folders: settings, training, evaluation, comparison, prediction, and where each result comes from."""
