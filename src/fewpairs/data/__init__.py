"""File handling shared by all kinds of experiment: pictures, splits, names, atomic writing."""
