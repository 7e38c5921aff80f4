"""What training asks of a task, its metric and a data set of scans; any object with these members will do."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from latchkey.types import Batch, Geometry, Scan


class Metric(Protocol):
    """Scores from records of single scans, so that neither batch size nor number of processes can change them."""

    @property
    def records(self) -> list[Any]: ...

    def update(self, prediction: Tensor, scan: Scan, /) -> object: ...

    def merge(self, records: Any, /) -> None: ...

    def compute(self) -> dict[str, float]: ...


class Task(Protocol):
    """What is learnt: a loss for training, a prediction and a metric for evaluation."""

    @property
    def auxiliary(self) -> bool:
        """Whether `loss` wants the model called with `auxiliary=True`; other models are called with the image alone."""
        ...

    def loss(self, outputs: Any, batch: Batch, /) -> dict[str, Tensor]:
        """Weighted terms, means over the batch; their sum is minimised."""
        ...

    def predict(self, logits: Tensor, geometry: Geometry, /) -> Tensor:
        """`[s C H W]` logits at model size -> bool `[s k H W]` at native size, slice by slice."""
        ...

    def metric(self) -> Metric: ...


class Scans(Protocol):
    """A sequence of scans, read one at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Scan: ...
