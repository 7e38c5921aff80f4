"""One entry of the table of recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fewpairs.kinds.kind import Experiment


@dataclass(frozen=True)
class Recipe:
    """A named experiment: `recipe()` makes it."""

    summary: str
    """What it trains, in a line."""
    make: Callable[[], Experiment]

    def __call__(self) -> Experiment:
        return self.make()

    @classmethod
    def of(cls, make: Callable[[], Experiment]) -> Recipe:
        """A function's recipe, told by the first line of its docstring."""
        return cls((make.__doc__ or "").partition("\n")[0], make)
