"""Protocols of batches, tasks, metrics and evaluation items; any object with these members fulfils them."""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from torch import Tensor


class Batch(Protocol):
    """Input of a training step: a batch of `fewpairs.types`, such as `SegmentationBatch`, or a type of the task."""

    @property
    def image(self) -> Any:
        """Argument of the model: `[b c H W]`, a tuple of such tensors, or images together with their targets."""
        ...

    @property
    def ids(self) -> tuple[str, ...]: ...

    def pin_memory(self) -> Self: ...

    def to(self, device: torch.device | str, /) -> Self: ...


class Item(Protocol):
    """Input of an evaluation step: a whole scan, some labelled images, or one image."""

    @property
    def image(self) -> Tensor:
        """`[s c H W]`; it goes through the model in parts."""
        ...


class Metric(Protocol):
    """Scores from records of single images or scans; batch size and number of processes do not change them."""

    @property
    def records(self) -> list[Any]: ...

    def update(self, prediction: Any, item: Any, /) -> object: ...

    def merge(self, records: Any, /) -> None: ...

    def compute(self) -> dict[str, float]: ...


class Task(Protocol):
    """A learning task: a loss for training, and a prediction and a metric for evaluation."""

    @property
    def auxiliary(self) -> bool:
        """Whether training calls the model with `auxiliary=True`, because `loss` uses the auxiliary outputs."""
        ...

    def loss(self, outputs: Any, batch: Any, /) -> dict[str, Tensor]:
        """Return weighted terms, means over the batch; training minimises their sum."""
        ...

    def predict(self, outputs: Any, item: Any, /) -> Any:
        """Convert the model's float32 outputs for some of the item's images to predictions for the metric.

        They are a tensor `[s ...]`, or a list with one object per image (such as `fewpairs.types.Detections`) that has
        a method `to(device)`. The metric gets the predictions for all images of the item, joined.
        """
        ...

    def metric(self) -> Metric: ...


class Items(Protocol):
    """A sequence of evaluation items, read one at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...
