"""NIfTI volumes with label volumes: the Medical Segmentation Decathlon layout, or any two folders of equal names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.files import CasePattern, check_classes, fail_on, files_by_stem, pair_files, visible_files
from fewpairs.data.notes import Note, gathered
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import BitMask, from_labels
from fewpairs.kinds.segmentation.source import SUFFIXES, Json, ScanFiles, volume_stem
from fewpairs.kinds.segmentation.volumes import AXES, Volume

Labels = Mapping[str, int | Sequence[int]]
"""The label value or values of each class name; a value may belong to several (overlapping) classes."""

_FILES = "*.nii, *.nii.gz; convert pairs of .hdr with .img, and other formats"


class Nifti:
    """Volumes in `images` and label volumes of the same names in `labels`, cut into slices (see `volumes`).

    Args:
        classes: names of the labels 1, 2, ... in order, or a mapping from names to label values. 0 is background.
        axis: 0 sagittal, 1 coronal, 2 axial slices.
        case_pattern: regular expression with one group that finds the case (patient) in a file's name without its
            suffix; by default every volume is a case of its own.
        other_labels: labels outside the classes are an `error` or count as `background`.
        table: a file that the classes come from, such as `dataset.json`.
    """

    def __init__(
        self,
        images: Path | str,
        labels: Path | str,
        *,
        classes: Sequence[str] | Labels,
        axis: int = 2,
        case_pattern: str | None = None,
        other_labels: Literal["error", "background"] = "error",
        table: Path | None = None,
    ) -> None:
        self.images, self.labels = Path(images), Path(labels)
        self.root = self.images.parent
        self.classes = check_classes(classes)
        self._values = _values(classes)
        if axis not in AXES:
            raise InputError(f"axis={axis!r}: slices run along 0 (sagittal), 1 (coronal) or 2 (axial)")
        if other_labels not in ("error", "background"):
            raise InputError(f"other_labels={other_labels!r}: allowed are 'error' and 'background'")
        self.axis = axis
        self.other_labels = other_labels
        self._case = CasePattern(case_pattern)
        self._table = table
        self._channels: int | None = None
        self._notes: dict[str, tuple[Note, ...]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the volumes that were listed and read."""
        return gathered(self._notes)

    @property
    def channels(self) -> int:
        """Channels of the images, all the same (checked by `scans`)."""
        if self._channels is None:
            first = next(iter(self._pairs()))
            self._channels = Volume.open(first[0], self.axis).channels
        return self._channels

    @property
    def options(self) -> dict[str, Json]:
        return {
            "kind": "nifti",
            "labels": {name: list(values) for name, values in zip(self.classes, self._values, strict=True)},
            "axis": self.axis,
            "case_pattern": self._case.pattern,
            "other_labels": self.other_labels,
            "folders": [str(self.images.resolve()), str(self.labels.resolve())],
        }

    @property
    def shared_files(self) -> tuple[Path, ...]:
        return () if self._table is None else (self._table,)

    def scans(self) -> list[ScanFiles]:
        scans, problems = [], []
        for image_path, label_path in self._pairs():
            try:
                image, label = Volume.open(image_path, self.axis), Volume.open(label_path, self.axis)
                if image.channels != self.channels:
                    raise DataError(f"{image_path} has {image.channels} channels, others have {self.channels}")
                _check_match(image, label)
                self._notes |= {_short_path(one.path): one.notes for one in (image, label)}
                stem = volume_stem(image_path)
                ids = tuple(f"{stem}_slice_{number:04d}" for number in range(1, image.slices + 1))
                scan = ScanFiles(stem, self._case(stem), (image_path, label_path), ids, image.size, image.spacing)
                scans.append(scan)
            except DataError as error:
                problems.append(str(error))
        fail_on(problems, "fix these files, or remove each image together with its label")
        return scans

    def read(self, scan: ScanFiles) -> tuple[NDArray[Any], BitMask]:
        image, label = (Volume.open(path, self.axis) for path in scan.files)
        _check_match(image, label)
        return image.read(), from_labels(self._label_map(label), self._values)

    def _pairs(self) -> list[tuple[Path, Path]]:
        images, labels = (
            files_by_stem(visible_files(folder, SUFFIXES), volume_stem) for folder in (self.images, self.labels)
        )
        if not images:
            raise DataError(f"{self.images} holds no NIfTI files ({_FILES})")
        return pair_files((self.images, images), (self.labels, labels), "label")

    def _label_map(self, volume: Volume) -> NDArray[Any]:
        """Read label numbers `[s H W]`; check that they are whole and belong to a class."""
        labels, notes = volume.read_labels()
        self._notes[_short_path(volume.path)] = (*volume.notes, *notes)
        known = {0, *(value for values in self._values for value in values)}
        present = np.unique(labels)
        unknown = [int(value) for value in present if int(value) not in known]
        if unknown and self.other_labels == "error":
            listed = ", ".join(
                f"{name}={_short(values)}" for name, values in zip(self.classes, self._values, strict=True)
            )
            raise DataError(
                f"{volume.path} holds the label{'s' if len(unknown) > 1 else ''} {', '.join(map(str, unknown[:10]))} "
                f"outside the classes (background=0, {listed}); name them, or count them as background with "
                "other_labels='background'"
            )
        return labels


