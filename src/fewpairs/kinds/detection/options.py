"""The options of detection layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fewpairs.errors import InputError

Difficult = Literal["ignore", "keep", "drop"]


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """The options of all layouts; None leaves the choice to the layout.

    Attributes:
        classes: names in the order of the labels; objects of other classes are left out and counted.
        train, validation, test: the source of the part: the JSON file below the root (coco), the list in
            `ImageSets/Main` without `.txt` (voc), the value in the column `split` of `index.csv` (nuclei-masks). If one
            is given, only the given parts exist.
        images: folder of the images below the root; for coco, `{part}` in it stands for the end of the JSON's name.
        annotations: folder of the XML files (voc) or label maps (nuclei-masks) below the root.
        difficult: for voc, difficult objects are ignored in scoring and training (`ignore`), are used like others
            (`keep`), or are left out (`drop`).
        first_pixel: for voc, the number of the first column and row. With 0 boxes are edges. With 1 pixels are counted
            from 1 and the last one belongs to the box, as in the VOC challenges. None uses 1 for files that name a VOC
            challenge in `source/database`, otherwise 0.
        on_error: `stop` raises an error that names all contradictions; `skip` leaves out, counts and names them.
    """

    classes: tuple[str, ...] | None = None
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    images: str | None = None
    annotations: str | None = None
    difficult: Difficult | None = None
    first_pixel: Literal[0, 1] | None = None
    on_error: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))
            if not self.classes or len(set(self.classes)) != len(self.classes):
                raise InputError(f"classes={list(self.classes)}: give different names, at least one")
        for name, allowed in (("difficult", (None, *get_args(Difficult))), ("first_pixel", (None, 0, 1))):
            if getattr(self, name) not in allowed:
                shown = ", ".join(str(value) for value in allowed if value is not None)
                raise InputError(f"{name}={getattr(self, name)!r}: allowed are {shown}")
        if self.on_error not in ("stop", "skip"):
            raise InputError(f"on_error={self.on_error!r}: allowed are stop and skip")
