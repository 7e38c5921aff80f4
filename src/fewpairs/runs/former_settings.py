"""Settings under the names that they had before: they are read, and the name of today is said once for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from fewpairs.errors import InputError

Path = tuple[str, ...]
Leaf = tuple[Path, Any]


def _part(value: Any) -> Any:
    return "validation" if value == "val" else value


def _parts(value: Any) -> Any:
    return [_part(one) for one in value] if isinstance(value, list | tuple) else value


def _look(value: Any) -> Any:
    return {True: "header", False: "none"}.get(value, value) if isinstance(value, bool) else value


def _as_it_is(value: Any) -> Any:
    return value


Rule = tuple[str, Callable[[Any], Any]]

_SHARES: dict[str, Rule] = {
    "data.shares.validate_on": ("data.split.validation", _part),
    **{
        f"data.shares.{name}": (f"data.split.{name}", _as_it_is)
        for name in ("fraction", "fold", "seed", "limit", "validation_limit")
    },
}
_LABELLED = _SHARES | {"data.shares.images_per_class": ("data.split.images_per_class", _as_it_is)}

FORMER: dict[str, dict[str, Rule]] = {
    "segmentation": {
        "data.folds": ("data.split.folds", _as_it_is),
        "data.fold": ("data.split.fold", _as_it_is),
        "data.split_seed": ("data.split.seed", _as_it_is),
        "data.cases": ("data.split.limit", _as_it_is),
        "data.validation_cases": ("data.split.cases", _as_it_is),
    },
    "classification": _LABELLED,
    "self-distillation": _LABELLED,
    "semantic": _SHARES,
    "detection": {
        "data.train_on": ("data.split.train", _parts),
        "data.validate_on": ("data.split.validation", _part),
        "data.limit": ("data.split.limit", _as_it_is),
        "data.validation_limit": ("data.split.validation_limit", _as_it_is),
        "data.source.val": ("data.source.validation", _as_it_is),
        "data.source.check_files": ("data.check", _look),
        "data.source.val_fraction": ("data.split.fraction", _as_it_is),
        "data.source.test_fraction": ("data.split.test_fraction", _as_it_is),
        "data.source.seed": ("data.split.seed", _as_it_is),
        "view.shorter": ("view.short", _as_it_is),
        "view.longer": ("view.long", _as_it_is),
    },
}
"""By kind of experiment: a former name, the name of today, and what the value becomes."""


def renamed(kind: str, leaves: Iterable[Leaf]) -> list[Leaf]:
    """Settings as (path, value) under their names of today; each former name gives one line on stderr.

    Raises:
        InputError: a setting is there under both names.
    """
    rules = FORMER.get(kind, {})
    sections = {path.rpartition(".")[0] for path in rules} - {"data", "data.source", "view"}
    given = [leaf for path, value in leaves for leaf in _opened(path, value, rules, sections)]
    names = {".".join(path) for path, _ in given}
    today: list[Leaf] = []
    for path, value in given:
        name = ".".join(path)
        if name not in rules:
            today.append((path, value))
            continue
        new, convert = rules[name]
        if new in names:
            raise InputError(f"{name} and {new} are one setting, which is called {new} now; leave {name} out")
        _say(name, new)
        today += _shares(new, convert(value))
    return today


def _opened(path: Path, value: Any, rules: Mapping[str, Rule], sections: set[str]) -> list[Leaf]:
    """A whole section at once, such as `data.source={val: a}`, setting by setting where former names are in it."""
    name = ".".join(path)
    former = isinstance(value, Mapping) and any(".".join((*path, str(key))) in rules for key in value)
    if not former and not (isinstance(value, Mapping) and name in sections):
        return [(path, value)]
    return [((*path, str(key)), inner) for key, inner in value.items()]


def _shares(new: str, value: Any) -> list[Leaf]:
    """A share of one part in so many is written as the number of folds, as the defaults of today have it."""
    path = tuple(new.split("."))
    if new != "data.split.fraction" or not isinstance(value, int | float) or not 0 < value < 1:
        return [(path, value)]
    folds = round(1 / value)
    if folds < 2 or 1 / folds != value:
        return [(path, value)]
    return [(path, None), ((*path[:-1], "folds"), folds)]


@cache
def _say(former: str, new: str) -> None:
    sys.stderr.write(f"{former} is called {new} now; the former name is still read\n")
