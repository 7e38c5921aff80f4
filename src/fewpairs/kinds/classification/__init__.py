"""A class for each picture: files -> view and augmentation -> classifier -> classes -> scores over images."""
