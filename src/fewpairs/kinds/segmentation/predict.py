"""Prediction of masks: read scans, normalise them as in training, segment them whole or in windows, write masks.

files -> scan [s c H W] -> SegmentationPredictor -> masks [s k H W] -> files in the input's own geometry
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.label_numbers import LABELS, LabelsFile, written_numbers
from fewpairs.kinds.predictor import Failure, OutputFolder, Prediction, Predictor
from fewpairs.kinds.segmentation.intensity import IntensityStatistics, intensity_statistics, largest_magnitudes
from fewpairs.kinds.segmentation.label_values import Values
from fewpairs.kinds.segmentation.layouts.uw_madison import SLICE_THICKNESS
from fewpairs.kinds.segmentation.readers import InputFiles, InputImage, find_inputs, read_input
from fewpairs.kinds.segmentation.sheet import contact_sheet
from fewpairs.kinds.segmentation.source import SUFFIXES
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.kinds.segmentation.writers import (
    SubmissionRow,
    class_suffixes,
    submission_rows,
    write_masks,
    write_submission,
)
from fewpairs.models import Segmenter
from fewpairs.models.large_images import is_large, slide
from fewpairs.safe_text import file_name
from fewpairs.train.processes import evaluation_mode
from fewpairs.types import Size, Spacing
from fewpairs.writing import atomic_path

Format = Literal["nifti", "png", "csv"]
SUBMISSION, OVERLAYS = "submission.csv", "overlays"


@dataclass(frozen=True)
class PredictedMasks(Prediction):
    """The result of one scan."""

    id: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    overlay: Path | None
    voxels: dict[str, int]
    """Predicted voxels by class."""
    millilitres: dict[str, float] | None
    """Predicted volume by class; None if the files do not give the voxel size."""
    overlapping: int
    """Voxels of more than one class; a label map assigns each to the last of its classes."""
    notes: tuple[str, ...]
    """What should be known of how the files were read."""
    separate: bool = field(repr=False)
    """Whether each class also has a file of its own."""
    rows: tuple[SubmissionRow, ...] = field(repr=False)
    """Rows of the scan in the submission table; empty for other formats."""

    def to_dict(self) -> dict[str, Any]:
        told = super().to_dict()
        return told if self.notes else {name: value for name, value in told.items() if name != "notes"}

    def summary(self) -> str:
        sizes = self.millilitres or {name: float(count) for name, count in self.voxels.items()}
        unit, digits = ("ml", 1) if self.millilitres is not None else ("pixels", 0)
        found = ", ".join(f"{name} {size:.{digits}f} {unit}" for name, size in sizes.items())
        more = f" and {len(self.outputs) - 1} more" if len(self.outputs) > 1 else ""
        line = f"{self.outputs[0]}{more}  {self.id}: {found}"
        if self.overlapping and not self.separate and not self.rows:
            line += f"\n  {self.overlapping} voxels belong to several classes and were assigned to the last one; "
            line += "--separate keeps all"
        return "\n  ".join([line, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class _Slices:
    """The slices of a scan, of which windows are read."""

    image: NDArray[Any]
    statistics: IntensityStatistics
    numbers: Sequence[int] | None
    view: SegmentationView
    """Of the size of a window."""

    @property
    def size(self) -> Size:
        return int(self.image.shape[2]), int(self.image.shape[3])

    @cached_property
    def largest(self) -> NDArray[np.float32] | None:
        return largest_magnitudes(self.image) if self.view.normalise == "max" else None

    def window(self, corner: tuple[int, int], size: Size, chosen: Sequence[int]) -> Tensor:
        """Return the model inputs of a window of `size` of the slices `chosen`, padded to the view's size."""
        (top, left), (height, width) = corner, size
        part = self.image[:, :, top : top + height, left : left + width]
        return self.view.apply(part, self.statistics, chosen, numbers=self.numbers, largest=self.largest)[0]


