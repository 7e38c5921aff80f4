"""Prediction of label maps: one class for each pixel of an image, at its own size.

files -> pictures [1 c h w] -> InferenceSegmenter -> labels [H W] -> NAME.png, overlays/NAME.png, predictions.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fewpairs.data.memory import check_memory
from fewpairs.data.pictures import read_image
from fewpairs.errors import InputError
from fewpairs.kinds.label_numbers import LABELS, LabelsFile
from fewpairs.kinds.predictor import Failure, OutputFolder, PictureFile, PicturePredictor, Prediction, write_records
from fewpairs.kinds.semantic.names import Colour
from fewpairs.kinds.semantic.overlays import label_overlay, paletted
from fewpairs.kinds.semantic.task import Semantic
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.models.inference import InferenceSegmenter
from fewpairs.models.large_images import is_large
from fewpairs.safe_text import file_name
from fewpairs.train.processes import evaluation_mode
from fewpairs.types import IGNORE, Size
from fewpairs.writing import atomic_path

RECORDS, OVERLAYS = "predictions.json", "overlays"


@dataclass(frozen=True)
class PredictedLabels(Prediction):
    """The result of one image."""

    path: Path
    output: Path
    """The label map: an image with a palette, whose stored numbers are the labels."""
    overlay: Path | None
    pixels: dict[str, int]
    """Number of pixels by class, the most frequent first; classes without pixels are left out."""

    def summary(self) -> str:
        total = max(1, sum(self.pixels.values()))
        shares = ", ".join(f"{name} {100 * count / total:.1f} %" for name, count in list(self.pixels.items())[:5])
        return f"{self.output}  {self.path.name}: {shares or 'no class'}"


@dataclass(frozen=True)
class SemanticPredictor(PicturePredictor[Image.Image, NDArray[np.uint8], PredictedLabels]):
    """Predicts the label maps of new images."""

    doing: ClassVar[str] = "segmenting"
    kept: ClassVar[str] = "the label maps of the other {} are written"

    model: nn.Module
    """Maps `[b c h w]` to logits `[b k h w]`; `Experiment.inference_model` adds windows, scales and flips."""
    task: Semantic
    view: SemanticView
    """The view of the training, with its channels: `view.with_channels(3)`."""
    colours: tuple[Colour, ...]
    """Colours of the classes in label maps."""
    numbers: tuple[int, ...] = ()
    """The number of each class in label maps: that of the training data, or 0, 1, ... if there are none."""
    device: str = "auto"
    """A torch device; "auto" uses a CUDA device if there is one."""

    def __post_init__(self) -> None:
        if len(self.colours) != len(self.task.classes):
            raise InputError(f"{len(self.colours)} colours for {len(self.task.classes)} classes; give one for each")
        object.__setattr__(self, "numbers", self.numbers or tuple(range(len(self.task.classes))))

    @property
    def unclassified(self) -> int:
        """The number in label maps of pixels without a class: 255, or the largest that is no class."""
        return max(set(range(IGNORE + 1)) - set(self.numbers))

    def labels(self, output: OutputFolder) -> LabelsFile:
        """Return the file beside the label maps that names their numbers."""
        content = {"labels": dict(zip(self.task.classes, self.numbers, strict=True)), "no_class": self.unclassified}
        return LabelsFile(output.folder / LABELS, content)

    def __call__(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Predict the labels `[H W]` of an image in mode L or RGB at its own size; `IGNORE` marks non-finite outputs.

        Raises:
            InputError: the device does not exist.
        """
        size = (picture.height, picture.width)
        with evaluation_mode(self.model, self.device) as device, torch.inference_mode():
            if self._in_bands(size):
                return self._labels_in_bands(picture, device)
            logits = self.model(self.view.apply(picture)[None].to(device))
            labels = self.task.labels(logits, size)[0]
        return labels.cpu().numpy()

    def _in_bands(self, size: Size) -> bool:
        """Return whether logits of an image of `size` are held in bands of rows: it is large and read in windows."""
        windowed = isinstance(self.model, InferenceSegmenter) and self.model.windowed
        return windowed and is_large(size) and self.view.resized(size) == size

    def _labels_in_bands(self, picture: Image.Image, device: torch.device) -> NDArray[np.uint8]:
        size = (picture.height, picture.width)
        assert isinstance(self.model, InferenceSegmenter)
        labels = np.empty(size, np.uint8)

        def read(top: int, left: int, window: Size) -> Tensor:
            part = picture.crop((left, top, left + window[1], top + window[0]))
            return self.view.normalise(self.view.pixels(part))[None].to(device)

        for top, logits in self.model.bands(read, size):
            rows = (logits.shape[-2], size[1])
            labels[top : top + rows[0]] = self.task.labels(logits, rows)[0].cpu().numpy()
        return labels

    def shared_outputs(self, sources: Sequence[PictureFile], output: OutputFolder) -> list[Path]:
        return [output.folder / RECORDS, *self.labels(output).replaced]

    def outputs(self, source: PictureFile, output: OutputFolder) -> list[Path]:
        """Return the files of the label map and, unless switched off, of the overlay."""
        name = file_name(source.path.stem, ".png")
        return [output.folder / name, *([output.folder / OVERLAYS / name] if output.overlays else [])]

    def read(self, source: PictureFile) -> Image.Image:
        """Read an image in mode L or RGB.

        Raises:
            DataError: it is damaged, or the model's input and logits need more memory than there is.
        """
        picture = read_image(source.path)
        size = (picture.height, picture.width)
        height, width = self.view.resized(size)
        if is_large((height, width)) and not self._in_bands(size):
            floats = height * width * (2 * len(self.task.classes) + 4 * len(picture.getbands()))
            remedy = "read it in windows (inference.mode=slide at its own size, without ratios and flip), or shrink it"
            check_memory(4 * floats, f"{source.path} ({height} x {width} pixels for the model)", remedy)
        return picture

    def predict(self, images: Sequence[Image.Image]) -> list[NDArray[np.uint8]]:
        return [self(picture) for picture in images]

    def write(
        self, source: PictureFile, image: Image.Image, result: NDArray[np.uint8], output: OutputFolder
    ) -> PredictedLabels:
        classes = self.task.classes
        target, *overlays = self.outputs(source, output)
        table, colours = np.full(IGNORE + 1, self.unclassified, np.uint8), [(0, 0, 0)] * (max(self.numbers) + 1)
        for place, number in enumerate(self.numbers):
            table[place], colours[number] = number, self.colours[place]
        with atomic_path(target) as temporary:
            paletted(table[result], colours).save(temporary, format="PNG", optimize=True)
        for overlay in overlays:
            drawn = label_overlay(np.asarray(image), result, classes, self.colours, title=source.path.name)
            with atomic_path(overlay) as temporary:
                drawn.save(temporary, format="PNG")
        counts = np.sum([np.bincount(row, minlength=256) for row in result], axis=0)[: len(classes)]
        order = sorted(np.flatnonzero(counts).tolist(), key=lambda place: -counts[place])
        pixels = {classes[place]: int(counts[place]) for place in order}
        return PredictedLabels(source.path, target, overlays[0] if overlays else None, pixels)

    def finish(self, written: list[PredictedLabels], failures: list[Failure], output: OutputFolder) -> None:
        if written:
            self.labels(output).write()
        content = {
            "classes": self.task.classes,
            "colours": self.colours,
            "segmented": written,
            "failed": failures,
        }
        write_records(output.folder / RECORDS, content)
