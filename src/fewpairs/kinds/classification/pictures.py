"""Pictures that a classifier got wrong, for its report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from fewpairs.errors import InputError
from fewpairs.kinds.classification.dataset import ClassificationItems
from fewpairs.kinds.classification.record import ClassificationRecord, confident_mistakes
from fewpairs.kinds.kind import Built
from fewpairs.report import Overlay
from fewpairs.report.thumbnails import thumbnail, thumbnail_sheet
from fewpairs.train.run_folder import Weights

if TYPE_CHECKING:
    from fewpairs.kinds.classification.experiment import ClassificationExperiment

MISTAKES = 24
"""Maximum number of wrong predictions in a report."""


def show_mistakes(
    experiment: ClassificationExperiment,
    folder: Path,
    records: Sequence[ClassificationRecord],
    *,
    weights: Weights,
    headline: str,
    chosen_by: Sequence[ClassificationRecord],
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """Return a sheet of the images that `chosen_by` got wrong with the highest confidence, as `records` classify them.

    An empty tuple if none is wrong.
    """
    by_name = {record.id: record for record in records}
    wrong = [by_name[record.id] for record in confident_mistakes(chosen_by, MISTAKES)]
    if not wrong:
        return ()
    built = experiment.build(progress=False) if built is None else built
    validation, classes = cast(ClassificationItems, built.validation), built.task.classes
    source = validation.source
    places = {source.id(int(number)): int(number) for number in validation.indices}
    sheet = mistakes_sheet(
        [np.asarray(source.read(places[record.id])) for record in wrong],
        [classes[record.label] for record in wrong],
        [classes[record.predicted] for record in wrong],
        [record.confidence or 0.0 for record in wrong],
    )
    right = sum(record.right for record in records)
    mistakes = f"{len(records) - right} among {len(records)} images"
    if chosen_by is records:
        caption = f"mistakes: the {len(wrong)} surest of {mistakes}"
    else:
        here = sum(not record.right for record in wrong)
        caption = f"the first recipe's surest mistakes: {here} of {len(wrong)} are wrong here too; in all {mistakes}"
    return (Overlay(rank="mistakes", caption=caption, png=sheet),)


def mistakes_sheet(
    images: Sequence[ArrayLike], truths: Sequence[str], predictions: Sequence[str], confidences: Sequence[float]
) -> bytes:
    """Draw a PNG of thumbnails, each with true class, predicted class and confidence below.

    Images are `[H W]` or `[H W 3]`: uint8 is shown as it is, other numbers from their smallest to their largest finite
    value. Confidences are shares. Raises InputError if there are none or their numbers differ.
    """
    counts = {len(images), len(truths), len(predictions), len(confidences)}
    if len(counts) != 1 or not images:
        raise InputError(
            f"a sheet needs one truth, prediction and confidence for each of at least one image, got {len(images)} "
            f"images, {len(truths)} truths, {len(predictions)} predictions, {len(confidences)} confidences"
        )
    captions = [
        (f"true: {truth}", f"predicted: {predicted}", f"{100 * sure:.1f} % sure")
        for truth, predicted, sure in zip(truths, predictions, confidences, strict=True)
    ]
    buffer = io.BytesIO()
    thumbnail_sheet([thumbnail(_picture(image)) for image in images], captions).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _picture(image: ArrayLike) -> Image.Image:
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or pixels.size == 0:
        raise InputError(f"a picture must be [H W] or [H W 3], got {list(pixels.shape)}")
    if pixels.dtype != np.uint8:
        values = pixels.astype(np.float64)
        finite = np.isfinite(values)
        low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
        share = np.where(finite, values - low, 0.0) / (high - low if high > low else 1.0)
        pixels = np.clip(np.rint(share * 255), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)
