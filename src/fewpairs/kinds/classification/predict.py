"""From picture files to their classes: read, cut and normalise as in evaluation, classify, write a table and a sheet.

files -> pictures [b c H W] -> Classifier -> probabilities [b k] -> predictions.csv, predictions.json, sheet.png
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fewpairs.data.atomic import atomic_path
from fewpairs.data.pictures import find_pictures, read_image
from fewpairs.data.progress import track
from fewpairs.errors import DataError, FewpairsError, InputError
from fewpairs.kinds.classification.layouts.imagenet import WNID
from fewpairs.kinds.classification.task import Classification
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.report.thumbnails import thumbnail, thumbnail_sheet
from fewpairs.train.processes import resolve_device

TABLE, RECORDS, SHEET = "predictions.csv", "predictions.json", "sheet.png"
SHOWN = 48
"""Pictures that a sheet shows at most."""


@dataclass(frozen=True)
class Classifier:
    """A model with all that a new picture needs to become a class."""

    model: nn.Module
    """`[b c H W]` -> logits `[b k]`."""
    task: Classification
    view: LabelledView
    """That of the training, with its channels: `view.with_channels(3)`."""
    top: int = 5
    """How many classes of each picture are reported, the likeliest first; fewer where there are fewer."""
    batch_size: int = 32
    """Pictures that go through the model at once."""
    device: str = "auto"
    """A torch device; "auto" takes a CUDA device where there is one."""

    def __post_init__(self) -> None:
        for name in ("top", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: give at least 1")
        if self.view.channels is None:
            raise InputError("the view leaves the number of channels open; say it with view.with_channels(1) or (3)")

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised pictures `[b c H W]` -> probabilities `[b k]` float32, on the CPU.

        Raises:
            InputError: a device that is not there, or a model with another number of classes than the task.
        """
        device = _device(self.device)
        was_training = self.model.training
        self.model.to(device).eval()
        try:
            with torch.inference_mode():
                return self.task.probabilities(self.model(images.to(device))).cpu()
        finally:
            self.model.train(was_training)

    def rank(self, images: Tensor) -> list[tuple[Guess, ...]]:
        """Normalised pictures `[b c H W]` -> the likeliest classes of each; of equal ones the first."""
        probabilities = self(images).double().numpy()
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top]
        titles = class_titles(self.task.classes)
        return [
            tuple(Guess(self.task.classes[k], titles[k], float(row[k])) for k in ranked)
            for row, ranked in zip(probabilities, order, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Guess:
    """One class that a picture may have."""

    name: str
    title: str
    """The name for people: of WordNet numbers the words, of all others the name itself."""
    probability: float


@dataclass(frozen=True, slots=True)
class Classified:
    """What one picture became."""

    path: Path
    guesses: tuple[Guess, ...]
    """The likeliest class first."""


@dataclass(frozen=True, slots=True)
class UnreadPicture:
    """A file that could not be classified, and why."""

    path: Path
    message: str


class ClassificationError(FewpairsError):
    """Some files failed (exit status 1); the classes of the others are written and listed in `written`."""

    def __init__(self, failures: Sequence[UnreadPicture], written: Sequence[Classified]) -> None:
        self.failures, self.written = tuple(failures), tuple(written)
        lines = "".join(f"\n  {failure.message}" for failure in failures)
        kept = f"; the classes of the other {len(written)} are written" if written else ""
        total = len(failures) + len(written)
        super().__init__(f"{len(failures)} of {total} picture{'s' if total != 1 else ''} failed{kept}:{lines}")


@dataclass(frozen=True, slots=True)
class ClassOutput:
    """Where predictions go: `predictions.csv`, `predictions.json` and, unless left out, `sheet.png`."""

    folder: Path
    sheet: bool = True
    overwrite: bool = False

    @property
    def files(self) -> list[Path]:
        """Every file that will be written."""
        return [self.folder / name for name in (TABLE, RECORDS, *([SHEET] if self.sheet else []))]


def classify_files(
    classifier: Classifier, inputs: Sequence[Path | str], output: ClassOutput, *, progress: bool = True
) -> list[Classified]:
    """Classify files and folders of pictures, and write the table, the records and a sheet of some of them.

    Raises:
        InputError: no pictures, or files that are there already.
        ClassificationError: files that cannot be read; raised at the end, when the others are written.
    """
    paths = find_pictures(inputs)
    _check(paths, output)
    work = _Work(classifier, frozenset(int(place) for place in np.linspace(0, len(paths) - 1, SHOWN).round()))
    size = classifier.batch_size
    for start in track(range(0, len(paths), size), "classifying", enabled=progress):
        work.classify(start, paths[start : start + size])
    _write(work, output)
    if work.failures:
        raise ClassificationError(work.failures, work.written)
    return work.written


@dataclass
class _Work:
    """Pictures done so far: what they became, what went wrong, and small copies of those in `shown`."""

    classifier: Classifier
    shown: frozenset[int]
    """Places of the pictures on the sheet."""
    written: list[Classified] = field(default_factory=list)
    failures: list[UnreadPicture] = field(default_factory=list)
    thumbnails: dict[Path, Image.Image] = field(default_factory=dict)

    def classify(self, start: int, paths: Sequence[Path]) -> None:
        """One batch, whose first picture has the place `start`."""
        read: list[Path] = []
        images: list[Tensor] = []
        for place, path in enumerate(paths, start=start):
            try:
                picture = read_image(path)
            except DataError as error:
                self.failures.append(UnreadPicture(path, str(error)))
                continue
            read.append(path)
            images.append(self.classifier.view.apply(picture))
            if place in self.shown:
                self.thumbnails[path] = thumbnail(picture)
        if images:
            ranked = self.classifier.rank(torch.stack(images))
            self.written += [Classified(path, guesses) for path, guesses in zip(read, ranked, strict=True)]


@lru_cache(maxsize=4)
def class_titles(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Names for people: where all classes are WordNet numbers their words, as `tench`; else the names themselves."""
    if not all(WNID.fullmatch(name) for name in classes):
        return classes
    from timm.data import ImageNetInfo

    words: dict[str, str] = {}
    for known in (ImageNetInfo("imagenet-22k"), ImageNetInfo("imagenet-1k")):
        words |= zip(known.label_names(), known.label_descriptions(), strict=True)
    return tuple(words.get(name, name) for name in classes)


def _write(work: _Work, output: ClassOutput) -> None:
    """The table of what was classified, the records with what was not, and the sheet if any picture was read."""
    ranks = range(1, min(work.classifier.top, len(work.classifier.task.classes)) + 1)
    header = ["path", *(name for rank in ranks for name in (f"class_{rank}", f"probability_{rank}"))]
    with (
        atomic_path(output.folder / TABLE) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        for item in work.written:
            cells = [cell for guess in item.guesses for cell in (guess.name, f"{guess.probability:.6g}")]
            writer.writerow([str(item.path), *cells])
    content = {
        "classes": list(work.classifier.task.classes),
        "classified": [asdict(item) for item in work.written],
        "failed": [asdict(item) for item in work.failures],
    }
    with atomic_path(output.folder / RECORDS) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    shown = [item for item in work.written if item.path in work.thumbnails]
    if output.sheet and shown:
        captions = [_caption(item) for item in shown]
        with atomic_path(output.folder / SHEET) as temporary:
            thumbnail_sheet([work.thumbnails[item.path] for item in shown], captions).save(temporary, format="PNG")


def _caption(item: Classified) -> tuple[str, ...]:
    best = [f"{guess.title} {guess.probability:.0%}" for guess in item.guesses[:2]]
    return (*best, item.path.name)


def _check(paths: Sequence[Path], output: ClassOutput) -> None:
    """Raise InputError when an output would replace an input, or a file that is there."""
    inputs = {path.resolve() for path in paths}
    for path in output.files:
        if path.resolve() in inputs:
            raise InputError(f"{path} is one of the pictures and would be overwritten; choose another folder")
    there = [path for path in output.files if path.exists()]
    if there and not output.overwrite:
        are = f" and {len(there) - 1} more exist" if len(there) > 1 else " exists"
        raise InputError(f"{there[0]}{are} already; choose another folder, or replace with --overwrite")


def _device(name: str) -> torch.device:
    try:
        return resolve_device(name, "fp32")
    except RuntimeError as error:
        raise InputError(f"device={name!r} is none that PyTorch knows: auto, cpu, cuda, cuda:0, ...") from error
