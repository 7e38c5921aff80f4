"""Draws of images and seeds with replacement. Images that are alike in all that a score needs are drawn together.

A draw of n images from n leaves the numbers of images of each kind multinomially distributed, so drawing these numbers
at once changes no probability, and takes a fraction of the time where kinds are few: top-1 of two models with three
seeds each has at most 64 of them, however many images there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewpairs.kinds.classification.scores import ImageTable, needed_columns
from fewpairs.scoring.interval import Array

_CELLS = 2**21
"""Numbers that a block of resamples holds at once, which bounds the memory to some tens of MiB."""
_FEW = 8
"""Kinds are drawn at once where there are so many times more images; else images are drawn one by one, and counted."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Evaluations of the same images by several runs of one or two sides, with one row for each kind of image."""

    sides: tuple[tuple[ImageTable, ...], ...]
    """A table for each run of each side; their rows are kinds, in the same order."""
    counts: NDArray[np.int64]
    """Images of each kind `[g]`."""

    @property
    def everyone(self) -> Array:
        """Weights `[1 g]` that take every image once."""
        return self.counts[None].astype(np.float64)

    def draws(self, samples: int, seed: int) -> Iterator[tuple[Array, list[Array]]]:
        """Blocks of resamples: images of each kind `[r g]`, and for each side the shares of its seeds `[r s]`.

        Images and the seeds of each side have random streams of their own, so the images are the same whatever else is
        drawn.
        """
        images, kinds = int(self.counts.sum()), len(self.counts)
        few = _FEW * kinds <= images
        generator, *others = (np.random.default_rng((seed, stream)) for stream in range(1 + len(self.sides)))
        kind = np.repeat(np.arange(kinds), self.counts)
        rows = max(1, _CELLS // (kinds if few else images))
        for start in range(0, samples, rows):
            count = min(rows, samples - start)
            if few:
                weights = generator.multinomial(images, self.counts / images, size=count)
            else:
                drawn = kind[generator.integers(0, images, size=(count, images))] + kinds * np.arange(count)[:, None]
                weights = np.bincount(drawn.ravel(), minlength=count * kinds).reshape(count, kinds)
            shares = [
                other.multinomial(len(side), np.full(len(side), 1 / len(side)), size=count) / len(side)
                for other, side in zip(others, self.sides, strict=True)
            ]
            yield weights.astype(np.float64), shares


def pool(sides: Sequence[Sequence[ImageTable]], names: Sequence[str]) -> Pool:
    """The kinds of images that the named scores tell apart; all tables must be of the same images."""
    first = sides[0][0]
    columns, by_class = needed_columns(names)
    labels = first.labels if by_class else np.zeros_like(first.labels)
    values = [table.columns[name] for side in sides for table in side for name in columns]
    _, places, counts = np.unique(np.column_stack([labels, *values]), axis=0, return_index=True, return_counts=True)
    # Sorted by their first column, so labels ascend still.
    alike = tuple(
        tuple(
            replace(
                table,
                ids=(),
                labels=table.labels[places] if by_class else labels[places],
                columns={name: table.columns[name][places] for name in columns},
            )
            for table in side
        )
        for side in sides
    )
    return Pool(alike, counts)
