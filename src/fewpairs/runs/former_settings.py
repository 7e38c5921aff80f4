"""Settings under former names: they are still read, and standard error gives the current name of each once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from fewpairs.errors import InputError

Path = tuple[str, ...]
Leaf = tuple[Path, Any]

_SHARES = {
    "data.shares.validate_on": "data.split.validation",
    **{
        f"data.shares.{name}": f"data.split.{name}"
        for name in ("fraction", "fold", "seed", "limit", "validation_limit")
    },
}
_LABELLED = _SHARES | {"data.shares.images_per_class": "data.split.images_per_class"}

FORMER: dict[str, dict[str, str]] = {
    "segmentation": {
        "data.folds": "data.split.folds",
        "data.fold": "data.split.fold",
        "data.split_seed": "data.split.seed",
        "data.cases": "data.split.limit",
        "data.validation_cases": "data.split.cases",
    },
    "classification": _LABELLED,
    "self-distillation": _LABELLED,
    "semantic": _SHARES,
    "detection": {
        "data.train_on": "data.split.train",
        "data.validate_on": "data.split.validation",
        "data.limit": "data.split.limit",
        "data.validation_limit": "data.split.validation_limit",
        "data.source.val": "data.source.validation",
        "data.source.check_files": "data.check",
        "data.source.val_fraction": "data.split.fraction",
        "data.source.test_fraction": "data.split.test_fraction",
        "data.source.seed": "data.split.seed",
        "view.shorter": "view.short",
        "view.longer": "view.long",
    },
}
"""Current names by kind of experiment and former name."""


def renamed(kind: str, leaves: Iterable[Leaf], start: Mapping[str, Any] | None = None) -> list[Leaf]:
    """Settings as (path, value) under their current names; each former name writes one line to standard error.

    `start` holds the settings that the leaves are put over.

    Raises:
        InputError: a setting is given under both names.
    """
    names = FORMER.get(kind, {})
    sections = {path.rpartition(".")[0] for path in names} - {"data", "data.source", "view"}
    given = [leaf for path, value in leaves for leaf in _fields(path, value, names, sections)]
    paths = {".".join(path) for path, _ in given}
    current: list[Leaf] = []
    for path, value in given:
        name = ".".join(path)
        if name not in names:
            current.append((path, value))
            continue
        new = names[name]
        if new in paths:
            raise InputError(f"{name} and {new} are one setting, which is called {new} now; leave {name} out")
        _tell_once(name, new)
        current += _as_folds(new, _current_value(name, value))
    if "data.shares.fold" in paths:
        current += _kept_fraction(current, start or {})
    return current


def _fields(path: Path, value: Any, names: Mapping[str, str], sections: set[str]) -> list[Leaf]:
    """Split a section that is given whole, such as `data.source={val: a}`, if it holds former names."""
    former = isinstance(value, Mapping) and any(".".join((*path, str(key))) in names for key in value)
    if not former and not (isinstance(value, Mapping) and ".".join(path) in sections):
        return [(path, value)]
    return [((*path, str(key)), inner) for key, inner in value.items()]


def _current_value(name: str, value: Any) -> Any:
    """Translate the values that have changed together with the name."""
    if name == "data.source.check_files" and isinstance(value, bool):
        return "header" if value else "none"
    if name == "data.train_on" and isinstance(value, list | tuple):
        return ["validation" if part == "val" else part for part in value]
    if name in ("data.train_on", "data.validate_on", "data.shares.validate_on") and value == "val":
        return "validation"
    return value


def _as_folds(new: str, value: Any) -> list[Leaf]:
    """Write the fraction 1/n as n folds, as the current defaults do."""
    path = tuple(new.split("."))
    if new != "data.split.fraction" or not isinstance(value, int | float) or not 0 < value < 1:
        return [(path, value)]
    folds = round(1 / value)
    if folds < 2 or 1 / folds != value:
        return [(path, value)]
    return [(path, None), ((*path[:-1], "folds"), folds)]


def _kept_fraction(current: Iterable[Leaf], start: Mapping[str, Any]) -> list[Leaf]:
    """Return the fraction that replaces `folds` if `fold` is not below them.

    Few units had more folds than 1/fraction: 0.2 of 7 cases is one case, so there were 7 folds.
    """
    section = ("data", "split")
    split = dict(start.get("data", {}).get("split", {}))
    split |= {path[-1]: value for path, value in current if path[:-1] == section}
    fold, folds = split.get("fold"), split.get("folds")
    if split.get("fraction") is not None or not isinstance(fold, int) or not isinstance(folds, int):
        return []
    return [((*section, "fraction"), 1 / folds)] if fold >= folds >= 2 else []


@cache
def _tell_once(former: str, new: str) -> None:
    sys.stderr.write(f"{former} is called {new} now; the former name is still read\n")
