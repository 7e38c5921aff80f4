"""The words of reports that depend on the kind of experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of reports about one kind of experiment."""

    unit: str
    """The independent unit that is resampled, such as a case."""
    units: str
    main: tuple[str, ...]
    """The scores of the summary; other scores get a table of their own."""
    resampling: Mapping[str, str]
    """What readers must know of intervals, as the end of a sentence, by what the bootstrap resamples."""
    pictures: str
    """The heading above the pictures."""
    alternative: str
    """Alternative text of a picture; `{rank}` stands for its rank."""
    counted: str | None = None
    """What confusions count; None means `units`."""


def _resampling(units: str, alone: str) -> dict[str, str]:
    """What is to be known of intervals over these units, `alone` or with seeds."""
    return {
        units: alone,
        f"{units} and seeds": f"every resample draws {units} and, for each recipe on its own, training seeds, so they "
        f"speak of other {units} and other trainings; drawn from few seeds they are rough",
    }


_IMAGES = _resampling("images", "they speak of other images, classified by these very trainings")

VOCABULARIES: dict[str, Vocabulary] = {
    "segmentation": Vocabulary(
        unit="case",
        units="cases",
        main=("jaccard", "jaccard_weighted", "dice", "hd95_mm"),
        resampling=_resampling("cases", "patients, not slices, are independent of each other"),
        pictures="Best, median and worst cases",
        alternative="{rank} case, truth and prediction over the image",
    ),
    "classification": Vocabulary(
        unit="image",
        units="images",
        main=("top1", "top5", "balanced_accuracy"),
        resampling=_IMAGES,
        pictures="Surest mistakes",
        alternative="images with their true class and the class predicted with high confidence",
    ),
    "detection": Vocabulary(
        unit="image",
        units="images",
        main=("ap", "ap50", "ap75", "mask_ap", "mask_ap50", "mask_ap75"),
        resampling=_resampling("images", "they speak of other images, searched by these very trainings"),
        pictures="Best, median and worst images",
        alternative="{rank} image: the objects that are there, and the boxes that were found",
    ),
    "semantic": Vocabulary(
        unit="image",
        units="images",
        main=("miou", "macc", "aacc"),
        resampling=_resampling("images", "they speak of other images, segmented by these very trainings")
        | _resampling("cases", "patients, not images, are independent of each other"),
        pictures="Best, median and worst images",
        alternative="{rank} image: the picture, its true label map, and the predicted one",
        counted="pixels",
    ),
    "self-distillation": Vocabulary(
        unit="image",
        units="images",
        main=("knn_top1", "knn_top5"),
        resampling=_IMAGES,
        pictures="Surest mistakes",
        alternative="images with their true class and the class that their neighbours vote for",
    ),
}
"""The vocabulary of each kind of experiment (`Comparison.kind`)."""
