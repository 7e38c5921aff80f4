"""The images of every step, as a pure function of the seed, so that training can start at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from fewpairs.errors import InputError

Key = tuple[int, int]
"""Epoch and index of a sample: its augmentation depends on both, so that epochs differ.

With repeated augmentation, copy r of an image in an epoch has `epoch * repeats + r` in place of the epoch.
"""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Division of an epoch into global batches, and of these into forward passes of the processes.

    Each epoch is one permutation of the data set, drawn from `(seed, epoch)`; an incomplete last global batch is
    dropped. Process `rank` takes its slice of every forward pass, so the images of a step depend only on the size of
    the global batch, not on its division into processes and accumulated passes.

    With `repeats` (repeated augmentation, arXiv 1901.09335; timm's `RepeatAugSampler`) an epoch is as long, but
    shows only the first `size / repeats` images of its permutation, each `repeats` times. The copies of an image are in
    one global batch, unless its end cuts them off, and as far apart as possible: with `repeats` or more forward passes
    (processes times accumulated passes) no pass holds two copies.

    Raises:
        InputError: the data set is smaller than one global batch.
    """

    size: int
    """Images in the data set."""
    batch_size: int
    accumulate: int = 1
    world: int = 1
    seed: int = 0
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.size < self.global_batch:
            raise InputError(
                f"the training set has {self.size} images, fewer than the {self.global_batch} of one step "
                f"(batch_size {self.batch_size} x accumulate {self.accumulate} x {self.world} processes); "
                f"lower batch_size or accumulate, or add images"
            )

    @property
    def global_batch(self) -> int:
        """Number of images in one optimiser step, over all processes and accumulated passes."""
        return self.batch_size * self.accumulate * self.world

    @property
    def steps_per_epoch(self) -> int:
        return self.size // self.global_batch

    def permutation(self, epoch: int) -> np.ndarray:
        """Return the order of the images in `epoch`, `[size]`."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.size)

    def batch(self, step: int, index: int, rank: int) -> list[Key]:
        """Return the keys of forward pass `index` of `step` on process `rank`."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._cut(self.permutation(epoch), epoch, position, index, rank)

    def _cut(self, order: np.ndarray, epoch: int, position: int, index: int, rank: int) -> list[Key]:
        places = position * self.global_batch + np.arange(self.global_batch)
        copies = places % self.repeats
        start = (index * self.world + rank) * self.batch_size
        # First all first copies, then the second ones: a stable sort keeps the order of the images.
        mine = np.argsort(copies, kind="stable")[start : start + self.batch_size]
        return [(epoch * self.repeats + int(copies[at]), int(order[places[at] // self.repeats])) for at in mine]


class BatchSampler(Sampler[list[Key]]):
    """Lists of keys, one for each forward pass of process `rank`, from step `start` to before step `stop`.

    The sampler runs through all epochs, so that loading does not pause between them.
    """

    def __init__(self, plan: BatchPlan, *, rank: int = 0, start: int = 0, stop: int) -> None:
        self.plan, self.rank, self.start, self.stop = plan, rank, start, stop

    def __len__(self) -> int:
        return max(0, self.stop - self.start) * self.plan.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        plan, order, drawn = self.plan, np.empty(0, dtype=np.int64), -1
        for step in range(self.start, self.stop):
            epoch, position = divmod(step, plan.steps_per_epoch)
            if epoch != drawn:
                order, drawn = plan.permutation(epoch), epoch
            for index in range(plan.accumulate):
                yield plan._cut(order, epoch, position, index, self.rank)
