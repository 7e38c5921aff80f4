"""From picture files to label maps: a class for every pixel of each picture, at its own size.

files -> pictures [1 c h w] -> InferenceSegmenter -> labels [H W] -> NAME.png, overlays/NAME.png, predictions.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fewpairs.data.atomic import atomic_path
from fewpairs.data.pictures import find_pictures, read_image
from fewpairs.data.progress import track
from fewpairs.errors import DataError, FewpairsError, InputError
from fewpairs.kinds.semantic.label_maps import label_overlay, paletted
from fewpairs.kinds.semantic.names import Colour
from fewpairs.kinds.semantic.task import Semantic
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.train.processes import resolve_device
from fewpairs.types import IGNORE

RECORDS, OVERLAYS = "predictions.json", "overlays"


@dataclass(frozen=True)
class Labeller:
    """A segmenter with all that a new picture needs to become a label map."""

    model: nn.Module
    """`[b c h w]` -> logits `[b k h w]`, swept over the picture as its experiment says (`Experiment.judged`)."""
    task: Semantic
    view: SemanticView
    """That of the training, with its channels: `view.with_channels(3)`."""
    colours: tuple[Colour, ...]
    """Of the classes, in pictures of label maps."""
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
        device = _device(self.device)
        was_training = self.model.training
        self.model.to(device).eval()
        try:
            with torch.inference_mode():
                logits = self.model(self.view.apply(picture)[None].to(device))
                labels = self.task.labels(logits, (picture.height, picture.width))[0]
        finally:
            self.model.train(was_training)
        return labels.cpu().numpy()


@dataclass(frozen=True, slots=True)
class Mapped:
    """What one picture became."""

    path: Path
    output: Path
    """The label map: a picture with a palette, whose stored numbers are the labels."""
    overlay: Path | None
    pixels: dict[str, int]
    """Of each class that was found, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A file that could not be segmented, and why."""

    path: Path
    message: str


class LabellingError(FewpairsError):
    """Some files failed (exit status 1); the label maps of the others are written and listed in `written`."""

    def __init__(self, failures: Sequence[Unmapped], written: Sequence[Mapped]) -> None:
        self.failures, self.written = tuple(failures), tuple(written)
        lines = "".join(f"\n  {failure.message}" for failure in failures)
        kept = f"; the label maps of the other {len(written)} are written" if written else ""
        total = len(failures) + len(written)
        super().__init__(f"{len(failures)} of {total} picture{'s' if total != 1 else ''} failed{kept}:{lines}")


@dataclass(frozen=True, slots=True)
class LabelOutput:
    """Where label maps go: `NAME.png`, `predictions.json` and, unless left out, `overlays/NAME.png`."""

    folder: Path
    overlays: bool = True
    overwrite: bool = False

    def label_map(self, path: Path) -> Path:
        """The label map of a picture."""
        return self.folder / f"{path.stem}.png"

    def overlay(self, path: Path) -> Path | None:
        """The picture under its label map."""
        return self.folder / OVERLAYS / f"{path.stem}.png" if self.overlays else None


def label_files(
    labeller: Labeller, inputs: Sequence[Path | str], output: LabelOutput, *, progress: bool = True
) -> list[Mapped]:
    """Segment files and folders of pictures, and write label maps, overlays and a record of them.

    Raises:
        InputError: no pictures, two of one name, or files that are there already.
        LabellingError: files that cannot be read; raised at the end, when the others are written.
    """
    paths = find_pictures(inputs)
    _check(paths, output)
    work = _Work(labeller, output)
    for path in track(paths, "segmenting", enabled=progress):
        work.segment(path)
    content = {
        "classes": list(labeller.task.classes),
        "colours": [list(colour) for colour in labeller.colours],
        "segmented": [asdict(item) for item in work.written],
        "failed": [asdict(item) for item in work.failures],
    }
    with atomic_path(output.folder / RECORDS) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    if work.failures:
        raise LabellingError(work.failures, work.written)
    return work.written


@dataclass
class _Work:
    """Pictures done so far: what they became, and what went wrong."""

    labeller: Labeller
    output: LabelOutput
    written: list[Mapped] = field(default_factory=list)
    failures: list[Unmapped] = field(default_factory=list)

    def segment(self, path: Path) -> None:
        try:
            picture = read_image(path)
        except DataError as error:
            self.failures.append(Unmapped(path, str(error)))
            return
        labels, classes, colours = self.labeller(picture), self.labeller.task.classes, self.labeller.colours
        with atomic_path(self.output.label_map(path)) as temporary:
            paletted(labels, colours).save(temporary, format="PNG", optimize=True)
        overlay = self.output.overlay(path)
        if overlay is not None:
            with atomic_path(overlay) as temporary:
                label_overlay(np.asarray(picture), labels, classes, colours, title=path.name).save(
                    temporary, format="PNG"
                )
        counts = np.bincount(labels[labels != IGNORE], minlength=len(classes))
        order = sorted(np.flatnonzero(counts).tolist(), key=lambda place: -counts[place])
        pixels = {classes[place]: int(counts[place]) for place in order}
        self.written.append(Mapped(path, self.output.label_map(path), overlay, pixels))


def _check(paths: Sequence[Path], output: LabelOutput) -> None:
    """Raise InputError when an output would replace an input, another output, or a file that is there."""
    inputs = {path.resolve() for path in paths}
    planned: dict[Path, Path] = {}
    for path in paths:
        target = output.label_map(path)
        other = planned.setdefault(target, path)
        if other is not path:
            raise InputError(f"{path} and {other} would both become {target}; predict them separately")
    files = [output.folder / RECORDS, *planned, *(over for path in paths if (over := output.overlay(path)))]
    for file in files:
        if file.resolve() in inputs:
            raise InputError(f"{file} is one of the pictures and would be overwritten; choose another folder")
    there = [file for file in files if file.exists()]
    if there and not output.overwrite:
        are = f" and {len(there) - 1} more exist" if len(there) > 1 else " exists"
        raise InputError(f"{there[0]}{are} already; choose another folder, or replace with --overwrite")


def _device(name: str) -> torch.device:
    try:
        return resolve_device(name, "fp32")
    except RuntimeError as error:
        raise InputError(f"device={name!r} is none that PyTorch knows: auto, cpu, cuda, cuda:0, ...") from error
