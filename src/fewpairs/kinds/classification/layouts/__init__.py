"""Layouts of labelled pictures: folders, ImageNet, IDX, torchvision's and Hugging Face's data sets."""
