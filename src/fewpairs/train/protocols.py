"""What training asks of batches, a task, its metric and evaluation items; any object with these members will do."""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from torch import Tensor


class Batch(Protocol):
    """What a training step sees: `fewpairs.types.Batch`, `Labelled`, `Pictures`, or a task's own."""

    @property
    def image(self) -> Any:
        """What the model is called with: `[b c H W]`, a tuple of such, or images with all that their losses need."""
        ...

    @property
    def ids(self) -> tuple[str, ...]: ...

    def pin_memory(self) -> Self: ...

    def to(self, device: torch.device | str, /) -> Self: ...


class Item(Protocol):
    """What an evaluation step sees: a whole scan, some labelled images, or one picture."""

    @property
    def image(self) -> Tensor:
        """`[s c H W]`, which goes through the model in parts."""
        ...


class Metric(Protocol):
    """Scores from records of single images or scans: neither batch size nor number of processes can change them."""

    @property
    def records(self) -> list[Any]: ...

    def update(self, prediction: Any, item: Any, /) -> object: ...

    def merge(self, records: Any, /) -> None: ...

    def compute(self) -> dict[str, float]: ...


class Task(Protocol):
    """What is learnt: a loss for training, a prediction and a metric for evaluation."""

    @property
    def auxiliary(self) -> bool:
        """Whether `loss` wants the model called with `auxiliary=True`; other models are called with the image alone."""
        ...

    def loss(self, outputs: Any, batch: Any, /) -> dict[str, Tensor]:
        """Weighted terms, means over the batch; their sum is minimised."""
        ...

    def predict(self, outputs: Any, item: Any, /) -> Any:
        """What the metric wants of the model's float32 outputs for some of the item's images.

        A tensor `[s ...]`, or a list of one dataclass an image (such as `fewpairs.types.Detections`) with a method
        `to(device)`; what the metric is given is all of them in one.
        """
        ...

    def metric(self) -> Metric: ...


class Items(Protocol):
    """A sequence of evaluation items, read one at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...
