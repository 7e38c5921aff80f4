"""Checks that evaluations can be compared: the same units with the same truth, one for each training seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fewpairs.errors import InputError
from fewpairs.scoring.interval import Over
from fewpairs.scoring.unit_table import UnitTable


def as_runs(side: Sequence[Any], name: str, kinds: type | tuple[type, ...]) -> list[Sequence[Any]]:
    """Return a list of evaluations, given one list of records or one for each seed.

    Raises InputError if there are no records.
    """
    runs = [side] if all(isinstance(item, kinds) for item in side) else list(side)
    if not runs or not all(runs):
        raise InputError(f"{name} has no records: evaluate it before asking for scores")
    if any(isinstance(run, kinds) for run in runs):
        raise InputError(f"{name} mixes records and lists of records; give one list, or one list a seed")
    return runs


def check_alike(sides: Mapping[str, Sequence[UnitTable]]) -> None:
    """Raise InputError if a run differs from the first one in units, classes or truth."""
    first, (reference, *_) = next(iter(sides.items()))
    truth = dict(zip(reference.units, reference.truth, strict=True))
    for name, side in sides.items():
        for index, run in enumerate(side):
            which = name + (f" (run {index + 1})" if len(side) > 1 else "")
            if run is reference:
                continue
            if run.classes != reference.classes:
                raise InputError(
                    f"{which} has the classes {', '.join(run.classes[:8])}, {first} "
                    f"{', '.join(reference.classes[:8])}; only evaluations of the same classes in the same order can "
                    "be compared"
                )
            if differences := _differences(reference, run):
                raise InputError(
                    f"{which} was not evaluated on the {run.unit} of {first}: {differences}; evaluate both on the same "
                    "split"
                )
            if run.form != reference.form:
                raise InputError(f"{which} was evaluated {run.form}, {first} {reference.form}; evaluate all runs alike")
            pairs = zip(run.units, run.truth, strict=True)
            if odd := [unit for unit, one in pairs if not run.same_truth(one, truth[unit])]:
                raise InputError(
                    f"{which} has another truth than {first} for the {run.unit} {some(odd)}; evaluate both on the same "
                    "data"
                )


def _differences(reference: UnitTable, run: UnitTable) -> str:
    found = []
    for label, one, other in (("missing", reference, run), ("only there", run, reference)):
        units, parts = set(one.units) - set(other.units), one.parts - other.parts
        if units:
            found.append(f"{run.unit} {label}: {some(units)}")
        elif parts:
            found.append(f"{run.part} {label}: {some(part for _, part in parts)}")
    return "; ".join(found)


def drawn_over(over: Over | None, sides: Mapping[str, Sequence[UnitTable]]) -> Over:
    """Return what a bootstrap draws: `over` if given, else units, and seeds if every side has several.

    Raises InputError for another unit, or for seeds if a side has only one.
    """
    unit = next(iter(sides.values()))[0].unit
    units: Over = unit
    seeds: Over = "cases and seeds" if unit == "cases" else "images and seeds"
    alone = next((name for name, side in sides.items() if len(side) < 2), None)
    if over is None:
        return seeds if alone is None else units
    if over not in (units, seeds):
        raise InputError(f"over={over!r}: these scores are resampled over {units!r} or {seeds!r}")
    if over == seeds and alone is not None:
        raise InputError(f"{alone} has a single training seed, so none can be drawn; use over={unit!r}, or train more")
    return over


def some(names: Iterable[str]) -> str:
    """Join the first few of the sorted names."""
    names = sorted(names)
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
