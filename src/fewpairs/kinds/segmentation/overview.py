"""Summary of a data set of scans: counts, sizes, classes, overlaps, and every scan that cannot be read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fewpairs.data.duplicates import equal_notes
from fewpairs.data.files import listed
from fewpairs.data.overview import DataOverview
from fewpairs.data.patients import patient_notes
from fewpairs.data.progress import track
from fewpairs.errors import DataError
from fewpairs.kinds.segmentation.label_values import class_bits, ignored_voxels
from fewpairs.kinds.segmentation.layouts.open import SourceOptions, open_source
from fewpairs.kinds.segmentation.source import Source
from fewpairs.kinds.segmentation.store import Store


@dataclass
class ScanOverview:
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
    ignored_voxels: int = 0
    """Voxels that are neither trained on nor scored."""
    unlabelled: list[str] = field(default_factory=list)
    """Scans without a voxel of any class."""
    pixels: dict[str, list[str]] = field(default_factory=dict)
    """Scans by a digest of their image."""
    notes: tuple[str, ...] = ()
    """Oddities that do no harm."""
    errors: list[str] = field(default_factory=list)
    """One message for each scan that cannot be read."""

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
            "ignored_voxels": self.ignored_voxels,
            "unlabelled_scans": self.unlabelled,
            "notes": list(self.notes),
            "errors": self.errors,
        }


def summarize_scans(source: Source, *, progress: bool = True) -> ScanOverview:
    """Read every scan of `source` once and summarize it; a scan that cannot be read becomes an entry of `errors`.

    Raises:
        DataError: the layout is wrong, so that the scans cannot be listed.
    """
    scans = source.scans()
    classes = len(source.classes)
    empty = [0] * classes
    found = ScanOverview(source.classes, source.channels, voxels=empty, class_slices=[*empty])
    for scan in track(scans, "reading scans", enabled=progress):
        try:
            image, mask = source.read(scan)
        except DataError as error:
            found.errors.append(f"{scan.id}: {error}")
            continue
        found.scans += 1
        found.pixels.setdefault(hashlib.sha256(np.ascontiguousarray(image).data).hexdigest(), []).append(scan.id)
        found.cases.add(scan.case)
        found.slices += len(scan.slice_ids)
        found.sizes[f"{scan.size[0]} x {scan.size[1]}"] += len(scan.slice_ids)
        found.spacings[" x ".join(f"{length:.2f}" for length in scan.spacing)] += 1
        found.dtypes[str(image.dtype)] += 1
        found.lowest, found.highest = min(found.lowest, float(image.min())), max(found.highest, float(image.max()))
        found.all_voxels += mask.size
        if source.ignores:
            found.ignored_voxels += int(ignored_voxels(mask, classes).sum())
            mask = class_bits(mask, classes)
        if not mask.any():
            found.unlabelled.append(scan.id)
        found.empty_slices += sum(not labelled.any() for labelled in mask)
        found.overlap_voxels += int(np.count_nonzero(mask & (mask - mask.dtype.type(1))))
        for j in range(classes):
            inside = (mask & mask.dtype.type(1 << j)) != 0
            found.voxels[j] += int(inside.sum())
            found.class_slices[j] += int(inside.any(axis=(1, 2)).sum())
    found.notes = source.notes
    return found


def overview(kind: str, root: Path | str, options: SourceOptions, *, decode: bool, progress: bool) -> DataOverview:
    """Build the output of `fewpairs data check` for scans. Every voxel is read; `decode` changes nothing."""
    found = summarize_scans(open_source(kind, root, options), progress=progress)
    voxels = dict(zip(found.classes, found.voxels, strict=True))
    if (absent := absent_classes(kind, root, voxels)) is not None and not found.errors:
        found.errors.append(absent)
    notes = (
        *found.notes,
        *empty_notes(voxels, found.unlabelled, found.scans),
        *equal_notes([names for names in found.pixels.values() if len(names) > 1], "scans"),
        *(patient_notes({"scans": sorted(found.cases)}, "case_pattern") if len(found.cases) == found.scans else ()),
    )
    counts = zip(found.classes, found.voxels, found.class_slices, strict=True)
    failure = "" if absent in found.errors else f"{len(found.errors)} scans of {root} cannot be read; the first: "
    return DataOverview(
        name=str(root),
        kind=kind,
        summary=f"{found.scans} scans of {len(found.cases)} cases, {found.channels} channel(s)",
        facts={
            "slices": f"{found.slices:,}, empty: {_share(found.empty_slices, found.slices)}",
            "sizes": _counted(found.sizes, "slices"),
            "spacings": f"{_counted(found.spacings, 'scans')}, mm between slices x rows x columns",
            "voxels": f"{_counted(found.dtypes, 'scans')}, {found.lowest:g} to {found.highest:g}",
            "overlaps": f"{_share(found.overlap_voxels, found.all_voxels)} voxels of two or more classes",
        }
        | ({"ignored": f"{_share(found.ignored_voxels, found.all_voxels)} voxels"} if found.ignored_voxels else {}),
        columns=("voxels", "slices"),
        classes={
            name: (_share(voxels, found.all_voxels), _share(slices, found.slices)) for name, voxels, slices in counts
        },
        notes=notes,
        errors=found.errors,
        failure=failure + found.errors[0] if found.errors else None,
        content={"root": str(root), "kind": kind, **found.as_dict(), "notes": list(notes)},
    )


def label_notes(kind: str, root: Path | str, store: Store) -> tuple[str, ...]:
    """Return sentences on classes without a voxel and on scans without a class.

    Raises:
        DataError: `absent_classes` has something to say.
    """
    voxels = {name: sum(scan.voxels[j] for scan in store.scans) for j, name in enumerate(store.classes)}
    if (absent := absent_classes(kind, root, voxels)) is not None:
        raise DataError(absent)
    return empty_notes(voxels, [scan.id for scan in store.scans if not any(scan.voxels)], len(store.scans))


def absent_classes(kind: str, root: Path | str, voxels: Mapping[str, int]) -> str | None:
    """Return a sentence if a class of pictures with masks has no pixel, or if no class of any scans has a voxel."""
    never = [name for name, count in voxels.items() if not count]
    if not never or (kind != "folder" and len(never) < len(voxels)):
        return None
    return (
        f"{root}: no label holds a voxel of {listed(never)}; correct the stored numbers, or name only classes that "
        "occur, with their values (data.source.classes={a: 85, b: 170})"
    )


def empty_notes(voxels: Mapping[str, int], unlabelled: Sequence[str], scans: int) -> tuple[str, ...]:
    """Return sentences on classes without a voxel and on scans without a class."""
    never = [name for name, count in voxels.items() if count == 0]
    said: tuple[str, ...] = (
        (f"no scan holds a voxel of {listed(never)}; is its label value right?",) if never and scans else ()
    )
    if unlabelled:
        said += (f"{len(unlabelled)} of {scans} scans hold no class: {listed(unlabelled, 5)}",)
    return said


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else str(part)


def _counted(counts: Mapping[str, int], what: str, shown: int = 6) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} ({count:,} {what})" for name, count in ordered[:shown])
    return listed + (f" and {len(ordered) - shown} more" if len(ordered) > shown else "")
