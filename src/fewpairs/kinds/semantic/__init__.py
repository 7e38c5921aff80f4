"""A class for each pixel of a photograph: files -> view -> segmenter -> label maps -> scores over images."""
