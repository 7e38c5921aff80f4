"""Scores shared by all kinds: table of scores, records in files, bootstrap intervals, paired comparisons."""
