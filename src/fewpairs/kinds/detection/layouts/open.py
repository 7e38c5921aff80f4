"""Opens a detection data set by the name of its layout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from fewpairs.data.description import Check
from fewpairs.data.files import Layout, choose_layout
from fewpairs.data.split import Split
from fewpairs.errors import InputError
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource

DetectionKind = Literal["coco", "voc", "nuclei-masks"]
DETECTION_KINDS: tuple[DetectionKind, ...] = ("coco", "voc", "nuclei-masks")

_HERE = "fewpairs.kinds.detection.layouts"
_OF_ALL: tuple[str, ...] = ("classes", "train", "validation", "test", "images", "on_error")
LAYOUTS = {
    "coco": Layout(f"{_HERE}.coco:open_coco", _OF_ALL),
    "voc": Layout(f"{_HERE}.voc:open_voc", (*_OF_ALL, "annotations", "difficult", "first_pixel")),
    "nuclei-masks": Layout(f"{_HERE}.label_maps:open_label_maps", (*_OF_ALL, "annotations")),
}


def open_detection(
    kind: str,
    root: Path | str,
    options: DetectionOptions | None = None,
    *,
    split: Split | None = None,
    look: Check = "header",
) -> DetectionSource:
    """Open the detection data set at `root` in the layout `kind`.

    Args:
        kind: `coco` (JSON), `voc` (XML) or `nuclei-masks` (label maps).
        split: shares of the training images that are held out for parts which the layout does not have.
        look: the check of every image file: its header and end, every pixel, or none.

    Raises:
        InputError: the layout is unknown or does not have an option, or files do not exist.
        DataError: files are damaged or contradict themselves; the message names all errors.
    """
    options = options or DetectionOptions()
    opens, _ = choose_layout(LAYOUTS, kind, options)
    if not Path(root).is_dir():
        raise InputError(f"{root} is not a folder; give the root of the data set")
    return cast(DetectionSource, opens(Path(root), options, split or Split(), look))


def detect_detection(root: Path | str) -> DetectionKind | None:
    """Recognise the layout of the folder `root` by the names of its files; None if none fits."""
    from fewpairs.kinds.detection.layouts import coco_files, label_maps, voc

    root = Path(root)
    if not root.is_dir():
        return None
    folders = label_maps.IMAGES, label_maps.MASKS
    if all((root / name).is_dir() for name in folders) and (root / label_maps.INDEX).is_file():
        return "nuclei-masks"
    if coco_files.coco_files(root, DetectionOptions()):
        return "coco"
    try:
        return "voc" if voc.voc_folders(root, DetectionOptions()) else None
    except InputError:
        return None
