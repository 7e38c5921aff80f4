"""Multi-label masks of scans: files -> store -> slices -> segmenter -> masks -> scores over cases."""
