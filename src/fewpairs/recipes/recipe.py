"""One entry of the table of recipes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewpairs.kinds.kind import Experiment


@dataclass(frozen=True)
class Recipe:
    """A named experiment. `recipe()` imports the module that describes it and makes it."""

    summary: str
    """One line that says what the recipe trains."""
    source: str
    """`module:function` in `fewpairs.recipes`."""
    arguments: tuple[Any, ...] = ()
    """What the function is called with."""

    def __call__(self) -> Experiment:
        module, function = self.source.split(":")
        experiment: Experiment = getattr(import_module(f"fewpairs.recipes.{module}"), function)(*self.arguments)
        return experiment
