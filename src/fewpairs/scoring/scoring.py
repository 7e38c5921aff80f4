"""From records to scores, intervals and paired differences: what a comparison asks of any kind of experiment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fewpairs.scoring import bootstrap
from fewpairs.scoring.interval import Interval, Over, PairedDifference
from fewpairs.scoring.matching_runs import as_runs
from fewpairs.scoring.records import Record, load_records, save_records
from fewpairs.scoring.score_table import Score, find_score
from fewpairs.scoring.unit_table import SumTable, UnitTable


class Scoring(ABC):
    """How records of one kind of experiment become scores.

    Records are what a metric keeps of each scan or image; runs are one list of records, or one such list for each
    training seed. A kind is a frozen dataclass of the choices that there are, with the members below.
    """

    record: ClassVar[type[Record]]
    """The kind of record."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """The score that verdicts are about unless another is named."""

    @property
    @abstractmethod
    def compared(self) -> tuple[str, ...]:
        """Scores whose paired differences a comparison shows."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """What is independent of each other, in the plural: intervals are drawn over it."""

    @property
    @abstractmethod
    def known(self) -> Mapping[str, Score]:
        """The scores that there are, by name."""

    @property
    def rule(self) -> str:
        """How scores are counted where that is a choice, in a sentence; may be empty."""
        return ""

    @abstractmethod
    def table(self, records: Sequence[Any]) -> UnitTable:
        """The table of one evaluation, with a row a unit. Raises InputError without records."""

    def check(self, name: str, classes: Sequence[str]) -> None:
        """Raises InputError unless there is a score of this name."""
        find_score(name, classes, self.known)

    def higher_is_better(self, name: str) -> bool | None:
        """None where no score has this name."""
        score = self.known.get(name.partition("/")[0])
        return None if score is None else score.higher_is_better

    def count(self, records: Sequence[Any]) -> int:
        """How many independent units the records are of."""
        return len({record.unit for record in records})

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        """Every score by name; NaN where one is not defined. Raises InputError without records."""
        table = self.table(records)
        if isinstance(table, SumTable):
            return table.totals()
        names = bootstrap.shared_names([table])
        whole = table.scores(np.ones((1, len(table.units))), names)
        return {name: float(value[0]) for name, value in whole.items()}

    def intervals(
        self,
        runs: Sequence[Any],
        *,
        samples: int = 2000,
        seed: int = 0,
        level: float = 0.95,
        over: Over | None = None,
    ) -> dict[str, Interval]:
        """Every score with its interval, see `bootstrap.intervals`."""
        tables = self._tables(runs, "the evaluation")
        return bootstrap.intervals(tables, samples=samples, seed=seed, level=level, over=over)

    def paired(
        self,
        baseline: Sequence[Any],
        candidate: Sequence[Any],
        *,
        metric: str,
        margin: float,
        samples: int = 2000,
        seed: int = 0,
        level: float = 0.95,
        over: Over | None = None,
    ) -> PairedDifference:
        """`candidate` minus `baseline` in `metric`, with a verdict, see `bootstrap.paired`."""
        old, new = self._tables(baseline, "the baseline"), self._tables(candidate, "the candidate")
        return bootstrap.paired(
            old, new, self.known, metric=metric, margin=margin, samples=samples, seed=seed, level=level, over=over
        )

    def confusions(self, records: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
        """(true class, predicted class, images) where that is what records tell, else nothing."""
        return ()

    def save(self, records: Sequence[Any], path: Path | str) -> None:
        """Write the records as JSON lines."""
        save_records(records, path, self.record)

    def load(self, path: Path | str) -> list[Any]:
        """Read what `save` wrote. Raises DataError with the file and line of anything else."""
        return list(load_records(path, self.record))

    def _tables(self, runs: Sequence[Any], side: str) -> list[UnitTable]:
        return [self.table(run) for run in as_runs(runs, side, self.record)]
