"""Layouts of scans on disk: UW-Madison GI Tract, Medical Segmentation Decathlon, NIfTI, pictures in folders."""