def msd(
    root: Path | str,
    *,
    classes: Sequence[str] | Labels | None = None,
    axis: int = 2,
    case_pattern: str | None = None,
    other_labels: Literal["error", "background"] = "error",
) -> Nifti:
    """Open a Medical Segmentation Decathlon task: `imagesTr`, `labelsTr`, and a `dataset.json` with the classes.

    Raises:
        DataError: a folder is missing, or `dataset.json` is damaged.
        InputError: neither `classes` nor `dataset.json` names the classes.
    """
    root = Path(root)
    table = root / "dataset.json"
    if classes is None:
        if not table.is_file():
            raise InputError(
                f"{root} has no dataset.json that names the classes; give classes=, in the order of the labels"
            )
        classes = _read_labels(table)
    used = table if table.is_file() else None
    return Nifti(
        root / "imagesTr",
        root / "labelsTr",
        classes=classes,
        axis=axis,
        case_pattern=case_pattern,
        other_labels=other_labels,
        table=used,
    )


def _values(classes: Sequence[str] | Labels) -> tuple[tuple[int, ...], ...]:
    if not isinstance(classes, Mapping):
        return tuple((label,) for label in range(1, len(classes) + 1))
    values = []
    for name, given in classes.items():
        several = (given,) if isinstance(given, int) else tuple(given)
        if not several or any(isinstance(v, bool) or not isinstance(v, int) or v == 0 for v in several):
            raise InputError(f"class {name!r}: labels are whole numbers other than 0 (background), got {given!r}")
        values.append(several)
    return tuple(values)


def _short(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(values) == 1 else str(list(values))


def _short_path(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _check_match(image: Volume, label: Volume) -> None:
    if label.channels != 1:
        raise DataError(f"{label.path} has {label.channels} channels; a label volume has one number for each voxel")
    sizes = [(volume.slices, *volume.size) for volume in (image, label)]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{image.path} has the shape {image.shape}, but its label {label.path} has {label.shape} (slices, rows and "
            f"columns: {sizes[0]} and {sizes[1]})"
        )
    if not image.same_space(label):
        raise DataError(
            f"{image.path} and its label {label.path} do not lie in the same place: their affines in mm are "
            f"{image.affine[:3].round(4).tolist()} and {label.affine[:3].round(4).tolist()}"
        )


def _read_labels(table: Path) -> Labels:
    """Read class names and labels from `dataset.json`: number to name (Decathlon) or name to numbers (nnU-Net)."""
    try:
        labels = json.loads(table.read_text(encoding="utf-8"))["labels"]
        pairs = [(value, int(key)) if str(key).isdigit() else (str(key), value) for key, value in labels.items()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"{table} does not name the labels ({type(error).__name__}: {error}); expected {{'labels': ...}}"
        ) from None
    return {str(name): value for name, value in pairs if value not in (0, [0]) and str(name).lower() != "background"}
