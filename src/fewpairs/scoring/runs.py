"""Evaluations that belong together: one list of records a training seed, all on the same scans or images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from fewpairs.errors import InputError

R = TypeVar("R")


def as_runs(side: Sequence[R] | Sequence[Sequence[R]], name: str, kind: type[R]) -> list[Sequence[R]]:
    """One evaluation, or one for each seed, of records of `kind` -> a list of evaluations.

    Raises InputError when there is none.
    """
    runs = [side] if all(isinstance(item, kind) for item in side) else list(side)
    if not runs or not all(runs):
        raise InputError(f"{name} has no records: evaluate it before asking for scores")
    if any(isinstance(run, kind) for run in runs):
        raise InputError(f"{name} mixes records and lists of records; give one list, or one list a seed")
    return runs  # type: ignore[return-value]


def run_name(side: str, index: int, runs: Sequence[object]) -> str:
    """How messages call one run of a side: by its number where there are several."""
    return side + (f" (run {index + 1})" if len(runs) > 1 else "")


def some(names: Iterable[str]) -> str:
    """The first few of the names, sorted."""
    names = sorted(names)
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
