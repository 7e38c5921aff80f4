"""Scores of a classification from one table of images, for every resample at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError
from fewpairs.kinds.classification.record import ClassificationRecord
from fewpairs.scoring.interval import Array
from fewpairs.scoring.records import merge_records
from fewpairs.scoring.score_table import CLASSIFICATION_SCORES
from fewpairs.scoring.unit_table import UnitTable, mean_of_defined, ratio

TOP = 5
"""Places that count for `top5`."""


@dataclass(frozen=True, kw_only=True)
class ImageTable(UnitTable):
    """The images of one evaluation, sorted by class and then by name, with what each adds to a score."""

    labels: NDArray[np.int64]
    """`[n]`, ascending."""
    columns: dict[str, Array]
    """Summands `[n]` of the mean over images, by score; `nll` is NaN if outputs were not finite."""

    @property
    def names(self) -> list[str]:
        names: list[str] = []
        for score in CLASSIFICATION_SCORES.values():
            names += [score.name] * (score.overall and len(self.classes) >= score.least_classes)
            names += [f"{score.name}/{label}" for label in self.classes if score.per_class]
        return names

    @property
    def silent(self) -> frozenset[str]:
        return frozenset(() if self.columns["not_finite"].any() else ("not_finite",))

    @property
    def first(self) -> NDArray[np.int64]:
        """Index of the first image of each class that occurs."""
        return np.flatnonzero(np.diff(self.labels, prepend=-1))

    def scores(self, weights: Array, names: Sequence[str]) -> dict[str, Array]:
        columns, by_class = needed_columns(names)
        means = weights @ np.column_stack([self.columns[name] for name in columns]) / weights.sum(axis=1, keepdims=True)
        result = dict(zip(columns, means.T, strict=True))
        if by_class:
            recall = np.full((len(weights), len(self.classes)), np.nan)
            drawn = np.add.reduceat(weights, self.first, axis=1)
            right = np.add.reduceat(weights * self.columns["top1"], self.first, axis=1)
            recall[:, self.labels[self.first]] = ratio(right, drawn)
            result["balanced_accuracy"] = mean_of_defined(recall)
            result |= {f"recall/{label}": recall[:, index] for index, label in enumerate(self.classes)}
        return {name: result[name] for name in names}

    def defining(self, name: str) -> NDArray[np.bool_]:
        label = name.partition("/")[2]
        return self.labels == self.classes.index(label) if label else np.ones(len(self.units), bool)

    def undefined(self, name: str, runs: Sequence[ImageTable]) -> str | None:
        broken = max(int(run.columns["not_finite"].sum()) for run in runs)
        if name == "nll" and broken:
            return f"the outputs for {broken} images are not finite, so it is not defined"
        return "no image defines this score"

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        # No two images have the same log loss: without it there are few kinds of images, which are quickly drawn.
        apart = [[name for name in names if (name == "nll") == continuous] for continuous in (False, True)]
        return [group for group in apart if group]

    def alike(self, names: Sequence[str]) -> Array:
        columns, by_class = needed_columns(names)
        labels = self.labels if by_class else np.zeros_like(self.labels)
        return np.column_stack([labels, *(self.columns[name] for name in columns)])

    def pick(self, places: NDArray[np.int64], names: Sequence[str]) -> ImageTable:
        columns, by_class = needed_columns(names)
        labels = self.labels[places] if by_class else np.zeros_like(places)
        kept = {name: self.columns[name][places] for name in columns}
        return replace(self, units=("",) * len(places), truth=(), labels=labels, columns=kept)


def tabulate(records: Iterable[ClassificationRecord]) -> ImageTable:
    """Return the table of an evaluation. Raises InputError without records."""
    merged = sorted(merge_records(records), key=lambda record: record.label)
    if not merged:
        raise InputError("there is nothing to score: no image was evaluated; check that the split holds images")
    rank = np.array([np.inf if r.rank is None else r.rank for r in merged])
    nll = np.array([np.nan if r.nll is None else r.nll for r in merged])
    return ImageTable(
        units=tuple(record.id for record in merged),
        classes=merged[0].classes,
        truth=tuple(record.label for record in merged),
        labels=np.array([record.label for record in merged]),
        columns={
            "top1": (rank == 1).astype(np.float64),
            "top5": (rank <= TOP).astype(np.float64),
            "nll": nll,
            "not_finite": np.isinf(rank).astype(np.float64),
        },
    )


def needed_columns(names: Sequence[str]) -> tuple[list[str], bool]:
    """Return the columns of a table that the named scores need, and whether they need the classes."""
    by_class = any(name == "balanced_accuracy" or "/" in name for name in names)
    columns = [name for name in ("top1", "top5", "nll", "not_finite") if name in names]
    return (columns if "top1" in columns or not by_class else ["top1", *columns]), by_class
