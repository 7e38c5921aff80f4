"""A plain folder of pictures and a folder of masks with the same names: label numbers, or one colour a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.files import (
    CasePattern,
    fail_on,
    files_by_stem,
    left_out_notes,
    listed,
    other_files,
    pair_files,
    visible_files,
    visible_folders,
)
from fewpairs.data.notes import Note, gathered
from fewpairs.data.pictures import (
    SUFFIXES,
    mask_files,
    read_colours,
    read_header,
    read_indices,
    read_mask_header,
    turned_hint,
    turned_notes,
)
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import BitMask, from_labels
from fewpairs.kinds.segmentation.label_values import Labels, LabelValues, Values, in_order
from fewpairs.kinds.segmentation.picture_stacks import MILLIMETRE, STACK, check_spacing, read_slices, stack_ids
from fewpairs.kinds.segmentation.source import Json, ScanFiles

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

BLACK: Colour = (0, 0, 0)


class ImageFolder:
    """Pictures in `images` and masks of the same names (any suffix) in `masks`; each picture is a scan of one slice, or
    of its pages if it is a TIFF of several.

    If grey and RGB pictures are mixed, the grey ones are repeated to three channels.

    Args:
        classes: names of the label numbers 1, 2, ... in order (0 is background), or a mapping from names to numbers,
            such as `{a: 85, b: 170}`. `ignore` names pixels that are neither trained on nor scored.
        colours: for colour-coded masks, the (red, green, blue) of every class; black is background.
        nonzero: all values except 0 are the single class, as in masks with instance numbers or with 0 and 255.
        case_pattern: regular expression with one group that finds the case (patient) in a file's name without suffix;
            by default every picture is a case of its own.
        spacing: mm between slices, rows and columns of all pictures, which the files do not record; None takes 1 mm.
    """

    def __init__(
        self,
        images: Path | str,
        masks: Path | str,
        *,
        classes: Sequence[str] | Labels,
        colours: Mapping[str, Sequence[int]] | None = None,
        nonzero: bool = False,
        case_pattern: str | None = None,
        spacing: Sequence[float] | None = None,
    ) -> None:
        self.images, self.masks = Path(images), Path(masks)
        self.root = self.images.parent
        self._labels = LabelValues.of(classes)
        self.classes, self.ignores = self._labels.classes, bool(self._labels.ignored)
        if (nonzero or colours is not None) and (self.ignores or not in_order(self._labels.values)):
            raise InputError(
                f"classes: masks that are read by colours= or nonzero=True have no label numbers ({self._labels}); "
                "give names alone"
            )
        if nonzero and (len(self.classes) != 1 or colours is not None):
            raise InputError("nonzero=True reads masks of a single class and without colours")
        self.nonzero = nonzero
        self.colours = None if colours is None else _check_colours(colours, self.classes)
        self._case = CasePattern(case_pattern)
        self.spacing = None if spacing is None else check_spacing(spacing)
        self._channels: int | None = None
        self.notes: tuple[str, ...] = ()

    @property
    def values(self) -> Values | None:
        """The label values of each class; None if masks are read by colours or as zero and anything else."""
        return None if self.nonzero or self.colours is not None else self._labels.values

    @property
    def channels(self) -> int:
        """1 if all pictures are grey, else 3."""
        if self._channels is None:
            self._channels = max(read_header(image, stack=True).channels for image, _ in self._pairs())
        return self._channels

    @property
    def options(self) -> dict[str, Json]:
        colours: Json = None if self.colours is None else {name: list(rgb) for name, rgb in self.colours.items()}
        return {
            "kind": "folder",
            "classes": list(self.classes) if in_order(self._labels.values) and not self.ignores else str(self._labels),
            "colours": colours,
            "nonzero": self.nonzero,
            "case_pattern": self._case.pattern,
            "folders": [str(self.images.resolve()), str(self.masks.resolve())],
            **({} if self.spacing is None else {"spacing": list(self.spacing)}),
        }

    @property
    def shared_files(self) -> tuple[Path, ...]:
        return ()

    def scans(self) -> list[ScanFiles]:
        scans, problems, most = [], [], 1
        turned: dict[str, int] = {}
        stacks: dict[str, list[Note]] = {}
        for image, mask in self._pairs():
            try:
                header, mask_header = read_header(image, stack=True), read_mask_header(mask, stack=True)
                mask_size = mask_header.size
                if header.pages != mask_header.pages:
                    pages = f"{image} has {header.pages} pages, but its mask {mask} has {mask_header.pages}"
                    raise DataError(f"{pages}; each slice of a stack needs its mask")
                if mask_size != (size := header.size):
                    raise DataError(
                        f"{image} has {size[0]} rows of {size[1]} pixels, but its mask "
                        f"{mask} has {mask_size[0]} of {mask_size[1]}{turned_hint(header, mask_size)}"
                    )
                ids = (image.stem,) if header.pages == 1 else stack_ids(image.stem, header.pages)
                if header.pages > 1 and self.spacing is None:
                    stacks[image.name] = [STACK]
                scans.append(
                    ScanFiles(image.stem, self._case(image.stem), (image, mask), ids, size, self.spacing or MILLIMETRE)
                )
                most = max(most, header.channels)
                if header.orientation != 1:
                    turned[image.name] = header.orientation
            except DataError as error:
                problems.append(str(error))
        fail_on(problems, "fix these files, or remove each image together with its mask")
        others = [path for folder in (self.images, self.masks) for path in other_files(folder, SUFFIXES)]
        inside = [f"{folder.name}/{name}" for folder in (self.images, self.masks) for name in visible_folders(folder)]
        folders = (f"left out folders, of which no pictures are read: {listed(inside)}",) if inside else ()
        self._channels, self.notes = most, (*turned_notes(turned), *gathered(stacks), *left_out_notes(others), *folders)
        return scans

    def read(self, scan: ScanFiles) -> tuple[NDArray[Any], BitMask]:
        image_path, mask_path = scan.files
        pages = range(len(scan.slice_ids))
        images = read_slices(image_path, len(pages))
        read_mask = self._read_colours if self.colours is not None else self._read_numbers
        masks = [read_mask(mask_path, page) for page in pages]
        for mask in masks:
            if mask.shape != images.shape[2:]:
                raise DataError(
                    f"{image_path} has the size {images.shape[2:]}, but its mask {mask_path} has {mask.shape}"
                )
        if images.shape[1] < self.channels:
            images = np.repeat(images, self.channels, axis=1)
        return images, np.stack(masks)

    def _read_numbers(self, path: Path, page: int) -> BitMask:
        numbers = read_indices(path, page)
        if self.nonzero:
            return from_labels(numbers != 0, ((1,),))
        return self._labels.mask(
            numbers,
            str(path),
            "name them with their values (classes=a=85,b=170); for masks of one class that hold 0 and anything else, "
            "say nonzero=True (--nonzero)",
        )

    def _read_colours(self, path: Path, page: int) -> BitMask:
        red, green, blue = read_colours(path, page).astype(np.uint32)
        codes = (red << 16) | (green << 8) | blue
        colours = [(r << 16) | (g << 8) | b for r, g, b in (self.colours or {}).values()]
        unknown = [int(code) for code in np.unique(codes) if code and int(code) not in colours]
        if unknown:
            shown = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in unknown[:5])
            raise DataError(
                f"{path} holds {len(unknown)} colours that are neither black nor of a class, as {shown}; "
                "fix smoothed or lossy masks first"
            )
        return from_labels(codes, tuple((code,) for code in colours))

    def _pairs(self) -> list[tuple[Path, Path]]:
        images, masks = files_by_stem(visible_files(self.images, SUFFIXES)), mask_files(self.masks)
        if not images:
            raise DataError(f"{self.images} holds no pictures (*{', *'.join(SUFFIXES)}) directly in it")
        return pair_files((self.images, images), (self.masks, masks), "mask")


def _check_colours(colours: Mapping[str, Sequence[int]], classes: tuple[str, ...]) -> dict[str, Colour]:
    missing = [name for name in classes if name not in colours]
    extra = [name for name in colours if name not in classes]
    if missing or extra:
        raise InputError(f"colours= must name exactly the classes {list(classes)}: missing {missing}, unknown {extra}")
    checked: dict[str, Colour] = {}
    for name in classes:
        rgb = tuple(colours[name])
        if len(rgb) != 3 or any(isinstance(v, bool) or not isinstance(v, int) or not 0 <= v <= 255 for v in rgb):
            raise InputError(f"the colour of {name!r} is {list(rgb)}: give red, green, blue from 0 to 255")
        if rgb == BLACK or rgb in checked.values():
            raise InputError(f"the colour {list(rgb)} of {name!r} is background (black) or used twice")
        checked[name] = (rgb[0], rgb[1], rgb[2])
    return checked
