"""Scores that can be trusted: the table of scores, records in files, intervals by one bootstrap, paired comparisons."""
