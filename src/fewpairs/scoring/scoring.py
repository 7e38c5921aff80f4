"""Interface from records to scores, intervals and paired differences, the same for all kinds of experiment."""

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
    """Scores of one kind of experiment.

    A metric keeps one record of each scan or image; runs are one list of records, or one list for each training seed.
    Each kind has a frozen dataclass with its options and the members below.
    """

    record: ClassVar[type[Record]]
    """Class of the records."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """Score that verdicts use by default."""

    @property
    @abstractmethod
    def compared(self) -> tuple[str, ...]:
        """Scores whose paired differences a comparison shows."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Plural noun of the independent units over which intervals are drawn."""

    @property
    @abstractmethod
    def known(self) -> Mapping[str, Score]:
        """Table of the scores, by name."""

    @property
    def rule(self) -> str:
        """Sentence on optional rules of scoring; may be empty."""
        return ""

    @abstractmethod
    def table(self, records: Sequence[Any]) -> UnitTable:
        """Return the table of one evaluation, with a row for each unit. Raises InputError without records."""

    def check(self, name: str, classes: Sequence[str]) -> None:
        """Raise InputError unless a score has this name."""
        find_score(name, classes, self.known)

    def higher_is_better(self, name: str) -> bool | None:
        """Return whether higher is better; None if no score has this name."""
        score = self.known.get(name.partition("/")[0])
        return None if score is None else score.higher_is_better

    def count(self, records: Sequence[Any]) -> int:
        """Count the independent units of the records."""
        return len({record.unit for record in records})

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        """Compute every score by name, NaN if it is not defined. Raises InputError without records."""
        table = self.table(records)
        if isinstance(table, SumTable):
            return table.totals()
        names = bootstrap.shared_names([table])
        whole = table.scores(np.ones((1, len(table.units))), names)
        return {name: float(value[0]) for name, value in whole.items()}

    def by_unit(self, records: Sequence[Any], name: str) -> dict[str, float]:
        """Compute a score of every single unit (case or image) that defines it.

        It takes memory and time that grow with the square of the number of units.
        """
        table = self.table(records)
        values = table.scores(np.eye(len(table.units)), [name])[name]
        return {unit: float(value) for unit, value in zip(table.units, values, strict=True) if not np.isnan(value)}

    def intervals(
        self,
        runs: Sequence[Any],
        *,
        samples: int = 2000,
        seed: int = 0,
        level: float = 0.95,
        over: Over | None = None,
    ) -> dict[str, Interval]:
        """Compute every score with its interval, see `bootstrap.intervals`."""
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
        steady: bool = True,
    ) -> PairedDifference:
        """Compute `candidate` minus `baseline` in `metric` with a verdict, see `bootstrap.paired`."""
        old, new = self._tables(baseline, "the baseline"), self._tables(candidate, "the candidate")
        return bootstrap.paired(
            old,
            new,
            self.known,
            metric=metric,
            margin=margin,
            samples=samples,
            seed=seed,
            level=level,
            over=over,
            steady=steady,
        )

    def confusions(self, records: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
        """Count images by (true class, predicted class, images) if records hold one class for each image."""
        return ()

    def save(self, records: Sequence[Any], path: Path | str) -> None:
        """Write the records as JSON lines."""
        save_records(records, path, self.record)

    def load(self, path: Path | str) -> list[Any]:
        """Read a file of `save`. Raises DataError with file and line if it holds something else."""
        return list(load_records(path, self.record))

    def _tables(self, runs: Sequence[Any], side: str) -> list[UnitTable]:
        return [self.table(run) for run in as_runs(runs, side, self.record)]
