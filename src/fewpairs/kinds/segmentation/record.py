"""Sufficient statistics of one scan, from which every score is computed; they do not depend on batch or empty rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.kaggle import hausdorff_score, slice_dice
from fewpairs.kinds.segmentation.surface import diagonal, hausdorff
from fewpairs.scoring.records import Record
from fewpairs.types import Spacing


@dataclass(frozen=True, slots=True)
class SegmentationRecord(Record):
    """Counts and distances of one scan; tuples have one entry for each class, in the order of `classes`.

    Each class is a binary problem, so a voxel of several classes counts in each of them. Voxels without any class are
    background, in the truth and in the prediction. If classes exclude one another, these are the usual counts of k + 1
    labels.
    """

    what = "scan statistics"
    noun = "scan"
    header = False

    scan: str
    case: str
    """The patient; scans of one case are not independent."""
    classes: tuple[str, ...]
    true_positive: tuple[int, ...]
    """Voxels in truth and prediction."""
    false_positive: tuple[int, ...]
    """Voxels in the prediction only."""
    false_negative: tuple[int, ...]
    """Voxels in the truth only."""
    true_negative: tuple[int, ...]
    """Voxels in neither."""
    background: tuple[int, int, int, int]
    """True positive, false positive, false negative and true negative voxels of the background."""
    diagonal_mm: float
    """Length of the scan's diagonal in mm, which is the distance of a missed class."""
    slice_dice: tuple[float, ...]
    """Sum of the Dice of the slices with the class in truth or prediction."""
    slices: tuple[int, ...]
    """Number of those slices."""
    hd95_mm: tuple[float | None, ...] | None
    """Symmetric 95 % Hausdorff distance: None for a class if either mask is empty, None as a whole if not measured."""
    hausdorff_score: tuple[float, ...] | None
    """Hausdorff part of the Kaggle score, 0 to 1; None if not measured."""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.case, self.scan)

    @property
    def form(self) -> str:
        return "without surface distances" if self.hd95_mm is None else "with surface distances"

    @classmethod
    def _parse(cls, data: Mapping[str, Any], classes: tuple[str, ...]) -> SegmentationRecord:
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in data.items()}
        record = cls(**values)
        for name in cls.stored():
            if (problem := record._problem(name)) is not None:
                raise DataError(f"scan {record.scan!r}: the field {name} {problem}; this is no record of fewpairs")
        return record

    def _problem(self, name: str) -> str | None:
        value = getattr(self, name)
        if name in ("scan", "case"):
            return None if isinstance(value, str) else f"must be text, not {value!r}"
        if name == "diagonal_mm":
            return None if isinstance(value, float | int) else f"must be a number, not {value!r}"
        if value is None and name in ("hd95_mm", "hausdorff_score"):
            return None
        if not isinstance(value, tuple):
            return f"must be a list, not {value!r}"
        expected = 4 if name == "background" else len(self.classes)
        if len(value) != expected:
            return f"has {len(value)} entries instead of {expected}"
        kind = str if name == "classes" else float | int | None if name == "hd95_mm" else float | int
        return None if all(isinstance(entry, kind) for entry in value) else f"holds values of the wrong type: {value}"


def segmentation_record(
    prediction: Tensor | ArrayLike,
    truth: Tensor | ArrayLike,
    spacing: Spacing,
    *,
    scan: str,
    case: str,
    classes: Sequence[str] | None = None,
    surface: bool = True,
    ignored: Tensor | ArrayLike | None = None,
    numbers: Sequence[int] | None = None,
) -> SegmentationRecord:
    """Compute the record of one whole scan.

    `prediction` and `truth` are `[s k H W]` masks, bool or 0/1; `spacing` is in mm (between slices, rows, columns).
    `classes` names the k classes (default "0", "1", ...). `surface=False` leaves out the distances, which take most of
    the time. `ignored` `[s H W]` marks voxels that are not scored: they are taken out of both masks and of all counts.
    `numbers` are those of the slices, if some between them are missing; distances between slices follow them. Raises
    InputError if shapes differ, masks are not binary or the spacing is not positive.
    """
    where = f"scan {scan!r}"
    predicted, true = _binary(prediction, f"the prediction of {where}"), _binary(truth, f"the truth of {where}")
    if predicted.shape != true.shape or predicted.ndim != 4:
        raise InputError(
            f"{where}: prediction and truth must both be [s k H W] masks of one shape, "
            f"got {list(predicted.shape)} and {list(true.shape)}"
        )
    if len(spacing) != 3 or not all(math.isfinite(x) and x > 0 for x in spacing):
        raise InputError(f"{where}: spacing must be three positive distances in mm (slice, row, column), got {spacing}")
    names = tuple(str(j) for j in range(true.shape[1])) if classes is None else tuple(classes)
    if len(names) != true.shape[1]:
        raise InputError(f"{where}: {len(names)} class names ({', '.join(names)}) for {true.shape[1]} mask channels")

    counted = np.ones((true.shape[0], *true.shape[2:]), bool)
    if ignored is not None:
        counted = ~_binary(ignored, f"the ignored voxels of {where}")
        predicted, true = predicted & counted[:, None], true & counted[:, None]

    intersection = (predicted & true).sum(axis=(2, 3), dtype=np.int64)
    area, true_area = (mask.sum(axis=(2, 3), dtype=np.int64) for mask in (predicted, true))
    tp, p, t = (counts.sum(axis=0) for counts in (intersection, area, true_area))
    voxels = int(counted.sum()) if names else 0
    nothing, truly_nothing = ~predicted.any(axis=1) & counted, ~true.any(axis=1) & counted
    both, only, missed = (
        int(np.count_nonzero(mask))
        for mask in (nothing & truly_nothing, nothing & ~truly_nothing, truly_nothing & ~nothing)
    )
    per_slice = [slice_dice(intersection[:, j], area[:, j], true_area[:, j]) for j in range(len(names))]
    pairs = [(predicted[:, j], true[:, j]) for j in range(len(names))] if surface else []
    depth = true.shape[0] if numbers is None else numbers[-1] - numbers[0] + 1
    return SegmentationRecord(
        scan=scan,
        case=case,
        classes=names,
        true_positive=_ints(tp),
        false_positive=_ints(p - tp),
        false_negative=_ints(t - tp),
        true_negative=_ints(voxels - p - t + tp),
        background=(both, only, missed, voxels - both - only - missed),
        diagonal_mm=diagonal((depth, *true.shape[2:]), spacing),
        slice_dice=tuple(total for total, _ in per_slice),
        slices=tuple(number for _, number in per_slice),
        hd95_mm=tuple(hausdorff(a, b, spacing, numbers=numbers) if a.any() and b.any() else None for a, b in pairs)
        if surface
        else None,
        hausdorff_score=tuple(hausdorff_score(a, b, numbers) for a, b in pairs) if surface else None,
    )


def _binary(mask: Tensor | ArrayLike, what: str) -> NDArray[np.bool_]:
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise InputError(f"{what} must hold only 0 and 1, got values from {array.min()} to {array.max()}")
    return array.astype(bool, copy=False)


def _ints(counts: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(count) for count in counts)
