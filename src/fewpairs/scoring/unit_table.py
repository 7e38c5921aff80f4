"""What a bootstrap resamples: a table with one row for each independent unit of an evaluation, a case or an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from fewpairs.scoring.interval import Array

Units = Literal["cases", "images"]


@dataclass(frozen=True, kw_only=True)
class UnitTable(ABC):
    """One evaluation, by unit, with all that its scores are made of."""

    unit: Units = "images"
    """What is independent of each other, in the plural."""
    units: tuple[str, ...]
    """Their names."""
    classes: tuple[str, ...]
    truth: tuple[Hashable, ...]
    """What is true of each unit, whatever the model says: runs that are compared must agree on it."""
    parts: frozenset[tuple[str, str]] = frozenset()
    """Unit and scan or image, where units have several of them."""
    part: str = "images"
    """What `parts` are, in the plural."""
    form: str = ""
    """What was measured, such as "with surface distances", where runs that are compared must agree on it."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Every score, in the order in which reports show them."""

    @property
    def silent(self) -> frozenset[str]:
        """Scores that are left out unless another run needs them, such as a count of faults that is 0."""
        return frozenset()

    @property
    def width(self) -> int:
        """Numbers that one resample needs at once, which decides how many resamples are scored together."""
        return max(len(self.units), len(self.classes))

    @abstractmethod
    def scores(self, weights: Array, names: Sequence[str]) -> dict[str, Array]:
        """`[r n]` how often each unit was drawn -> the named scores, each `[r]`; NaN where one is not defined."""

    @abstractmethod
    def defining(self, name: str) -> NDArray[np.bool_]:
        """`[n]`, the units that define a score on their own."""

    def undefined(self, name: str, runs: Sequence[Self]) -> str | None:
        """Why a score of these runs is not defined; None: no unit defines it."""
        return None

    def same_truth(self, mine: Hashable, other: Hashable) -> bool:
        """Whether two entries of `truth` agree."""
        return mine == other

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """Names that are scored on the same draws; a score is put apart where that makes the others faster."""
        return [list(names)]

    def alike(self, names: Sequence[str]) -> Array | None:
        """`[n c]`: units with equal rows in every run are the same to these scores, and are drawn together.

        None: every unit is drawn on its own.
        """
        return None

    def pick(self, places: NDArray[np.int64], names: Sequence[str]) -> Self:
        """The table of the units at these places, ascending by the first column of `alike`."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SumTable(UnitTable):
    """A table whose scores are ratios of sums: the sums of a resample are added up first."""

    sums: Mapping[str, Array]
    """What each unit adds, `[n k]` each."""
    score: Callable[[Mapping[str, Array], Sequence[str]], dict[str, Array]]
    """Sums `[... k]` and the names of the classes -> every score, `[...]`; NaN where one is not defined."""

    @property
    def names(self) -> list[str]:
        return list(self.single)

    @cached_property
    def single(self) -> dict[str, Array]:
        """Every score of every unit on its own, `[n]`."""
        return self.score(self.sums, self.classes)

    def totals(self) -> dict[str, float]:
        """Every score of the whole evaluation."""
        whole = self.score({name: array.sum(axis=0) for name, array in self.sums.items()}, self.classes)
        return {name: float(value) for name, value in whole.items()}

    def scores(self, weights: Array, names: Sequence[str]) -> dict[str, Array]:
        found = self.score({name: weights @ array for name, array in self.sums.items()}, self.classes)
        return {name: found[name] for name in names}

    def defining(self, name: str) -> NDArray[np.bool_]:
        return ~np.isnan(self.single[name])


def ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient; NaN where the denominator is 0."""
    result = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def mean_of_defined(values: Array) -> Array:
    """`[... k]` -> `[...]`: the mean over what is not NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))
