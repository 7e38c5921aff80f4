"""The UW-Madison GI Tract layout (Kaggle, 2022): 16-bit PNG slices, and a table of run-length encoded masks.

    train.csv                    id,class,segmentation: a row for each slice and class; absent classes have an empty one
    train/case{C}/case{C}_day{D}/scans/slice_{SSSS}_{W}_{H}_{sx}_{sy}.png

The *width* comes first in a file name; `sx` and `sy` are pixel width and height in mm. Slices are 3 mm thick.
Masks of different classes may overlap. Slices may be missing, as in a partial download: notes count them.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.files import fail_on, listed
from fewpairs.data.pictures import read_picture
from fewpairs.errors import DataError, InputError, nearest
from fewpairs.kinds.segmentation.bitmask import BitMask, bitmask_dtype
from fewpairs.kinds.segmentation.rle import rle_decode
from fewpairs.kinds.segmentation.source import Json, ScanFiles
from fewpairs.types import Size, Spacing

CLASSES = ("large_bowel", "small_bowel", "stomach")
SLICE_THICKNESS = 3.0

ORGANIZER_EXCLUSIONS = frozenset(
    {
        "case7_day0", "case9_day27", "case13_day0", "case34_day20", "case43_day18", "case43_day26",
        "case61_day14", "case81_day30", "case83_day11", "case124_day19", "case138_day0", "case144_day15",
    }
)  # fmt: skip
"""Scans whose labels are faulty according to the organizers; five of the twelve are not in the training set."""

_CASE = re.compile(r"case(\d+)")
_SCAN = re.compile(r"(case\d+)_day(\d+)")
_SLICE = re.compile(r"slice_(\d{4})_([1-9]\d*)_([1-9]\d*)_(\d+\.\d{2})_(\d+\.\d{2})\.png")
_ID = re.compile(r"case\d+_day\d+_slice_\d{4}")
_GRAMMAR = "slice_{SSSS}_{width}_{height}_{mm}_{mm}.png, as in slice_0001_266_266_1.50_1.50.png"
_HEADER = ["id", "class", "segmentation"]


@dataclass(frozen=True, slots=True)
class SliceName:
    """The fields of a slice's file name."""

    number: int
    size: Size
    """Height and width in pixels, in this order (the name holds the width first)."""
    spacing: tuple[float, float]
    """Distances between rows and between columns in mm."""

    @classmethod
    def parse(cls, name: str) -> SliceName | None:
        """Parse the fields of `name`; None if it does not follow the grammar."""
        match = _SLICE.fullmatch(name)
        if match is None:
            return None
        number, width, height = (int(match[i]) for i in (1, 2, 3))
        across, down = float(match[4]), float(match[5])
        if number < 1 or across <= 0 or down <= 0:
            return None
        return cls(number, (height, width), (down, across))

    def __str__(self) -> str:
        (height, width), (down, across) = self.size, self.spacing
        return f"slice_{self.number:04d}_{width}_{height}_{across:.2f}_{down:.2f}.png"


def slice_id(path: Path) -> str | None:
    """Return the id `case{C}_day{D}_slice_{SSSS}` of a slice file in the layout; None for any other path."""
    name = SliceName.parse(path.name)
    if name is None or path.parent.name != "scans" or not _SCAN.fullmatch(path.parent.parent.name):
        return None
    return f"{path.parent.parent.name}_slice_{name.number:04d}"


def slice_numbers(files: Sequence[Path]) -> tuple[int, ...] | None:
    """Return the numbers of the slices of one scan if some between them are missing; None if they lie side by side."""
    names = [SliceName.parse(path.name) for path in files]
    numbers = tuple(name.number for name in names if name is not None)
    return numbers if len(numbers) == len(files) < numbers[-1] - numbers[0] + 1 else None


