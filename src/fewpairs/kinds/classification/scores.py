"""Scores of a classification from one table of images, for every resample at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError
from fewpairs.kinds.classification.record import ImageRecord, merge_image_records
from fewpairs.scoring.interval import Array
from fewpairs.scoring.score_table import CLASSIFICATION_SCORES

TOP = 5
"""Places that count for `top5`."""


@dataclass(frozen=True, slots=True)
class ImageTable:
    """The images of one evaluation, sorted by class and then by name, with what each adds to a score."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    """`[n]`, ascending."""
    columns: dict[str, Array]
    """By score, `[n]`: what its mean over images is made of. `nll` is NaN where outputs were not finite."""

    @property
    def first(self) -> NDArray[np.int64]:
        """Where each class that occurs begins."""
        return np.flatnonzero(np.diff(self.labels, prepend=-1))

    @property
    def support(self) -> NDArray[np.int64]:
        """Images of each class `[k]`."""
        return np.bincount(self.labels, minlength=len(self.classes))


def tabulate(records: Iterable[ImageRecord]) -> ImageTable:
    """The table of an evaluation. Raises InputError without records."""
    merged = sorted(merge_image_records(records), key=lambda record: record.label)
    if not merged:
        raise InputError("there is nothing to score: no image was evaluated; check that the split holds images")
    rank = np.array([np.inf if r.rank is None else r.rank for r in merged])
    nll = np.array([np.nan if r.nll is None else r.nll for r in merged])
    return ImageTable(
        tuple(record.id for record in merged),
        merged[0].classes,
        np.array([record.label for record in merged]),
        {
            "top1": (rank == 1).astype(np.float64),
            "top5": (rank <= TOP).astype(np.float64),
            "nll": nll,
            "not_finite": np.isinf(rank).astype(np.float64),
        },
    )


def score_names(tables: Sequence[ImageTable]) -> list[str]:
    """The scores that evaluations of the same images have, in the order of `CLASSIFICATION_SCORES`."""
    classes = tables[0].classes
    names: list[str] = []
    for score in CLASSIFICATION_SCORES.values():
        if score.name == "not_finite" and not any(table.columns["not_finite"].any() for table in tables):
            continue
        names += [score.name] * (score.overall and len(classes) >= score.least_classes)
        names += [f"{score.name}/{label}" for label in classes if score.per_class]
    return names


def needed_columns(names: Sequence[str]) -> tuple[list[str], bool]:
    """The columns of a table that the named scores are made of, and whether they need the classes."""
    by_class = any(name == "balanced_accuracy" or "/" in name for name in names)
    columns = [name for name in ("top1", "top5", "nll", "not_finite") if name in names]
    return (columns if "top1" in columns or not by_class else ["top1", *columns]), by_class


def scores_of(table: ImageTable, weights: Array, names: Sequence[str]) -> dict[str, Array]:
    """`[r n]` how often each image was drawn -> the named scores, each `[r]`; NaN where a score is not defined."""
    columns, by_class = needed_columns(names)
    means = weights @ np.column_stack([table.columns[name] for name in columns]) / weights.sum(axis=1, keepdims=True)
    result = dict(zip(columns, means.T, strict=True))
    if by_class:
        recall = np.full((len(weights), len(table.classes)), np.nan)
        drawn = np.add.reduceat(weights, table.first, axis=1)
        right = np.add.reduceat(weights * table.columns["top1"], table.first, axis=1)
        recall[:, table.labels[table.first]] = np.divide(right, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
        there = ~np.isnan(recall)
        result["balanced_accuracy"] = np.where(there, recall, 0.0).sum(axis=1) / there.sum(axis=1)
        result |= {f"recall/{label}": recall[:, index] for index, label in enumerate(table.classes)}
    return {name: result[name] for name in names}


def image_scores(records: Iterable[ImageRecord]) -> dict[str, float]:
    """Every score of an evaluation by name (see `CLASSIFICATION_SCORES`); NaN where one is not defined.

    `nll` is not defined as soon as one image's outputs were not finite; every other score counts that image as wrong,
    and `not_finite` says how many there are. `recall/<class>` is not defined for a class without images.
    """
    table = tabulate(records)
    everyone = np.ones((1, len(table.ids)))
    return {name: float(value[0]) for name, value in scores_of(table, everyone, score_names([table])).items()}
