"""Synthetic scans in the UW-Madison GI Tract layout, for demonstrations and tests without patient data."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fewpairs.data.progress import track
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.layouts.uw_madison import CLASSES, ORGANIZER_EXCLUSIONS, SliceName
from fewpairs.kinds.segmentation.phantom.anatomy import Anatomy, Scanner
from fewpairs.kinds.segmentation.rle import rle_encode
from fewpairs.types import Size

Rng = np.random.Generator
Row = tuple[str, str, str]

_UNIT = 200.0
_KINDS: tuple[tuple[Size, float, int], ...] = (
    ((266, 266), 1.50, 144),
    ((310, 360), 1.50, 144),
    ((276, 276), 1.63, 80),
    ((234, 234), 1.50, 144),
)
"""Size (h, w), pixel width in mm and number of slices of the data set's four kinds of scans."""
_KIND_SHARES = np.array([180, 78, 15, 1]) / 274
_DAY_SHARES = np.array([9, 8, 45, 2, 20, 1]) / 85
"""Shares of cases with 1 to 6 scans."""
_LAST_CASE, _LAST_DAY = 156, 39


def make_phantom(
    root: Path | str,
    *,
    cases: int,
    seed: int = 0,
    scale: float = 1.0,
    days: int | None = None,
    slices: int | None = None,
    progress: bool = False,
) -> Path:
    """Write `cases` synthetic cases to the new folder `root` and return it; the same arguments give the same pixels.

    Sizes, spacings, slices per scan and scans per case have the frequencies of the real data; 16-bit slices vary in
    gain; about 57 % of them show no organ. Three overlapping, wavy ellipsoids without gaps along z are labelled: large
    bowel, small bowel, stomach. Other bodies of equal brightness (lungs, liver, heart, spleen, kidneys, bladder and
    small blobs) are not, so that a model must learn position and surroundings.

    Args:
        scale: factor on height and width; the pixel width changes inversely, so a scan covers the same area.
        days: scans per case; 1 to 6 by default, as in the real data.
        slices: slices per scan. Fewer slices are further apart, which the layout cannot record.

    Raises:
        InputError: a number is out of its range.
        DataError: `root` exists and is not empty, or cannot be written. No partial data is left.
    """
    root = Path(root)
    _check(cases, scale, days, slices)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} exists and is not an empty folder; phantom data needs a new one")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix=".phantom-"))
    except OSError as error:
        raise DataError(f"cannot write to {root.parent}: {error.strerror or error}") from error
    try:
        _write(temporary, cases, seed, scale, days, slices, progress)
        temporary.chmod(0o755)
        temporary.rename(root)
    except OSError as error:
        raise DataError(f"cannot write {root}: {error.strerror or error}; nothing was left there") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _check(cases: int, scale: float, days: int | None, slices: int | None) -> None:
    if not 1 <= cases <= _LAST_CASE:
        raise InputError(f"cases={cases}: give 1 to {_LAST_CASE}")
    if not 0.1 <= scale <= 4:
        raise InputError(f"scale={scale}: give a factor from 0.1 to 4")
    if days is not None and not 1 <= days <= _LAST_DAY + 1:
        raise InputError(f"days={days}: give 1 to {_LAST_DAY + 1}")
    if slices is not None and not 1 <= slices <= 9999:
        raise InputError(f"slices={slices}: give 1 to 9999")


def _write(
    root: Path, cases: int, seed: int, scale: float, days: int | None, slices: int | None, progress: bool
) -> None:
    rng = np.random.default_rng([seed, 0])
    numbers = np.sort(rng.choice(np.arange(1, _LAST_CASE + 1), cases, replace=False)).tolist()
    kinds = _kinds(cases, rng)
    with (root / "train.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "class", "segmentation"])
        for order, case in track(list(enumerate(numbers)), "making phantom cases", enabled=progress):
            case_rng = np.random.default_rng([seed, 1, case])
            anatomy = Anatomy.draw(case_rng)
            count = days or int(case_rng.choice(len(_DAY_SHARES), p=_DAY_SHARES)) + 1
            allowed = [day for day in range(_LAST_DAY + 1) if f"case{case}_day{day}" not in ORGANIZER_EXCLUSIONS]
            for day in np.sort(case_rng.choice(allowed, min(count, len(allowed)), replace=False)).tolist():
                kind = kinds[order] if case_rng.random() < 0.9 else int(case_rng.choice(len(_KINDS), p=_KIND_SHARES))
                day_rng = np.random.default_rng([seed, 2, case, day])
                folder = root / "train" / f"case{case}" / f"case{case}_day{day}" / "scans"
                table.writerows(_write_scan(folder, kind, scale, slices, anatomy, day_rng))
    (root / "sample_submission.csv").write_text("id,class,predicted\n", encoding="utf-8")


def _kinds(cases: int, rng: np.random.Generator) -> list[int]:
    """Draw the main kind of each case with the real frequencies; from 8 cases on each of the four occurs."""
    kinds = rng.choice(len(_KINDS), cases, p=_KIND_SHARES)
    if cases >= 8:
        kinds[:4] = range(4)
    return [int(kind) for kind in rng.permutation(kinds)]


def _write_scan(folder: Path, kind: int, scale: float, slices: int | None, anatomy: Anatomy, rng: Rng) -> list[Row]:
    """Write the slices of one scan to `folder` and return its rows of `train.csv`."""
    (full_height, full_width), spacing, usual = _KINDS[kind]
    height, width, count = round(full_height * scale), round(full_width * scale), slices or usual
    down, across = spacing * full_height / height, spacing * full_width / width
    folder.mkdir(parents=True)
    rows: list[Row] = []
    x = ((np.arange(width, dtype=np.float32) - (width - 1) / 2) * across / _UNIT)[None, :]
    y = ((np.arange(height, dtype=np.float32) - (height - 1) / 2) * down / _UNIT)[:, None]
    scanner = Scanner(anatomy.on_another_day(rng), x, y, rng)
    for number in range(1, count + 1):
        image, masks = scanner.take((number - 0.5) / count)
        name = SliceName(number, (height, width), (down, across))
        Image.fromarray(image).save(folder / str(name), compress_level=1)
        for label, mask in zip(CLASSES, masks, strict=True):
            rows.append((f"{folder.parent.name}_slice_{number:04d}", label, rle_encode(mask)))
    return rows
