"""Table of all scores with title, unit and direction, used by reports, monitors and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fewpairs.errors import InputError, nearest

Unit = Literal["", "%", "mm", "nats"]


@dataclass(frozen=True, slots=True)
class Score:
    """Score, or family of scores with one for each class."""

    name: str
    title: str
    unit: Unit
    """Unit in reports: "" for a share between 0 and 1, "%" for a share that is shown in percent."""
    higher_is_better: bool
    meaning: str
    per_class: bool = False
    """Whether `name/<class>` exists."""
    overall: bool = True
    """Whether `name` itself exists."""
    surface: bool = False
    """Whether it needs surface distances."""
    least_classes: int = 1
    """Number of classes below which the score is left out."""


SEGMENTATION_SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("jaccard", "Jaccard", "", True, "pooled over the evaluation set, mean over classes", per_class=True),
        Score("jaccard_weighted", "Weighted Jaccard", "", True, "pooled, classes weighted by true voxels"),
        Score("jaccard_with_background", "Jaccard with background", "", True, "macro, k + 1 classes"),
        Score(
            "jaccard_weighted_with_background",
            "Weighted Jaccard with background",
            "",
            True,
            "k + 1 classes weighted by true voxels; the background dominates",
        ),
        Score("dice", "Dice", "", True, "pooled over the evaluation set, mean over classes", per_class=True),
        Score("dice_per_scan", "Dice per scan", "", True, "mean over scans, then over classes", per_class=True),
        Score(
            "hd95_mm",
            "HD95",
            "mm",
            False,
            "95 % Hausdorff distance, mean over scans, then classes",
            per_class=True,
            surface=True,
        ),
        Score("kaggle", "Kaggle score", "", True, "0.4 Dice by slices + 0.6 Hausdorff score (a proxy)", surface=True),
    )
}
"""Scores of segmentation, in the order of reports."""

CLASSIFICATION_SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("top1", "Top-1", "%", True, "images whose true class has the highest output"),
        Score("top5", "Top-5", "%", True, "images whose true class is among the five highest outputs", least_classes=6),
        Score("balanced_accuracy", "Balanced accuracy", "%", True, "recall, mean over the classes that there are"),
        Score("nll", "Log loss", "nats", False, "minus the logarithm of the true class's softmax, mean over images"),
        Score("not_finite", "Outputs not finite", "%", False, "images without usable outputs, counted as wrong"),
        Score("recall", "Recall", "%", True, "images of a class that are recognised", per_class=True, overall=False),
    )
}
"""Scores of classification; `not_finite` is left out if it is 0."""

FEATURE_SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("knn_top1", "k-NN top-1", "%", True, "images whose class their nearest training images vote for"),
        Score(
            "knn_top5",
            "k-NN top-5",
            "%",
            True,
            "images whose class is among the first five of that vote",
            least_classes=6,
        ),
        Score("spread", "Spread of features", "", True, "1 for features in all directions, 0 for collapsed ones"),
    )
}
"""Scores of features that were learnt without labels (`NeighbourMetric`)."""

_AP = (
    ("ap", "AP", "mean over the overlaps 0.50 to 0.95 and over classes, as COCO", True),
    ("ap50", "AP50", "at overlap 0.50, mean over classes", True),
    ("ap75", "AP75", "at overlap 0.75, mean over classes", False),
    ("aps", "AP small", "AP of objects below 32^2 px^2", False),
    ("apm", "AP medium", "AP of objects from 32^2 to 96^2 px^2", False),
    ("apl", "AP large", "AP of objects above 96^2 px^2", False),
)
DETECTION_SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        *(Score(name, title, "%", True, f"boxes: {meaning}", per_class=each) for name, title, meaning, each in _AP),
        *(
            Score(f"mask_{name}", f"Mask {title}", "%", True, f"masks: {meaning}", per_class=each)
            for name, title, meaning, each in _AP
        ),
        Score("detections_not_finite", "Detections not finite", "", False, "number that was left out"),
    )
}
"""Scores of detection; those of masks exist if masks are scored."""

SEMANTIC_SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("miou", "Mean IoU", "%", True, "pixels pooled over the images, mean over the classes that there are"),
        Score("macc", "Mean accuracy", "%", True, "pixels of a class that are recognised, mean over classes"),
        Score("aacc", "Pixel accuracy", "%", True, "pixels that are right, of all that are scored"),
        Score("iou", "IoU", "%", True, "pooled pixels of a class", per_class=True, overall=False),
        Score("acc", "Accuracy", "%", True, "pixels of a class that are recognised", per_class=True, overall=False),
    )
}
"""Scores of semantic segmentation."""

SCORES: dict[str, Score] = (
    SEGMENTATION_SCORES | CLASSIFICATION_SCORES | FEATURE_SCORES | DETECTION_SCORES | SEMANTIC_SCORES
)
"""All scores; no two tasks share a name."""

_LISTED = 16
"""Maximum number of scores in a message; beyond it `<class>` stands for the classes."""


def find_score(name: str, classes: Sequence[str], scores: Mapping[str, Score] = SEGMENTATION_SCORES) -> Score:
    """Return the entry of `scores` for `name` or `name/<class>`. Raises InputError with the nearest known name."""
    base, slash, label = name.partition("/")
    score = scores.get(base)
    if score is not None and len(classes) >= score.least_classes:
        exists = score.per_class and label in classes if slash else score.overall
        if exists:
            return score
    known = [s.name for s in scores.values() if s.overall and len(classes) >= s.least_classes]
    per_class = sum(s.per_class for s in scores.values())
    labels = classes if len(known) + per_class * len(classes) <= _LISTED else ["<class>"]
    known += [f"{s.name}/{c}" for s in scores.values() if s.per_class for c in labels]
    raise InputError(f"unknown score {name!r}; {nearest(name, known)}")
