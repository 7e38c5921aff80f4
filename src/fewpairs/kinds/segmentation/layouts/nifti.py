"""NIfTI volumes with label volumes: the Medical Segmentation Decathlon layout, or any two folders of equal names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from fewpairs.data.files import CasePattern, fail_on, files_by_stem, pair_files, visible_files
from fewpairs.data.notes import Note, gathered
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import BitMask
from fewpairs.kinds.segmentation.label_values import Labels, LabelValues
from fewpairs.kinds.segmentation.layouts.dataset_json import missing_notes, read_labels
from fewpairs.kinds.segmentation.source import SUFFIXES, Json, ScanFiles, volume_stem
from fewpairs.kinds.segmentation.volumes import AXES, Volume

_FILES = "*.nii, *.nii.gz; convert pairs of .hdr with .img, and other formats"


class Nifti:
    """Volumes in `images` and label volumes of the same names in `labels`, cut into slices (see `volumes`).

    Args:
        classes: names of the labels 1, 2, ... in order, or a mapping from names to label values. 0 is background, and
            `ignore` names voxels that are neither trained on nor scored.
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
        self._labels = LabelValues.of(classes)
        self.classes, self.values = self._labels.classes, self._labels.values
        self.ignores = bool(self._labels.ignored)
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
        return (*gathered(self._notes), *(missing_notes(self._table) if self._table else ()))

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
            "labels": {name: list(values) for name, values in zip(self.classes, self.values, strict=True)},
            **({"ignored": list(self._labels.ignored)} if self.ignores else {}),
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
        return image.read(), self._bit_mask(label)

    def _pairs(self) -> list[tuple[Path, Path]]:
        images, labels = (
            files_by_stem(visible_files(folder, SUFFIXES), volume_stem) for folder in (self.images, self.labels)
        )
        if not images:
            raise DataError(f"{self.images} holds no NIfTI files ({_FILES})")
        return pair_files((self.images, images), (self.labels, labels), "label")

    def _bit_mask(self, volume: Volume) -> BitMask:
        """Read the bit mask `[s H W]`; check that labels are whole and belong to a class."""
        labels, notes = volume.read_labels()
        self._notes[_short_path(volume.path)] = (*volume.notes, *notes)
        remedy = "name them, or count them as background with other_labels='background'"
        return self._labels.mask(labels, str(volume.path), remedy if self.other_labels == "error" else None)


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
        classes = read_labels(table)
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
