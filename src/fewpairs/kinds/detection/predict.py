"""Prediction of objects in image files: COCO results, label maps of masks, and images with boxes.

files -> images [1 c H W] in 0..1 -> Detector -> Detections, in each image's own pixels -> files
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewpairs.data.memory import check_memory
from fewpairs.data.pictures import read_image
from fewpairs.errors import InputError
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
from fewpairs.kinds.predictor import Failure, OutputFolder, PictureFile, PicturePredictor, Prediction
from fewpairs.models import Detector
from fewpairs.models.large_images import is_large
from fewpairs.safe_text import file_name
from fewpairs.train.processes import evaluation_mode
from fewpairs.types import Detections, Size

RESULTS = "detections.json"
_BYTES = 10
"""Memory for a pixel of a large picture after it is read: its label map, and a mask on its way to a file."""


@dataclass(frozen=True)
class PredictedObjects(Prediction):
    """The result of one image."""

    path: Path
    objects: dict[str, int]
    """Number of objects by class, with a score of at least the threshold."""
    detections: int
    """Number of all detections."""
    outputs: tuple[Path, ...]
    """Files of this image alone."""
    results: list[dict[str, Any]] = field(repr=False)
    """All detections as COCO results."""

    def summary(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in self.objects.items() if count)
        return f"{self.path}  {found or 'nothing'}"


@dataclass(frozen=True)
class DetectionPredictor(PicturePredictor[Tensor, Detections, PredictedObjects]):
    """Predicts the objects in new images.

    `detections.json` is a list of COCO results, whose `image_id` is the name of the file; 16-bit label maps number the
    objects from 1 by decreasing score.
    """

    doing: ClassVar[str] = "detecting"
    kept: ClassVar[str] = "what was found in the other {} is written"

    model: Detector
    task: Detection
    view: DetectionView
    """The view of the training."""
    category_of: dict[str, int]
    """The category id of each class in COCO results."""
    threshold: float = 0.5
    """Objects with lower scores are neither counted nor drawn; COCO results contain all detections."""
    device: str = "auto"
    """A torch device; "auto" uses a CUDA device if there is one."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError(f"threshold={self.threshold} is not a score; give a number from 0 to 1, such as 0.5")

    def __call__(self, image: Tensor) -> Detections:
        """Predict the objects in an image `[c H W]`, the highest score first; they are on the CPU.

        The image is float32 in 0..1, or uint8, which takes less memory if it is large.

        Raises:
            InputError: the device does not exist.
        """
        with evaluation_mode(self.model, self.device) as device, torch.inference_mode():
            (found,) = self.model(image[None].to(device))
        assert isinstance(found, Detections)
        return found.to("cpu")

    def shared_outputs(self, sources: Sequence[PictureFile], output: OutputFolder) -> list[Path]:
        return [output.folder / RESULTS]

    def outputs(self, source: PictureFile, output: OutputFolder) -> list[Path]:
        """Return the files of the image with boxes, unless switched off, and of the label map if there are masks."""
        names = (*(["boxes"] if output.overlays else []), *(["objects"] if self.model.masks else []))
        return [output.folder / file_name(f"{source.path.stem}-{name}", ".png") for name in names]

    def read(self, source: PictureFile) -> Tensor:
        """Read an image `[c H W]` uint8.

        Raises:
            DataError: it is damaged, or the model's input and the results need more memory than there is.
        """
        pixels = self.view.pixels(read_image(source.path))
        native = _size(pixels)
        if is_large(native):
            height, width = self.view.scaled(native)
            needed = _BYTES * native[0] * native[1] + 12 * len(pixels) * height * width
            what = f"{source.path} ({native[0]} x {native[1]} pixels, {height} x {width} for the model)"
            check_memory(needed, what, "shrink the picture, or cut it into parts")
        return pixels

    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        return [self(pixels if is_large(_size(pixels)) else pixels.float() / 255) for pixels in images]

    def write(self, source: PictureFile, image: Tensor, result: Detections, output: OutputFolder) -> PredictedObjects:
        classes, files = self.task.classes, self.outputs(source, output)
        if output.overlays:
            write_picture(draw_detections(image, result, classes, threshold=self.threshold), files[0])
        if self.model.masks:
            write_label_map(label_map(result, _size(image), threshold=self.threshold), files[-1])
        sure = Counter(result.labels[result.scores >= self.threshold].tolist())
        return PredictedObjects(
            path=source.path,
            objects={title: sure[label] for label, title in enumerate(classes)},
            detections=len(result),
            outputs=tuple(files),
            results=coco_results(source.path.name, result, classes, self.category_of),
        )

    def finish(self, written: list[PredictedObjects], failures: list[Failure], output: OutputFolder) -> None:
        if written:
            write_results([one for item in written for one in item.results], output.folder / RESULTS)


def _size(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]
