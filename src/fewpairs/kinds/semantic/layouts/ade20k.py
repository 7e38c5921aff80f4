"""ADE20K (SceneParse150): `images/training/ID.jpg`, `annotations/training/ID.png`, and the same for `validation`."""

from __future__ import annotations

from pathlib import Path

from fewpairs.data.files import left_out_notes
from fewpairs.kinds.semantic.labels import NumberReading
from fewpairs.kinds.semantic.layouts.label_maps import paired_files, unread_files
from fewpairs.kinds.semantic.layouts.open import SemanticOptions
from fewpairs.kinds.semantic.names import ADE20K, palette, read_names
from fewpairs.kinds.semantic.source import SemanticSource


def open_ade20k(root: Path, options: SemanticOptions) -> SemanticSource:
    """Open a data set in ADE20K's layout; 0 is not scored, and 1 is the first class.

    Raises:
        DataError: files are missing or have no partner.
    """
    named = options.names
    info = root / "objectInfo150.txt"
    classes = named or (read_names(info) if info.is_file() else ADE20K)
    parts, notes = {}, []
    for part, folder in (("train", "training"), ("validation", "validation")):
        images, masks = root / "images" / folder, root / "annotations" / folder
        if part == "validation" and not images.is_dir():
            continue
        parts[part] = paired_files(images, masks, options.case_pattern)
        notes += unread_files(images, masks)
    colours = palette(len(classes) + 1)[1:]
    reading = NumberReading.plain(classes, ignore=None, shift=True)
    return SemanticSource(
        root.name, classes, parts, reading, colours=colours, named=named is not None, notes=left_out_notes(notes)
    )
