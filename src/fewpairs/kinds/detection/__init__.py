"""Boxes and masks of objects: files -> view and augmentation -> detector -> detections -> average precision."""
