"""From records to scores, intervals and paired differences: what a comparison asks of any kind of experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fewpairs.scoring.interval import Interval, PairedDifference


class Scoring(Protocol):
    """Records are what a metric keeps of each scan or image; runs are one such list for each training seed."""

    @property
    def headline(self) -> str:
        """The score that verdicts are about unless another is named."""
        ...

    @property
    def compared(self) -> tuple[str, ...]:
        """Scores whose paired differences a comparison shows."""
        ...

    @property
    def unit(self) -> str:
        """What is independent of each other, in the plural: intervals are drawn over it."""
        ...

    @property
    def rule(self) -> str:
        """How scores are counted where that is a choice, in a sentence; may be empty."""
        ...

    def check(self, name: str, classes: Sequence[str]) -> None:
        """Raises InputError unless there is a score of this name."""
        ...

    def higher_is_better(self, name: str) -> bool | None:
        """None where no score has this name."""
        ...

    def count(self, records: Sequence[Any]) -> int:
        """How many independent units the records are of."""
        ...

    def scores(self, records: Sequence[Any]) -> dict[str, float]: ...

    def intervals(self, runs: Sequence[Any], *, samples: int) -> dict[str, Interval]: ...

    def paired(
        self, baseline: Sequence[Any], candidate: Sequence[Any], *, metric: str, margin: float, samples: int
    ) -> PairedDifference: ...

    def confusions(self, records: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
        """(true class, predicted class, images) where that is what records tell, else nothing."""
        ...

    def save(self, records: Sequence[Any], path: Path) -> None: ...

    def load(self, path: Path) -> list[Any]: ...
