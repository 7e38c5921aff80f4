"""Layouts of annotated pictures: COCO, Pascal VOC, label maps of instances."""
