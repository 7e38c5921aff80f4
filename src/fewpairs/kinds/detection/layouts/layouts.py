"""One entrance to every detection data set, by the name of its layout."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Literal

from fewpairs.errors import InputError, nearest
from fewpairs.kinds.detection.layouts.coco import open_coco
from fewpairs.kinds.detection.layouts.coco_files import coco_files
from fewpairs.kinds.detection.layouts.label_maps import IMAGES as MAP_IMAGES
from fewpairs.kinds.detection.layouts.label_maps import INDEX, MASKS, open_label_maps
from fewpairs.kinds.detection.layouts.voc import ANNOTATIONS, IMAGES, open_voc
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource

DetectionKind = Literal["coco", "voc", "nuclei-masks"]
DETECTION_KINDS: tuple[DetectionKind, ...] = ("coco", "voc", "nuclei-masks")

_OF_ALL = {"classes", "train", "val", "test", "images", "on_error", "check_files"}
_OF_ALL |= {"val_fraction", "test_fraction", "seed"}
_MEANT_FOR: dict[str, set[str]] = {
    "coco": _OF_ALL,
    "voc": _OF_ALL | {"annotations", "difficult", "first_pixel"},
    "nuclei-masks": _OF_ALL | {"annotations"},
}


def open_detection(kind: str, root: Path | str, options: DetectionOptions | None = None) -> DetectionSource:
    """The detection data set at `root` in the layout `kind`.

    Args:
        kind: `coco` (JSON), `voc` (XML) or `nuclei-masks` (label maps).

    Raises:
        InputError: an unknown layout, an option that it does not have, or files that are not there.
        DataError: what is there is damaged or contradicts itself; everything that is wrong is named at once.
    """
    options = options or DetectionOptions()
    if kind not in DETECTION_KINDS:
        raise InputError(f"unknown layout kind={kind!r}; {nearest(kind, DETECTION_KINDS)}")
    given = {field.name for field in fields(options) if getattr(options, field.name) != field.default}
    stray = sorted(given - _MEANT_FOR[kind])
    if stray:
        raise InputError(
            f"{', '.join(stray)}: no option of the layout {kind!r}, which has {', '.join(sorted(_MEANT_FOR[kind]))}"
        )
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give the root of the data set")
    if kind == "coco":
        return open_coco(root, options)
    if kind == "voc":
        return open_voc(root, options)
    return open_label_maps(root, options)


def detect_detection(root: Path | str) -> DetectionKind | None:
    """The layout of the folder `root`, judged by the names in it; None if it has none of them."""
    root = Path(root)
    if not root.is_dir():
        return None
    if (root / ANNOTATIONS).is_dir() and (root / IMAGES).is_dir():
        return "voc"
    if (root / MAP_IMAGES).is_dir() and (root / MASKS).is_dir() and (root / INDEX).is_file():
        return "nuclei-masks"
    return "coco" if coco_files(root, DetectionOptions()) else None