@dataclass(frozen=True)
class SegmentationPredictor(Predictor[InputFiles, InputImage, NDArray[np.bool_], PredictedMasks]):
    """Predicts the masks of new scans.

    Slices that fit the view's size, and all slices of a view with fit="resize", are processed as in evaluation. With
    fit="pad", larger slices are covered by overlapping windows of that size, whose logits are averaged with Gaussian
    weights (as MONAI's sliding window; Isensee et al. 2021 for the weights). Memory holds the image, the masks, and
    what a band of rows needs.
    """

    noun: ClassVar[str] = "scan"
    doing: ClassVar[str] = "predicting"
    kept: ClassVar[str] = "the masks of the other {} are written"

    model: Segmenter
    task: Segmentation
    view: SegmentationView
    roi_size: Size | None = None
    """Height and width of a window in pixels; None uses the view's size. Only for fit="pad"."""
    overlap: float = 0.25
    """Overlap of neighbouring windows, as a share of the window."""
    batch_size: int = 8
    """Number of slices or windows in one forward pass."""
    axis: int = 2
    """The axis along which NIfTI volumes are sliced, as in training."""
    thickness: float = SLICE_THICKNESS
    """Distance between slices of the UW-Madison layout in mm, as in training."""
    spacing: Spacing | None = None
    """Distances of slices, rows and columns of pictures in mm, as in training; None takes 1 mm and gives no volumes."""
    format: Format | None = None
    """Format of the masks; None: NIfTI for NIfTI, PNG for pictures, one CSV for slices in the UW-Madison layout."""
    separate: bool = False
    """Whether each class also has a file of its own, which keeps overlaps (see `writers.write_masks`)."""
    values: Values | None = None
    """Label values of each class in the training data; masks hold them where each class has one of its own."""
    device: str = "auto"
    """A torch device; "auto" uses a CUDA device if there is one."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise InputError(f"overlap={self.overlap}: the overlap of windows is a share of at least 0 and below 1")
        if self.batch_size < 1:
            raise InputError(f"batch_size={self.batch_size}: give at least 1")
        if self.roi_size is not None and self.view.fit == "resize":
            raise InputError(
                f"roi_size={self.roi_size}: a model trained with fit='resize' sees whole slices and has no windows; "
                "leave roi_size out"
            )
        if self.roi_size is not None and min(self.roi_size) < 1:
            raise InputError(f"roi_size={self.roi_size}: give height and width, each at least 1 pixel")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each class in written masks."""
        return written_numbers(self.values, len(self.task.classes), first=1)

    def labels(self, output: OutputFolder) -> LabelsFile:
        """Return the file beside the masks that names their numbers, and the values in the data if they differ."""
        classes, numbers = self.task.classes, self.numbers
        content: dict[str, Any] = {"labels": {"background": 0, **dict(zip(classes, numbers, strict=True))}}
        if self.values is not None and self.values != tuple((number,) for number in numbers):
            content["data_set_values"] = dict(zip(classes, self.values, strict=True))
        return LabelsFile(output.folder / LABELS, content)

    @property
    def channels(self) -> int:
        """The number of channels that a scan must have."""
        return self.model.in_channels // self.view.stack

    def __call__(self, image: NDArray[Any], numbers: Sequence[int] | None = None) -> NDArray[np.bool_]:
        """Predict the masks `[s k H W]`, at native size, of a scan `[s c H W]` in its stored dtype.

        `numbers` are those of the slices, if some between them are missing.

        Raises:
            InputError: the number of channels differs from training, or the device does not exist.
        """
        if image.ndim != 4 or image.shape[1] != self.channels or 0 in image.shape:
            raise InputError(f"expected a scan [s {self.channels} H W], got {list(image.shape)}")
        statistics = intensity_statistics(image)
        native = (int(image.shape[2]), int(image.shape[3]))
        window = self.roi_size or self.view.size
        fits = self.view.fit == "resize" or (native[0] <= window[0] and native[1] <= window[1])
        at_once = 1 if is_large(native) else self.batch_size
        result = np.empty((len(image), len(self.task.classes), *native), np.bool_)
        scan = _Slices(image, statistics, numbers, replace(self.view, size=window))
        with evaluation_mode(self.model, self.device) as device, torch.inference_mode():
            for start in range(0, len(image), at_once):
                chosen = range(start, min(start + at_once, len(image)))
                if fits:
                    slices, geometry = scan.view.apply(image, statistics, chosen, numbers=numbers)
                    masks = self.task.masks(self.model(slices.to(device)).float(), geometry)
                    result[start : chosen.stop] = masks.cpu().numpy()
                    continue
                for top, logits in self._windows(scan, chosen, device):
                    masks = self.task.decided(logits)
                    result[start : chosen.stop, :, top : top + masks.shape[2]] = masks.cpu().numpy()
        return result

    def _windows(self, scan: _Slices, chosen: range, device: torch.device) -> Iterator[tuple[int, Tensor]]:
        """Yield the logits of the slices `chosen` in bands of rows, averaged over windows of the view's size."""
        from monai.data.utils import compute_importance_map

        window, native = scan.view.size, scan.size
        geometry = scan.view.geometry((min(native[0], window[0]), min(native[1], window[1])))

        def segment(corners: Sequence[tuple[int, int]]) -> Tensor:
            seen = torch.cat([scan.window(corner, geometry.native, chosen) for corner in corners])
            return geometry.invert(self.model(seen.to(device)))

        step = [max(1, int(side * (1 - self.overlap))) for side in window]
        weight = compute_importance_map(window, mode="gaussian", sigma_scale=0.125, device=device)
        at_once = max(1, self.batch_size // len(chosen))
        weight = geometry.invert(weight[None, None])[0, 0]
        return slide(segment, native, window, (step[0], step[1]), at_once=at_once, weight=weight)

    def find(self, inputs: Sequence[Path | str]) -> list[InputFiles]:
        """List the scans in order of their names, those of the submission table last (see `readers.find_inputs`)."""
        return sorted(find_inputs(inputs), key=lambda scan: self.format_of(scan) == "csv")

    def format_of(self, scan: InputFiles) -> Format:
        """Return the format in which masks of `scan` are written.

        Raises:
            InputError: the format does not fit the input.
        """
        own: tuple[Format, ...] = ("png",)
        if scan.files[0].name.lower().endswith(SUFFIXES):
            own = ("nifti",)
        elif scan.slice_ids is not None and not scan.stack:
            own = ("csv", "png")
        if self.format is None:
            return own[0]
        if self.format not in own:
            raise InputError(
                f"format={self.format!r} does not fit {scan.files[0]}, whose masks can be written as "
                f"{' or '.join(own)}; leave the format out to use that of each input"
            )
        return self.format

    def shared_outputs(self, sources: Sequence[InputFiles], output: OutputFolder) -> list[Path]:
        forms = {self.format_of(scan) for scan in sources}
        submission = [output.folder / SUBMISSION] if "csv" in forms else []
        return submission + (self.labels(output).replaced if forms - {"csv"} else [])

    def outputs(self, source: InputFiles, output: OutputFolder) -> list[Path]:
        pictures = [_overlay(source, output)] if output.overlays else []
        form = self.format_of(source)
        if form == "csv":
            return pictures
        names = [source.id] if form == "nifti" else list(source.slice_ids or (source.id,))
        suffixes = ["", *(class_suffixes(self.task.classes) if self.separate else ())]
        ending = ".nii.gz" if form == "nifti" else ".png"
        return [
            output.folder / file_name(f"{name}{suffix}", ending) for suffix in suffixes for name in names
        ] + pictures

    def read(self, source: InputFiles) -> InputImage:
        return read_input(
            source, channels=self.channels, axis=self.axis, thickness=self.thickness, spacing=self.spacing
        )

    def predict(self, images: Sequence[InputImage]) -> list[NDArray[np.bool_]]:
        return [self(scan.image, scan.numbers) for scan in images]

    def write(
        self, source: InputFiles, image: InputImage, result: NDArray[np.bool_], output: OutputFolder
    ) -> PredictedMasks:
        classes = self.task.classes
        rows: tuple[SubmissionRow, ...] = ()
        if self.format_of(source) == "csv":
            files, rows = [output.folder / SUBMISSION], submission_rows(image.slice_ids, result)
        else:
            files = write_masks(image, result, output.folder, classes, separate=self.separate, numbers=self.numbers)
        overlay = _overlay(source, output) if output.overlays else None
        if overlay is not None:
            with atomic_path(overlay) as temporary:
                contact_sheet(image.image, result, classes, title=source.id).save(temporary, format="PNG")
        voxels = {name: int(result[:, j].sum()) for j, name in enumerate(classes)}
        known = image.volume is not None or image.in_uw_layout or self.spacing is not None
        millilitre = float(np.prod(image.spacing)) / 1000
        return PredictedMasks(
            id=source.id,
            inputs=source.files,
            outputs=tuple(files),
            overlay=overlay,
            voxels=voxels,
            millilitres={name: count * millilitre for name, count in voxels.items()} if known else None,
            overlapping=int(np.count_nonzero(result.sum(axis=1, dtype=np.uint8) > 1)),
            notes=image.notes,
            separate=self.separate,
            rows=rows,
        )

    def finish(self, written: list[PredictedMasks], failures: list[Failure], output: OutputFolder) -> None:
        """Write `labels.json` beside masks, and the submission table.

        Scans that failed have no rows, and a table without rows is not written.
        """
        if any(not item.rows for item in written):
            self.labels(output).write()
        listed = [item for item in written if item.rows]
        if not listed:
            return
        path = output.folder / SUBMISSION
        try:
            write_submission(path, [row for item in listed for row in item.rows], self.task.classes)
        except DataError as error:
            written[:] = [item for item in written if not item.rows]
            failures.append(Failure(tuple(file for item in listed for file in item.inputs), str(error), path.name))


def _overlay(scan: InputFiles, output: OutputFolder) -> Path:
    return output.folder / OVERLAYS / file_name(scan.id, ".png")