class UWMadison:
    """A data set in the UW-Madison GI Tract layout.

    Args:
        root: folder with `train.csv` and `train/`.
        exclude: scans (`case{C}_day{D}`) to leave out, whether present or not; the organizers' list by default.
        missing_rows: treatment of an image without a row in `train.csv` for a class: `error` (its truth is unknown), or
            `empty` for tables that leave out absent classes.
        thickness: distance between slices in mm, which the files do not record.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        exclude: Collection[str] = ORGANIZER_EXCLUSIONS,
        missing_rows: Literal["error", "empty"] = "error",
        thickness: float = SLICE_THICKNESS,
    ) -> None:
        self.root = Path(root)
        self.exclude = frozenset(exclude)
        self.missing_rows = missing_rows
        self.thickness = float(thickness)
        if missing_rows not in ("error", "empty"):
            raise InputError(f"missing_rows={missing_rows!r}: allowed are 'error' and 'empty'")
        if not self.thickness > 0:
            raise InputError(f"thickness={thickness}: the distance between slices is a positive number of mm")
        wrong = sorted(name for name in self.exclude if not _SCAN.fullmatch(name))
        if wrong:
            raise InputError(f"exclude={wrong}: scans are named case{{C}}_day{{D}}, as in case7_day0")
        self.classes, self.values, self.ignores = CLASSES, None, False
        self.channels = 1
        self.notes: tuple[str, ...] = ()

    @property
    def table(self) -> Path:
        """The table of masks."""
        return self.root / "train.csv"

    @property
    def options(self) -> dict[str, Json]:
        return {
            "kind": "uw-madison",
            "exclude": [*sorted(self.exclude)],
            "missing_rows": self.missing_rows,
            "thickness": self.thickness,
        }

    @property
    def shared_files(self) -> tuple[Path, ...]:
        return (self.table,)

    def scans(self) -> list[ScanFiles]:
        folder = self.root / "train"
        if not folder.is_dir() or not self.table.is_file():
            raise DataError(
                f"{self.root} is not in the UW-Madison layout: it needs the folder train/ and the file train.csv"
            )
        problems: list[str] = []
        scans = [
            scan
            for case in _folders(folder, _CASE, "case{C}", problems)
            for day in _folders(case, _SCAN, f"{case.name}_day{{D}}", problems)
            if day.name not in self.exclude and (scan := self._scan(case.name, day, problems)) is not None
        ]
        fail_on(problems, "rename, fix or remove what does not follow the layout")
        self.notes = ()
        if gaps := {scan.id: missing for scan in scans if (missing := _missing(scan))}:
            shown = listed([f"{scan} ({count})" for scan, count in gaps.items()], 5)
            self.notes += (
                f"{len(gaps)} of {len(scans)} scans lack {sum(gaps.values())} slices between their first and last: "
                f"{shown}; neighbours and distances go by slice number",
            )
        if not scans:
            raise DataError(f"{folder} holds no scans (expected case{{C}}/case{{C}}_day{{D}}/scans/*.png)")
        self._check_rows(scans)
        return sorted(scans, key=lambda scan: [int(number) for number in re.findall(r"\d+", scan.id)])

    def read(self, scan: ScanFiles) -> tuple[NDArray[Any], BitMask]:
        images = [self._read_slice(path, scan.size) for path in scan.files]
        image = np.stack(images) if len({image.dtype for image in images}) == 1 else np.stack(images).astype(np.uint16)
        mask = np.zeros((len(images), *scan.size), bitmask_dtype(len(CLASSES)))
        for position, name in enumerate(scan.slice_ids):
            for label, text in self._rows.get(name, {}).items():
                if text:
                    where = f"{self.table}, id {name}, class {label}"
                    bit = mask.dtype.type(1 << CLASSES.index(label))
                    mask[position] |= np.where(rle_decode(text, scan.size, where=where), bit, mask.dtype.type(0))
        return image, mask

    def _scan(self, case: str, day: Path, problems: list[str]) -> ScanFiles | None:
        folder = day / "scans"
        if not day.name.startswith(f"{case}_day"):
            problems.append(f"{day} lies in the folder of {case}")
            return None
        if not folder.is_dir():
            problems.append(f"{folder} is missing")
            return None
        found: dict[int, tuple[SliceName, Path]] = {}
        for path in sorted(Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")):
            name = SliceName.parse(path.name)
            if name is None:
                problems.append(f"{path} does not follow the file-name grammar {_GRAMMAR}")
            elif name.number in found:
                problems.append(f"{path} repeats slice {name.number:04d} of {found[name.number][1].name}")
            else:
                found[name.number] = (name, path)
        if not found:
            problems.append(f"{folder} holds no slices")
            return None
        numbers = sorted(found)
        first, first_path = found[numbers[0]]
        for number in numbers:
            name, path = found[number]
            if (name.size, name.spacing) != (first.size, first.spacing):
                problems.append(f"{path} differs in size or spacing from {first_path.name}; a scan has one of each")
        spacing: Spacing = (self.thickness, *first.spacing)
        ids = tuple(f"{day.name}_slice_{number:04d}" for number in numbers)
        files = tuple(found[number][1] for number in numbers)
        return ScanFiles(day.name, case, files, ids, first.size, spacing, slice_numbers(files))

    def _read_slice(self, path: Path, size: Size) -> NDArray[Any]:
        image = read_picture(path)
        if image.shape[0] != 1 or image.dtype not in (np.uint8, np.uint16):
            raise DataError(f"{path} is not a grey 16-bit (or 8-bit) PNG: {image.shape[0]} channels of {image.dtype}")
        if image.shape[1:] != size:
            raise DataError(
                f"{path} is {image.shape[2]} wide and {image.shape[1]} high, but its name says {size[1]} wide and "
                f"{size[0]} high (the width comes first)"
            )
        return image

    @cached_property
    def _rows(self) -> dict[str, dict[str, str]]:
        """Read the run-length texts by slice id and class."""
        rows: dict[str, dict[str, str]] = {}
        problems: list[str] = []
        try:
            with self.table.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file)
                header = next(reader, None)
                if header != _HEADER:
                    raise DataError(f"{self.table} begins with {header}, not with the header {','.join(_HEADER)}")
                for line, row in enumerate(reader, start=2):
                    if len(row) != 3:
                        problems.append(f"{self.table}, line {line}: {len(row)} fields instead of {len(_HEADER)}")
                        continue
                    name, label, text = row
                    if label not in CLASSES:
                        problems.append(
                            f"{self.table}, line {line}, id {name}: unknown class {label!r}; {nearest(label, CLASSES)}"
                        )
                    elif label in rows.setdefault(name, {}):
                        problems.append(f"{self.table}, line {line}: a second row for id {name}, class {label}")
                    else:
                        rows[name][label] = text
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.table} is not a readable CSV file ({error})") from None
        fail_on(problems, f"fix {self.table.name}")
        return rows

    def _check_rows(self, scans: list[ScanFiles]) -> None:
        known = {name for scan in scans for name in scan.slice_ids}
        alone = [name for name in self._rows if name not in known and name.rpartition("_slice_")[0] not in self.exclude]
        problems = [f"{self.table}: {name!r} is no id of a slice" for name in alone if not _ID.fullmatch(name)]
        fail_on(problems, "ids are case{C}_day{D}_slice_{SSSS}, as in case7_day0_slice_0001")
        if alone:
            labelled = sum(any(self._rows[name].values()) for name in alone)
            self.notes += (
                f"{self.table.name} has rows for {len(alone)} slices without an image ({labelled} with a class), which "
                f"are left out: {listed(alone, 3)}",
            )
        if self.missing_rows == "empty":
            return
        for scan in scans:
            for name, path in zip(scan.slice_ids, scan.files, strict=True):
                missing = [label for label in CLASSES if label not in self._rows.get(name, {})]
                if missing:
                    problems.append(f"{path} has no row in {self.table.name} for id {name}, class {', '.join(missing)}")
        fail_on(
            problems,
            "an absent class needs a row with an empty segmentation; if the table leaves such rows out, "
            "say so with missing_rows='empty'",
        )


def _missing(scan: ScanFiles) -> int:
    return 0 if scan.numbers is None else scan.numbers[-1] - scan.numbers[0] + 1 - len(scan.numbers)


def _folders(parent: Path, grammar: re.Pattern[str], wanted: str, problems: list[str]) -> list[Path]:
    folders = []
    for entry in sorted(os.scandir(parent), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and grammar.fullmatch(entry.name):
            folders.append(Path(entry.path))
        else:
            problems.append(f"{entry.path} is not a folder named {wanted}")
    return folders
