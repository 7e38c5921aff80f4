"""Cityscapes: `leftImg8bit/PART/CITY/ID_leftImg8bit.png` and `gtFine/PART/CITY/ID_gtFine_labelTrainIds.png`."""

from __future__ import annotations

from pathlib import Path

from fewpairs.data.files import fail_on, left_out_notes, other_files, visible_files, visible_folders
from fewpairs.errors import DataError
from fewpairs.kinds.semantic.labels import NumberReading
from fewpairs.kinds.semantic.layouts.open import SemanticOptions
from fewpairs.kinds.semantic.names import CITYSCAPES
from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource
from fewpairs.types import IGNORE

_IMAGE = "_leftImg8bit.png"


def open_cityscapes(root: Path, options: SemanticOptions) -> SemanticSource:
    """Open a data set in Cityscapes' layout with its 19 classes; if there are no train ids, label ids are translated.

    Raises:
        DataError: files are missing or have no partner.
    """
    parts: dict[str, list[ImageFiles]] = {}
    others: list[Path] = []
    trained = True
    for part, on_disk in (("train", "train"), ("validation", "val")):
        folder = root / "leftImg8bit" / on_disk
        if part == "validation" and not folder.is_dir():
            continue
        files = []
        for city in visible_folders(folder):
            others += other_files(folder / city, (_IMAGE.lower(),))
            for image in visible_files(folder / city, (_IMAGE.lower(),)):
                stem = image.name[: -len(_IMAGE)]
                mask = root / "gtFine" / on_disk / city / f"{stem}_gtFine_labelTrainIds.png"
                if not mask.is_file() and mask.with_name(f"{stem}_gtFine_labelIds.png").is_file():
                    mask, trained = mask.with_name(f"{stem}_gtFine_labelIds.png"), False
                files.append(ImageFiles(stem, stem, image, mask))
        problems = [f"{one.image} has no label map {one.mask}" for one in files if not one.mask.is_file()]
        fail_on(problems, "every image needs a label map, with label ids or train ids")
        parts[part] = files
    if not trained and any(one.mask.name.endswith("TrainIds.png") for files in parts.values() for one in files):
        raise DataError(
            f"{root / 'gtFine'} has *_labelTrainIds.png for some images and only *_labelIds.png for others; create "
            "them for all images, or remove them"
        )
    names = tuple(CITYSCAPES)
    if trained:
        reading = NumberReading.plain(names)
    else:
        ids = {label: index for index, (label, _) in enumerate(CITYSCAPES.values())}
        reading = NumberReading({number: ids.get(number, IGNORE) for number in range(256)}, names)
    colours = [colour for _, colour in CITYSCAPES.values()]
    return SemanticSource(root.name, names, parts, reading, colours=colours, named=False, notes=left_out_notes(others))
