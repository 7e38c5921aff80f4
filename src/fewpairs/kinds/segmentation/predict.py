"""From image files to masks: read, normalise as in training, segment whole or window by window, write in place.

files -> scan [s c H W] -> Predictor -> masks [s k H W] -> files in the input's own geometry
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewpairs.data.atomic import atomic_path
from fewpairs.data.progress import track
from fewpairs.errors import DataError, FewpairsError, InputError
from fewpairs.kinds.segmentation.intensity import intensity_statistics
from fewpairs.kinds.segmentation.readers import InputFiles, InputImage, find_inputs, read_input
from fewpairs.kinds.segmentation.sheet import contact_sheet
from fewpairs.kinds.segmentation.source import SUFFIXES
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.kinds.segmentation.view import View
from fewpairs.kinds.segmentation.writers import write_masks, write_submission
from fewpairs.models import Segmenter
from fewpairs.train.processes import resolve_device
from fewpairs.types import Size

Format = Literal["nifti", "png", "csv"]
FORMATS: tuple[Format, ...] = ("nifti", "png", "csv")
SUBMISSION = "submission.csv"
OVERLAYS = "overlays"


@dataclass(frozen=True)
class Predictor:
    """A segmenter with all that a new scan needs to become masks.

    Slices that fit the view's size, and all slices of a view with fit="resize", take the very path of evaluation.
    Larger ones of a view with fit="pad" are covered by overlapping windows of that size, whose logits are averaged with
    Gaussian weights (MONAI's sliding window; Isensee et al. 2021 for the weights).
    """

    segmenter: Segmenter
    task: Segmentation
    view: View
    roi_size: Size | None = None
    """Height and width of a window in pixels; None: the view's size. Only for fit="pad"."""
    overlap: float = 0.25
    """Share of a window that neighbouring windows have in common."""
    batch_size: int = 8
    """Slices, and windows, that go through the segmenter at once."""
    device: str = "auto"
    """A torch device; "auto" takes a CUDA device where there is one."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise InputError(f"overlap={self.overlap}: the share that windows have in common is at least 0 and below 1")
        if self.batch_size < 1:
            raise InputError(f"batch_size={self.batch_size}: at least one slice goes through the model at once")
        if self.roi_size is not None and self.view.fit == "resize":
            raise InputError(
                f"roi_size={self.roi_size}: a model trained with fit='resize' sees whole slices and has no windows; "
                "leave roi_size out"
            )
        if self.roi_size is not None and min(self.roi_size) < 1:
            raise InputError(f"roi_size={self.roi_size}: give height and width, each at least 1 pixel")

    @property
    def channels(self) -> int:
        """Channels that a scan must have."""
        return self.segmenter.in_channels // self.view.stack

    def __call__(self, image: NDArray[Any]) -> NDArray[np.bool_]:
        """A scan `[s c H W]` in its stored dtype -> masks `[s k H W]` at its own size.

        Raises:
            InputError: another number of channels than in training, or a device that is not there.
        """
        if image.ndim != 4 or image.shape[1] != self.channels or 0 in image.shape:
            raise InputError(f"expected a scan [s {self.channels} H W], got {list(image.shape)}")
        device = _device(self.device)
        statistics = intensity_statistics(image)
        native = (int(image.shape[2]), int(image.shape[3]))
        window = self.roi_size or self.view.size
        fits = self.view.fit == "resize" or (native[0] <= window[0] and native[1] <= window[1])
        view = replace(self.view, size=window if fits else native)
        parts = []
        was_training = self.segmenter.training
        self.segmenter.to(device).eval()
        try:
            with torch.inference_mode():
                for start in range(0, len(image), self.batch_size):
                    chosen = range(start, min(start + self.batch_size, len(image)))
                    slices, geometry = view.apply(image, statistics, chosen)
                    logits = self._logits(slices.to(device), None if fits else window)
                    parts.append(self.task.masks(logits.float(), geometry).cpu())
        finally:
            self.segmenter.train(was_training)
        return torch.cat(parts).numpy()

    def _logits(self, slices: Tensor, window: Size | None) -> Tensor:
        if window is None:
            return self.segmenter(slices)
        from monai.inferers import sliding_window_inference

        logits = sliding_window_inference(
            slices, window, self.batch_size, self.segmenter, overlap=self.overlap, mode="gaussian"
        )
        if not isinstance(logits, Tensor):
            raise TypeError(f"the sliding window returned {type(logits).__name__} instead of one tensor")
        return logits


def _device(name: str) -> torch.device:
    try:
        return resolve_device(name, "fp32")
    except RuntimeError as error:
        raise InputError(f"device={name!r} is none that PyTorch knows: auto, cpu, cuda, cuda:0, ...") from error


@dataclass(frozen=True, slots=True)
class Written:
    """What one scan became."""

    id: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    overlay: Path | None
    voxels: dict[str, int]
    """Predicted voxels by class."""
    millilitres: dict[str, float] | None
    """Predicted volume by class; None where the files do not say how large a voxel is."""
    overlapping: int
    """Voxels of more than one class; a label map gives each to the first of its classes."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A scan that could not be predicted, and why."""

    id: str
    inputs: tuple[Path, ...]
    message: str


class PredictionError(FewpairsError):
    """Some scans failed (exit status 1); the others are written and listed in `written`."""

    def __init__(self, failures: Sequence[Failure], written: Sequence[Written]) -> None:
        self.failures, self.written = tuple(failures), tuple(written)
        lines = "".join(f"\n  {failure.message}" for failure in failures)
        kept = f"; the masks of the other {len(written)} are written" if written else ""
        total = len(failures) + len(written)
        super().__init__(f"{len(failures)} of {total} scan{'s' if total != 1 else ''} failed{kept}:{lines}")


@dataclass(frozen=True, slots=True)
class Output:
    """Where masks go and in which form.

    `format` None takes NIfTI for NIfTI, PNG for pictures and one CSV for slices in the UW-Madison layout. `separate`
    adds one file a class, in which overlaps are kept (see `fewpairs.kinds.segmentation.writers.write_masks`).
    """

    folder: Path
    format: Format | None = None
    separate: bool = False
    overlays: bool = True
    overwrite: bool = False

    def of(self, item: InputFiles) -> Format:
        """The format in which masks of `item` are written.

        Raises:
            InputError: a format that does not fit the input.
        """
        own: tuple[Format, ...] = ("png",)
        if item.files[0].name.lower().endswith(SUFFIXES):
            own = ("nifti",)
        elif item.slice_ids is not None:
            own = ("csv", "png")
        if self.format is None:
            return own[0]
        if self.format not in own:
            raise InputError(
                f"format={self.format!r} does not fit {item.files[0]}, whose masks can be written as "
                f"{' or '.join(own)}; leave the format out to have each input's own"
            )
        return self.format

    def files(self, item: InputFiles, classes: Sequence[str]) -> list[Path]:
        """Every file that `item` will become, its overlay included."""
        form = self.of(item)
        pictures = [self.overlay(item)] if self.overlays else []
        if form == "csv":
            return [self.folder / SUBMISSION, *pictures]
        names = [item.id] if form == "nifti" else list(item.slice_ids or (item.id,))
        suffixes = ["", *(f"_{name}" for name in classes)] if self.separate else [""]
        ending = ".nii.gz" if form == "nifti" else ".png"
        return [self.folder / f"{name}{suffix}{ending}" for suffix in suffixes for name in names] + pictures

    def overlay(self, item: InputFiles) -> Path:
        """The overlay picture of `item`."""
        return self.folder / OVERLAYS / f"{item.id}.png"


def predict_files(
    predictor: Predictor, inputs: Sequence[Path | str], output: Output, *, axis: int = 2, progress: bool = True
) -> list[Written]:
    """Segment files and folders (see `fewpairs.kinds.segmentation.readers.find_inputs`) and write masks and overlays.

    `axis` cuts NIfTI volumes, as in training. All that can be checked is checked before the first scan is read.

    Raises:
        InputError: no images, files that are there already, a format that does not fit, or outputs onto inputs.
        PredictionError: files that cannot be read or written; raised at the end, when the others are done.
    """
    items = find_inputs(inputs)
    _check(items, output, predictor.task.classes)
    work = _Work(predictor, output, axis)
    listed = [item for item in items if output.of(item) == "csv"]
    for item in track([item for item in items if output.of(item) != "csv"], "predicting", enabled=progress):
        work.masks(item)
    if listed:
        work.table(listed, progress=progress)
    if work.failures:
        raise PredictionError(work.failures, work.written)
    return work.written


@dataclass
class _Work:
    """Scans done so far: what they became, and what went wrong."""

    predictor: Predictor
    output: Output
    axis: int
    written: list[Written] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def masks(self, item: InputFiles) -> None:
        """Write the masks of one scan to files of its own."""
        try:
            source, masks = self._predict(item)
            classes = self.predictor.task.classes
            files = write_masks(source, masks, self.output.folder, classes, separate=self.output.separate)
            self._finish(item, source, masks, files)
        except DataError as error:
            self.failures.append(Failure(item.id, item.files, str(error)))

    def table(self, items: Sequence[InputFiles], *, progress: bool) -> None:
        """Write the masks of all scans to one table. A scan that fails has no rows; without any there is no table."""
        path, before = self.output.folder / SUBMISSION, len(self.written)
        rows = self._slices(track(items, "predicting", enabled=progress))
        try:
            first = next(rows, None)
            if first is not None:
                write_submission(path, chain([first], rows), self.predictor.task.classes)
        except DataError as error:
            del self.written[before:]
            files = tuple(file for item in items for file in item.files)
            self.failures.append(Failure(path.name, files, str(error)))

    def _slices(self, items: Iterator[InputFiles]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        for item in items:
            try:
                source, masks = self._predict(item)
                self._finish(item, source, masks, [self.output.folder / SUBMISSION])
            except DataError as error:
                self.failures.append(Failure(item.id, item.files, str(error)))
                continue
            yield from zip(source.slice_ids, masks, strict=True)

    def _predict(self, item: InputFiles) -> tuple[InputImage, NDArray[np.bool_]]:
        source = read_input(item, channels=self.predictor.channels, axis=self.axis)
        return source, self.predictor(source.image)

    def _finish(self, item: InputFiles, source: InputImage, masks: NDArray[np.bool_], files: list[Path]) -> None:
        classes = self.predictor.task.classes
        overlay = self.output.overlay(item) if self.output.overlays else None
        if overlay is not None:
            with atomic_path(overlay) as temporary:
                contact_sheet(source.image, masks, classes, title=item.id).save(temporary, format="PNG")
        voxels = {name: int(masks[:, j].sum()) for j, name in enumerate(classes)}
        known = source.volume is not None or source.in_uw_layout
        millilitre = float(np.prod(source.spacing)) / 1000
        self.written.append(
            Written(
                id=item.id,
                inputs=item.files,
                outputs=tuple(files),
                overlay=overlay,
                voxels=voxels,
                millilitres={name: count * millilitre for name, count in voxels.items()} if known else None,
                overlapping=int((masks.sum(axis=1) > 1).sum()),
            )
        )


def _check(items: Sequence[InputFiles], output: Output, classes: Sequence[str]) -> None:
    """Raise InputError when an output would replace an input, another output, or a file that is there."""
    sources = {file.resolve() for item in items for file in item.files}
    planned: dict[Path, InputFiles] = {}
    there: list[Path] = []
    for item in items:
        for path in output.files(item, classes):
            if path.resolve() in sources:
                raise InputError(f"{path} would be overwritten by its own masks; choose another folder with --out")
            other = planned.setdefault(path, item)
            if other is not item and path.name != SUBMISSION:
                raise InputError(
                    f"{item.files[0]} and {other.files[0]} would both become {path}; predict them separately"
                )
            if path.exists() and path not in there:
                there.append(path)
    if there and not output.overwrite:
        are = f" and {len(there) - 1} more exist" if len(there) > 1 else " exists"
        raise InputError(f"{there[0]}{are} already; choose another folder, or replace with --overwrite")
