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
from torch import nn

from fewpairs.data.atomic import atomic_path
from fewpairs.data.pictures import read_image
from fewpairs.errors import InputError
from fewpairs.kinds.label_numbers import LABELS, LabelsFile
from fewpairs.kinds.predictor import Failure, OutputFolder, PictureFile, PicturePredictor, Prediction, write_records
from fewpairs.kinds.semantic.names import Colour
from fewpairs.kinds.semantic.overlays import label_overlay, paletted
from fewpairs.kinds.semantic.task import Semantic
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.train.processes import evaluation_mode
from fewpairs.types import IGNORE

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
        with evaluation_mode(self.model, self.device) as device, torch.inference_mode():
            logits = self.model(self.view.apply(picture)[None].to(device))
            labels = self.task.labels(logits, (picture.height, picture.width))[0]
        return labels.cpu().numpy()

    def shared_outputs(self, sources: Sequence[PictureFile], output: OutputFolder) -> list[Path]:
        return [output.folder / RECORDS, *self.labels(output).replaced]

    def outputs(self, source: PictureFile, output: OutputFolder) -> list[Path]:
        """Return the files of the label map and, unless switched off, of the overlay."""
        name = f"{source.path.stem}.png"
        return [output.folder / name, *([output.folder / OVERLAYS / name] if output.overlays else [])]

    def read(self, source: PictureFile) -> Image.Image:
        return read_image(source.path)

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
        counts = np.bincount(result[result != IGNORE], minlength=len(classes))
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
