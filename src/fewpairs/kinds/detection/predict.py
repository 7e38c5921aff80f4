"""From picture files to the objects in them: COCO results, label maps of masks, and pictures with boxes.

files -> pictures [1 c H W] in 0..1 -> Detector -> Detections, in each picture's own pixels -> files
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewpairs.data.pictures import find_pictures, read_image
from fewpairs.data.progress import track
from fewpairs.errors import DataError, FewpairsError, InputError
from fewpairs.kinds.detection.task import Detection
from fewpairs.kinds.detection.view import DetectionView
from fewpairs.kinds.detection.writing import (
    coco_results,
    draw_detections,
    label_map,
    write_label_map,
    write_picture,
    write_results,
)
from fewpairs.models import Detector
from fewpairs.train.processes import resolve_device
from fewpairs.types import Detections

RESULTS = "detections.json"


@dataclass(frozen=True)
class Finder:
    """A detector with all that a new picture needs for its objects to be found."""

    model: Detector
    task: Detection
    view: DetectionView
    """That of the training."""
    category_of: dict[str, int]
    """The number of each class in COCO results."""
    threshold: float = 0.5
    """Objects of lower scores are neither counted nor drawn; COCO results hold all that the detector gives."""
    device: str = "auto"
    """A torch device; "auto" takes a CUDA device where there is one."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError(f"threshold={self.threshold} is a score; give a number from 0 to 1, such as 0.5")

    def __call__(self, image: Tensor) -> Detections:
        """A picture `[c H W]` float32 in 0..1 -> its objects, the highest score first, on the CPU.

        Raises:
            InputError: a device that is not there.
        """
        device = _device(self.device)
        was_training = self.model.training
        self.model.to(device).eval()
        try:
            with torch.inference_mode():
                (found,) = self.model(image[None].to(device))
        finally:
            self.model.train(was_training)
        assert isinstance(found, Detections)
        return found.to("cpu")

    def sure(self, found: Detections) -> Detections:
        """Those with a score of at least `threshold`."""
        kept = found.scores >= self.threshold
        masks = None if found.masks is None else found.masks[kept]
        return Detections(found.boxes[kept], found.scores[kept], found.labels[kept], masks)


@dataclass(frozen=True, slots=True)
class Searched:
    """What was found in one picture."""

    path: Path
    objects: dict[str, int]
    """By class, with a score of at least the threshold."""
    detections: int
    """All that the detector gave."""
    outputs: tuple[Path, ...]
    """Files about this picture alone."""


@dataclass(frozen=True, slots=True)
class Unsearched:
    """A file that could not be searched, and why."""

    path: Path
    message: str


class DetectionError(FewpairsError):
    """Some files failed (exit status 1); what was found in the others is written and listed in `written`."""

    def __init__(self, failures: Sequence[Unsearched], written: Sequence[Searched]) -> None:
        self.failures, self.written = tuple(failures), tuple(written)
        lines = "".join(f"\n  {failure.message}" for failure in failures)
        kept = f"; what was found in the other {len(written)} is written" if written else ""
        total = len(failures) + len(written)
        super().__init__(f"{len(failures)} of {total} picture{'s' if total != 1 else ''} failed{kept}:{lines}")


@dataclass(frozen=True, slots=True)
class FoundOutput:
    """Where results go: `detections.json`, `NAME-boxes.png`, and of a detector of masks `NAME-objects.png`."""

    folder: Path
    pictures: bool = True
    """Whether pictures with boxes are written."""
    overwrite: bool = False

    def of(self, name: str, *, masks: bool) -> tuple[Path, ...]:
        """The files of one picture: with boxes, then the label map."""
        kinds = (*(["boxes"] if self.pictures else []), *(["objects"] if masks else []))
        return tuple(self.folder / f"{name}-{kind}.png" for kind in kinds)


def detect_files(
    finder: Finder, inputs: Sequence[Path | str], output: FoundOutput, *, progress: bool = True
) -> list[Searched]:
    """Find the objects in files and folders of pictures, and write what was found.

    `detections.json` is a list of COCO results, whose `image_id` is the name of the file; label maps number the objects
    from 1 by falling score, in 16 bits.

    Raises:
        InputError: no pictures, two of one name, or files that are there already.
        DetectionError: files that cannot be read; raised at the end, when the others are written.
    """
    paths = find_pictures(inputs)
    names = _names(paths)
    _check(names, output, masks=finder.model.masks)
    output.folder.mkdir(parents=True, exist_ok=True)
    work = _Work(finder, output)
    for path in track(paths, "detecting", enabled=progress):
        work.search(path, names[path])
    if work.written:
        write_results(work.results, output.folder / RESULTS)
    if work.failures:
        raise DetectionError(work.failures, work.written)
    return work.written


@dataclass
class _Work:
    """Pictures done so far, what was found in them, and what went wrong."""

    finder: Finder
    output: FoundOutput
    written: list[Searched] = field(default_factory=list)
    failures: list[Unsearched] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def search(self, path: Path, name: str) -> None:
        finder, classes = self.finder, self.finder.task.classes
        try:
            pixels = finder.view.pixels(read_image(path))
        except DataError as error:
            self.failures.append(Unsearched(path, str(error)))
            return
        found = finder(pixels.float() / 255)
        files = self.output.of(name, masks=finder.model.masks)
        if self.output.pictures:
            write_picture(draw_detections(pixels, found, classes, threshold=finder.threshold), files[0])
        if finder.model.masks:
            size = (pixels.shape[-2], pixels.shape[-1])
            write_label_map(label_map(found, size, threshold=finder.threshold), files[-1])
        self.results += coco_results(path.name, found, classes, finder.category_of)
        counted = Counter(finder.sure(found).labels.tolist())
        objects = {title: counted[label] for label, title in enumerate(classes)}
        self.written.append(Searched(path, objects, len(found), files))


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """What the files of each picture are called."""
    names: dict[str, Path] = {}
    for path in paths:
        first = names.setdefault(path.stem, path)
        if first is not path:
            raise InputError(f"{first} and {path} have one name, and so would their results; give them apart")
    return {path: name for name, path in names.items()}


def _check(names: dict[Path, str], output: FoundOutput, *, masks: bool) -> None:
    if output.folder.exists() and not output.folder.is_dir():
        raise InputError(f"{output.folder} is a file; name a folder for the results")
    files = [output.folder / RESULTS, *(file for name in names.values() for file in output.of(name, masks=masks))]
    inputs = {path.resolve() for path in names}
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
