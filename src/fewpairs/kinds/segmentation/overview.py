"""What is in a data set: counts, sizes, classes, overlaps, and every scan that cannot be read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from fewpairs.data.progress import track
from fewpairs.errors import DataError
from fewpairs.kinds.segmentation.source import Source


@dataclass
class Inspection:
    """Counts over all scans that can be read."""

    classes: tuple[str, ...]
    channels: int
    scans: int = 0
    cases: set[str] = field(default_factory=set)
    slices: int = 0
    empty_slices: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    """Slices by `height x width`."""
    spacings: Counter[str] = field(default_factory=Counter)
    """Scans by mm between slices, rows and columns."""
    dtypes: Counter[str] = field(default_factory=Counter)
    """Scans by the stored type of their voxels."""
    lowest: float = float("inf")
    highest: float = float("-inf")
    voxels: list[int] = field(default_factory=list)
    """Voxels of every class."""
    class_slices: list[int] = field(default_factory=list)
    """Slices that hold the class."""
    all_voxels: int = 0
    overlap_voxels: int = 0
    """Voxels of two or more classes."""
    notes: tuple[str, ...] = ()
    """What is odd and does no harm."""
    errors: list[str] = field(default_factory=list)
    """One message a scan that cannot be read."""

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "classes": list(self.classes),
            "channels": self.channels,
            "scans": self.scans,
            "cases": len(self.cases),
            "slices": self.slices,
            "empty_slices": self.empty_slices,
            "sizes": dict(self.sizes),
            "spacings_mm": dict(self.spacings),
            "dtypes": dict(self.dtypes),
            "intensities": [self.lowest, self.highest] if self.scans else None,
            "voxels": dict(zip(self.classes, self.voxels, strict=True)),
            "class_slices": dict(zip(self.classes, self.class_slices, strict=True)),
            "all_voxels": self.all_voxels,
            "overlap_voxels": self.overlap_voxels,
            "notes": list(self.notes),
            "errors": self.errors,
        }


def inspect_source(source: Source, *, progress: bool = True) -> Inspection:
    """Read every scan of `source` once and count; a scan that cannot be read becomes an entry of `errors`.

    Raises:
        DataError: the layout itself is wrong, so that the scans are not even known.
    """
    scans = source.scans()
    classes = len(source.classes)
    empty = [0] * classes
    found = Inspection(source.classes, source.channels, voxels=empty, class_slices=[*empty], notes=source.notes)
    for scan in track(scans, "reading scans", enabled=progress):
        try:
            image, mask = source.read(scan)
        except DataError as error:
            found.errors.append(f"{scan.id}: {error}")
            continue
        found.scans += 1
        found.cases.add(scan.case)
        found.slices += len(scan.slice_ids)
        found.sizes[f"{scan.size[0]} x {scan.size[1]}"] += len(scan.slice_ids)
        found.spacings[" x ".join(f"{length:.2f}" for length in scan.spacing)] += 1
        found.dtypes[str(image.dtype)] += 1
        found.lowest, found.highest = min(found.lowest, float(image.min())), max(found.highest, float(image.max()))
        found.all_voxels += mask.size
        found.empty_slices += sum(not labelled.any() for labelled in mask)
        found.overlap_voxels += int(np.count_nonzero(mask & (mask - mask.dtype.type(1))))
        for j in range(classes):
            inside = (mask & mask.dtype.type(1 << j)) != 0
            found.voxels[j] += int(inside.sum())
            found.class_slices[j] += int(inside.any(axis=(1, 2)).sum())
    return found
