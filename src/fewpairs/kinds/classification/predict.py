"""Classification of picture files: read and normalise as in evaluation, classify, write a table and a sheet.

files -> pictures [b c H W] -> ClassificationPredictor -> probabilities [b k] -> predictions.csv, .json, sheet.png
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fewpairs.data.pictures import read_image
from fewpairs.errors import InputError
from fewpairs.kinds.classification.layouts.imagenet import WNID
from fewpairs.kinds.classification.task import Classification
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.predictor import Failure, OutputFolder, PictureFile, PicturePredictor, Prediction, write_records
from fewpairs.report.thumbnails import thumbnail, thumbnail_sheet
from fewpairs.safe_text import csv_cell
from fewpairs.train.processes import evaluation_mode
from fewpairs.writing import atomic_path

TABLE, RECORDS, SHEET = "predictions.csv", "predictions.json", "sheet.png"
SHOWN = 48
"""Maximum number of pictures on a sheet."""


@dataclass(frozen=True, slots=True)
class Guess:
    """Possible class of a picture."""

    name: str
    title: str
    """Title in reports: the words of a WordNet number, else the name."""
    probability: float


@dataclass(frozen=True)
class PredictedClasses(Prediction):
    """Predicted classes of one picture."""

    path: Path
    guesses: tuple[Guess, ...]
    """Classes in descending order of probability."""
    thumbnail: Image.Image | None = field(default=None, repr=False, compare=False)
    """Thumbnail, if the sheet shows the picture."""

    def summary(self) -> str:
        guesses = ", ".join(f"{guess.title} {100 * guess.probability:.1f} %" for guess in self.guesses[:3])
        return f"{self.path}  {guesses}"


@dataclass(frozen=True, slots=True)
class ReadPicture:
    """Picture as model input."""

    image: Tensor
    """`[c H W]`, normalised."""
    thumbnail: Image.Image | None


@dataclass(frozen=True)
class ClassificationPredictor(PicturePredictor[ReadPicture, tuple[Guess, ...], PredictedClasses]):
    """Predictor of the classes of new pictures."""

    doing: ClassVar[str] = "classifying"
    kept: ClassVar[str] = "the classes of the other {} are written"

    model: nn.Module
    """`[b c H W]` -> logits `[b k]`."""
    task: Classification
    view: LabelledView
    """View of the training with its channels: `view.with_channels(3)`."""
    top: int = 5
    """Maximum number of reported classes of each picture, the most probable first."""
    batch_size: int = 8
    """Pictures that go through the model at once."""
    device: str = "auto"
    """Torch device; "auto" takes CUDA if it is available."""

    def __post_init__(self) -> None:
        for name in ("top", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: give at least 1")
        if self.view.channels is None:
            raise InputError("the view leaves the number of channels open; say it with view.with_channels(1) or (3)")

    def __call__(self, images: Tensor) -> Tensor:
        """Compute probabilities `[b k]` float32 on the CPU from normalised pictures `[b c H W]`.

        Raises:
            InputError: the device does not exist, or model and task differ in the number of classes.
        """
        with evaluation_mode(self.model, self.device) as device, torch.inference_mode():
            return self.task.probabilities(self.model(images.to(device))).cpu()

    def rank(self, images: Tensor) -> list[tuple[Guess, ...]]:
        """Return the most probable classes of normalised pictures `[b c H W]`; ties are in class order."""
        probabilities = self(images).double().numpy()
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top]
        titles = class_titles(self.task.classes)
        return [
            tuple(Guess(self.task.classes[k], titles[k], float(row[k])) for k in ranked)
            for row, ranked in zip(probabilities, order, strict=True)
        ]

    @property
    def read_at_once(self) -> int:
        return self.batch_size

    def shared_outputs(self, sources: Sequence[PictureFile], output: OutputFolder) -> list[Path]:
        """Return the table, the records and, with overlays, the sheet."""
        return [output.folder / name for name in (TABLE, RECORDS, *([SHEET] if output.overlays else []))]

    def outputs(self, source: PictureFile, output: OutputFolder) -> list[Path]:
        return []

    def read(self, source: PictureFile) -> ReadPicture:
        picture = read_image(source.path)
        shown = source.place in _places_on_sheet(source.count)
        return ReadPicture(self.view.apply(picture), thumbnail(picture) if shown else None)

    def predict(self, images: Sequence[ReadPicture]) -> list[tuple[Guess, ...]]:
        return self.rank(torch.stack([picture.image for picture in images]))

    def write(
        self, source: PictureFile, image: ReadPicture, result: tuple[Guess, ...], output: OutputFolder
    ) -> PredictedClasses:
        return PredictedClasses(source.path, result, image.thumbnail)

    def finish(self, written: list[PredictedClasses], failures: list[Failure], output: OutputFolder) -> None:
        """Write the table of classified pictures, the records including failures, and the sheet if it has pictures."""
        ranks = range(1, min(self.top, len(self.task.classes)) + 1)
        header = ["path", *(name for rank in ranks for name in (f"class_{rank}", f"probability_{rank}"))]
        with (
            atomic_path(output.folder / TABLE) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(header)
            for item in written:
                cells = [cell for guess in item.guesses for cell in (csv_cell(guess.name), f"{guess.probability:.6g}")]
                writer.writerow([csv_cell(str(item.path)), *cells])
        content = {"classes": self.task.classes, "classified": written, "failed": failures}
        write_records(output.folder / RECORDS, content)
        shown = [(item, item.thumbnail) for item in written if item.thumbnail is not None]
        if output.overlays and shown:
            captions = [_caption(item) for item, _ in shown]
            with atomic_path(output.folder / SHEET) as temporary:
                thumbnail_sheet([small for _, small in shown], captions).save(temporary, format="PNG")


@lru_cache(maxsize=4)
def class_titles(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of the classes, such as `tench`, if all are WordNet numbers; else their names."""
    if not all(WNID.fullmatch(name) for name in classes):
        return classes
    from timm.data import ImageNetInfo

    words: dict[str, str] = {}
    for known in (ImageNetInfo("imagenet-22k"), ImageNetInfo("imagenet-1k")):
        words |= zip(known.label_names(), known.label_descriptions(), strict=True)
    return tuple(words.get(name, name) for name in classes)


@lru_cache(maxsize=4)
def _places_on_sheet(count: int) -> frozenset[int]:
    return frozenset(int(place) for place in np.linspace(0, count - 1, SHOWN).round())


def _caption(item: PredictedClasses) -> tuple[str, ...]:
    best = [f"{guess.title} {guess.probability:.0%}" for guess in item.guesses[:2]]
    return (*best, item.path.name)
