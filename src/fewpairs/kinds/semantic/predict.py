"""From picture files to label maps: a class for every pixel of each picture, at its own size.

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
    """What one picture became."""

    path: Path
    output: Path
    """The label map: a picture with a palette, whose stored numbers are the labels."""
    overlay: Path | None
    pixels: dict[str, int]
    """Their number by class, the most frequent first; classes that were not found are left out."""

    def summary(self) -> str:
        total = max(1, sum(self.pixels.values()))
        shares = ", ".join(f"{name} {100 * count / total:.1f} %" for name, count in list(self.pixels.items())[:5])
        return f"{self.output}  {self.path.name}: {shares or 'no class'}"


@dataclass(frozen=True)
class SemanticPredictor(PicturePredictor[Image.Image, NDArray[np.uint8], PredictedLabels]):
    """A segmenter with all that a new picture needs to become a label map."""

    doing: ClassVar[str] = "segmenting"
    kept: ClassVar[str] = "the label maps of the other {} are written"

    model: nn.Module
    """`[b c h w]` -> logits `[b k h w]`, swept over the picture as `Experiment.inference_model` says."""
    task: Semantic
    view: SemanticView
    """That of the training, with its channels: `view.with_channels(3)`."""
    colours: tuple[Colour, ...]
    """Those of the classes, in pictures of label maps."""
    device: str = "auto"
    """A torch device; "auto" takes a CUDA device where there is one."""

    def __post_init__(self) -> None:
        if len(self.colours) != len(self.task.classes):
            raise InputError(f"{len(self.colours)} colours for {len(self.task.classes)} classes; give one for each")

    def __call__(self, picture: Image.Image) -> NDArray[np.uint8]:
        """A picture in mode L or RGB -> labels `[H W]` at its own size, `IGNORE` where outputs are not finite.

        Raises:
            InputError: a device that is not there.
        """
        with evaluation_mode(self.model, self.device) as device, torch.inference_mode():
            logits = self.model(self.view.apply(picture)[None].to(device))
            labels = self.task.labels(logits, (picture.height, picture.width))[0]
        return labels.cpu().numpy()

    def shared_outputs(self, sources: Sequence[PictureFile], output: OutputFolder) -> list[Path]:
        return [output.folder / RECORDS]

    def outputs(self, source: PictureFile, output: OutputFolder) -> list[Path]:
        """The label map and, unless left out, the picture under it."""
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
        with atomic_path(target) as temporary:
            paletted(result, self.colours).save(temporary, format="PNG", optimize=True)
        for overlay in overlays:
            drawn = label_overlay(np.asarray(image), result, classes, self.colours, title=source.path.name)
            with atomic_path(overlay) as temporary:
                drawn.save(temporary, format="PNG")
        counts = np.bincount(result[result != IGNORE], minlength=len(classes))
        order = sorted(np.flatnonzero(counts).tolist(), key=lambda place: -counts[place])
        pixels = {classes[place]: int(counts[place]) for place in order}
        return PredictedLabels(source.path, target, overlays[0] if overlays else None, pixels)

    def finish(self, written: list[PredictedLabels], failures: list[Failure], output: OutputFolder) -> None:
        content = {
            "classes": self.task.classes,
            "colours": self.colours,
            "segmented": written,
            "failed": failures,
        }
        write_records(output.folder / RECORDS, content)
