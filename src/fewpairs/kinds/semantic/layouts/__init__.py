"""Layouts of images with label maps: ADE20K, Cityscapes, and a folder of images beside one of masks."""
