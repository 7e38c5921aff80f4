"""How far what is found today may differ from what version 0.1.0 wrote."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

MAPS = 0.005
"""Share of the pixels of a label map that may differ: another processor adds up in another order, and a logit close to
its threshold then falls on the other side."""
COUNT = 8
"""By how much a number of pixels may differ, for the same reason: half a percent of the smallest pictures here."""


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def same(found: Any, expected: Any, *, rel: float, absolute: float = 0.0, where: str = "") -> None:
    """Equal words, whole numbers and shapes; floats within a tolerance, NaN as None."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        assert list(found) == list(expected), where
        for key, value in expected.items():
            same(found[key], value, rel=rel, absolute=absolute, where=f"{where}/{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list | tuple), where
        assert len(found) == len(expected), where
        for place, value in enumerate(expected):
            same(found[place], value, rel=rel, absolute=absolute, where=f"{where}/{place}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=rel, abs=absolute), where
    else:
        found = None if isinstance(found, float) and np.isnan(found) else found
        assert (type(found), found) == (type(expected), expected), where


def alike(found: Any, expected: Any) -> None:
    """What another processor may compute: floats within 1e-4 of each other, or 1e-5."""
    same(found, expected, rel=1e-4, absolute=1e-5)


def masked(text: str) -> str:
    """A table without the digits of its numbers."""
    return re.sub(r"[ ─━]+", " ", re.sub(r"\d+\.\d+", "#", text))


def records_alike(kind: str, found: list[Any], kept: list[Any]) -> None:
    """Records of the same images; pixels may be counted a little differently, see `COUNT`."""
    assert len(found) == len(kept)
    for one, other in zip(found, kept, strict=True):
        if kind == "semantic" and "pairs" in other:
            assert (one["id"], one["case"]) == (other["id"], other["case"])
            counts = [{(true, said): count for true, said, count in record["pairs"]} for record in (one, other)]
            for pair in counts[0].keys() | counts[1].keys():
                assert abs(counts[0].get(pair, 0) - counts[1].get(pair, 0)) <= COUNT
        elif kind == "segmentation":
            for key, value in other.items():
                if key in ("scan", "case", "classes", "slices"):
                    assert one[key] == value
                elif key in ("true_positive", "false_positive", "false_negative", "true_negative", "background"):
                    assert np.abs(np.subtract(one[key], value)).max() <= COUNT, key
        elif kind == "detection" and "masks" in other:
            assert one.keys() == other.keys()
            masks_alike(one.pop("masks"), other.pop("masks"), other["size"])
            alike(one, other)
        else:
            alike(one, other)


def masks_alike(found: Any, kept: Any, size: list[int]) -> None:
    """Packed runs, at any depth, of nearly the same pixels."""
    if isinstance(kept, str):
        one, other = (coco.decode({"size": size, "counts": runs.encode()}) for runs in (found, kept))
        assert np.mean(one != other) <= MAPS
    elif isinstance(kept, dict):
        assert found.keys() == kept.keys()
        for key, value in kept.items():
            masks_alike(found[key], value, size)
    elif isinstance(kept, list):
        assert len(found) == len(kept)
        for one, other in zip(found, kept, strict=True):
            masks_alike(one, other, size)
    else:
        assert found == kept


def printed_alike(found: Any, expected: Any, key: str = "") -> None:
    """What a command printed, where pixels may be counted a little differently."""
    if isinstance(expected, dict):
        assert set(found) - {"notes"} == set(expected)  # the notes of scans came later
        for name, value in expected.items():
            inside = key if key in ("voxels", "pixels", "millilitres", "objects") else name
            printed_alike(found[name], value, inside)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            printed_alike(one, other, key)
    elif key in ("voxels", "pixels", "overlapping"):
        assert abs(found - expected) <= COUNT
    elif key == "millilitres" and expected is not None:
        assert found == pytest.approx(expected, rel=0.1, abs=0.05)
    else:
        alike(found, expected)


def file_alike(found: Path, kept: Path) -> None:
    """A written file like the one that was kept."""
    if kept.suffix == ".png":
        with Image.open(found) as one, Image.open(kept) as other:
            assert (one.mode, one.size, one.getpalette()) == (other.mode, other.size, other.getpalette())
            assert np.mean(np.asarray(one) != np.asarray(other)) <= MAPS
    elif kept.suffix == ".gz":
        first, second = (nibabel.load(path) for path in (found, kept))
        assert np.array_equal(first.affine, second.affine)
        voxels = [np.asarray(image.dataobj) for image in (first, second)]
        assert (voxels[0].dtype, voxels[0].shape) == (voxels[1].dtype, voxels[1].shape)
        assert np.mean(voxels[0] != voxels[1]) <= MAPS
    elif kept.name == "detections.json":
        detections_alike(read(found), read(kept))
    elif kept.suffix == ".json":
        printed_alike(read(found), read(kept))
    else:
        rows = [list(csv.reader(path.read_text(encoding="utf-8").splitlines())) for path in (found, kept)]
        assert rows[0][0] == rows[1][0]
        assert len(rows[0]) == len(rows[1])
        for one, other in zip(*rows, strict=True):
            row_alike(one, other, runs="predicted" in rows[1][0])


def row_alike(found: list[str], kept: list[str], *, runs: bool) -> None:
    """A row of words and numbers; with `runs`, the last entry holds starts and lengths of runs of pixels."""
    if runs and kept[-1] != "predicted":
        assert found[:-1] == kept[:-1]
        one, other = (pixels(row[-1]) for row in (found, kept))
        assert len(one ^ other) <= COUNT
        return
    for one, other in zip(found, kept, strict=True):
        try:
            value = float(other)
        except ValueError:
            assert one == other
        else:
            assert float(one) == pytest.approx(value, rel=1e-3, abs=1e-5)


def pixels(runs: str) -> set[int]:
    numbers = [int(word) for word in runs.split()]
    return {
        place
        for start, length in zip(numbers[::2], numbers[1::2], strict=True)
        for place in range(start, start + length)
    }


def detections_alike(found: list[Any], kept: list[Any]) -> None:
    """The same objects in each image, in any order where their scores are equal."""
    assert len(found) == len(kept)
    left = list(found)
    for one in kept:
        rivals = [r for r in left if (r["image_id"], r["category_id"]) == (one["image_id"], one["category_id"])]
        assert rivals, one
        nearest = min(rivals, key=lambda rival: np.abs(np.subtract(rival["bbox"], one["bbox"])).sum())
        left.remove(nearest)
        assert nearest.keys() == one.keys()
        assert nearest["bbox"] == pytest.approx(one["bbox"], rel=1e-4, abs=1e-3)
        assert nearest["score"] == pytest.approx(one["score"], rel=1e-4)
        size = one["segmentation"]["size"]
        masks_alike(nearest["segmentation"]["counts"], one["segmentation"]["counts"], size)
