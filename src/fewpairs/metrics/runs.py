"""Evaluations that belong together: one list of records a training seed, all on the same scans or images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from fewpairs.errors import InputError
from fewpairs.metrics.statistics import ScanStatistics

Records = Sequence[ScanStatistics]
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


def check_same_scans(sides: dict[str, list[Records]]) -> None:
    """Raises InputError that names the cases or scans in which an evaluation differs from the first one."""
    first, runs = next(iter(sides.items()))
    reference = {(record.case, record.scan) for record in runs[0]}
    classes = runs[0][0].classes
    for name, runs in sides.items():
        for index, run in enumerate(runs):
            which = run_name(name, index, runs)
            if run[0].classes != classes:
                raise InputError(
                    f"{which} has the classes {', '.join(run[0].classes)}, {first} {', '.join(classes)}; "
                    "only evaluations of the same classes can be compared"
                )
            if (run[0].hd95_mm is None) != (runs[0][0].hd95_mm is None):
                raise InputError(f"{which} and run 1 differ in whether surfaces were measured; evaluate all runs alike")
            here = {(record.case, record.scan) for record in run}
            if here != reference:
                raise InputError(
                    f"{which} was not evaluated on the cases of {first}: {_differences(reference, here)}; "
                    "evaluate both on the same split"
                )


def _differences(reference: set[tuple[str, str]], here: set[tuple[str, str]]) -> str:
    parts = []
    for label, there, other in (("missing", reference, here), ("only there", here, reference)):
        cases = {case for case, _ in there} - {case for case, _ in other}
        scans = [scan for _, scan in there - other]
        if cases or scans:
            parts.append(f"cases {label}: {some(cases)}" if cases else f"scans {label}: {some(scans)}")
    return "; ".join(parts)


def some(names: Iterable[str]) -> str:
    """The first few of the names, sorted."""
    names = sorted(names)
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
