"""Table that a bootstrap resamples, with one row for each independent unit (case or image)."""

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
    """Evaluation by unit, with everything that its scores need."""

    unit: Units = "images"
    """Plural noun of the independent units."""
    units: tuple[str, ...]
    """Names of the units."""
    classes: tuple[str, ...]
    truth: tuple[Hashable, ...]
    """Truth of each unit, on which compared runs must agree."""
    parts: frozenset[tuple[str, str]] = frozenset()
    """Pairs of unit and scan or image, if units have several."""
    part: str = "images"
    """Plural noun of `parts`."""
    form: str = ""
    """Optional measurements, such as "with surface distances", on which compared runs must agree."""

    @property
    def most_samples(self) -> int:
        """Number of resamples up to which more are drawn as long as a reading hangs on them."""
        return 32_000

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Names of all scores, in the order of reports."""

    @property
    def silent(self) -> frozenset[str]:
        """Scores that are left out unless another run has them, such as an error count of 0."""
        return frozenset()

    @property
    def width(self) -> int:
        """Numbers in memory for one resample, which limit how many resamples are scored together."""
        return max(len(self.units), len(self.classes))

    @abstractmethod
    def scores(self, weights: Array, names: Sequence[str]) -> dict[str, Array]:
        """Compute the named scores, each `[r]`, from counts of drawn units `[r n]`; NaN if not defined."""

    @abstractmethod
    def defining(self, name: str) -> NDArray[np.bool_]:
        """Return the mask `[n]` of the units that define a score on their own."""

    def undefined(self, name: str, runs: Sequence[Self]) -> str | None:
        """Return the reason why a score of these runs is not defined; None if no unit defines it."""
        return None

    def same_truth(self, mine: Hashable, other: Hashable) -> bool:
        """Return whether two entries of `truth` agree."""
        return mine == other

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """Group names that are scored on the same draws; slow scores are separated to keep the others fast."""
        return [list(names)]

    def alike(self, names: Sequence[str]) -> Array | None:
        """Return keys `[n c]`: these scores treat units with equal keys in every run alike, so they are drawn together.

        None: every unit is drawn by itself.
        """
        return None

    def pick(self, places: NDArray[np.int64], names: Sequence[str]) -> Self:
        """Return the table of the units at these places, ascending by the first column of `alike`."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SumTable(UnitTable):
    """Table whose scores are ratios of sums over the units of a resample."""

    sums: Mapping[str, Array]
    """Summands of each unit by name, `[n k]` each."""
    score: Callable[[Mapping[str, Array], Sequence[str]], dict[str, Array]]
    """Function from sums `[... k]` and class names to every score `[...]`, NaN if not defined."""

    @property
    def names(self) -> list[str]:
        return list(self.single)

    @cached_property
    def single(self) -> dict[str, Array]:
        """Scores of every single unit, `[n]`."""
        return self.score(self.sums, self.classes)

    def totals(self) -> dict[str, float]:
        """Compute every score of the whole evaluation."""
        whole = self.score({name: array.sum(axis=0) for name, array in self.sums.items()}, self.classes)
        return {name: float(value) for name, value in whole.items()}

    def scores(self, weights: Array, names: Sequence[str]) -> dict[str, Array]:
        found = self.score({name: weights @ array for name, array in self.sums.items()}, self.classes)
        return {name: found[name] for name in names}

    def defining(self, name: str) -> NDArray[np.bool_]:
        return ~np.isnan(self.single[name])


def ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; NaN if the denominator is 0."""
    result = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def mean_of_defined(values: Array) -> Array:
    """Compute the mean over the last axis without NaN, `[... k]` -> `[...]`; NaN if all are NaN."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))
