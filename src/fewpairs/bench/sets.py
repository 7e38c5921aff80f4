"""Named sets of benchmark cases with their goals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from typing import Any, Literal

from fewpairs.bench.cases import Case, ModelCase, OperatorCase, Pass, parse_case
from fewpairs.errors import InputError, did_you_mean

Quantity = Literal["time", "speed", "memory", "growth"]


@dataclass(frozen=True)
class Goal:
    """A target for a measurement.

    `time`: our time over that of `against` is at most `bound`. `speed`: `against`'s time over ours is at least `bound`.
    `memory`: our peak is at most `bound` bytes. `growth`: from the case to `until`, our peak grows as a power of n with
    an exponent of at most `bound` (1 is linear).
    """

    case: str
    pass_: Pass
    quantity: Quantity
    bound: float
    against: str | None = None
    until: str | None = None

    @property
    def op(self) -> str:
        """The operator of the case, or "model"."""
        found = parse_case(self.case)
        return "" if found is None else found.op

    @property
    def text(self) -> str:
        """The goal as text."""
        if self.quantity == "time":
            return f"at most {self.bound:g} x the time of {self.against}"
        if self.quantity == "speed":
            return f"at least {self.bound:g} x as fast as {self.against}"
        if self.quantity == "memory":
            return f"peak memory at most {self.bound / 2**30:g} GiB"
        return f"peak memory grows at most as n^{self.bound:g} up to {self.until}"


@dataclass(frozen=True)
class CaseSet:
    """A set of cases."""

    summary: str
    cases: tuple[Case, ...]
    goals: tuple[Goal, ...] = ()
    against: tuple[str, ...] | None = None
    """The baselines to run; None runs all of the operator."""


def _knn(b: int, h: int, n: int, topk: int | float, **options: Any) -> OperatorCase:
    return OperatorCase("knn", b, h, n, 64, topk, **options)


def _goals() -> CaseSet:
    forward = {
        _knn(8, 6, 197, 100): 1.0,
        _knn(2, 6, 1024, 64): 0.75,
        _knn(2, 6, 1024, 512): 1.0,
        _knn(1, 6, 4096, 256): 0.65,
        _knn(1, 6, 4096, 2048): 0.95,
    }
    goals = [Goal(case.name, "forward", "time", bound, "sdpa") for case, bound in forward.items()]
    for case in forward:
        if case.n == 197 or (case.keys or 0) <= case.n // 8:
            goals.append(Goal(case.name, "training", "time", 1.0 if case.n == 197 else 0.6, "sdpa"))
        goals.append(Goal(case.name, "training", "speed", 6 if case.n == 197 else 15, "published"))
    large = _knn(1, 6, 16384, 256, timed=False)
    goals.append(Goal(large.name, "training", "memory", 2.0**30))
    keys = [OperatorCase("kv", 2, 6, 1024, 64), OperatorCase("kv", 1, 6, 4096, 64)]
    goals += [Goal(case.name, pass_, "time", 0.8, "sdpa") for case in keys for pass_ in ("forward", "training")]
    linear = OperatorCase("key_only", 1, 1, 65536, 64)
    goals += [Goal(linear.name, pass_, "time", 1.5, "copy") for pass_ in ("forward", "training")]
    models = {
        ModelCase("deit_small_patch16_224", 16, 224, "knn100"): 1.0,
        ModelCase("setr_pup_vit_b16", 4, 256, "kv"): 1.08,
    }
    for model, bound in models.items():
        goals += [Goal(model.name, pass_, "speed", bound, "dense") for pass_ in ("forward", "training")]
    summary = "goals of the CPU kernels: operators and whole models, with one bound each"
    return CaseSet(summary, (*forward, large, *keys, linear, *models), tuple(goals))


def _gpu() -> CaseSet:
    """Use 65,536 tokens per batch to measure time, and a batch of 16 for memory, so that only n changes."""
    batches = {197: 256, 512: 128, 1024: 64, 2048: 32, 4096: 16}
    place: dict[str, Any] = {"dtype": "bfloat16", "device": "cuda"}
    timed = [_knn(b, 6, n, n // share, **place) for (n, b), share in product(batches.items(), (2, 16))]
    goals = []
    passes: tuple[Pass, ...] = ("forward", "training")
    for case, pass_ in product(timed, passes):
        goals.append(Goal(case.name, pass_, "time", 2.0, "flash"))
        goals.append(Goal(case.name, pass_, "speed", 5.0, "published"))
    measured = [_knn(16, 6, n, n // share, timed=False, **place) for share, n in product((2, 16), (1024, 2048, 4096))]
    for share, pass_ in product((2, 16), passes):
        first, last = (_knn(16, 6, n, n // share, **place).name for n in (1024, 4096))
        goals.append(Goal(first, pass_, "growth", 1.1, until=last))
    known = {case.name for case in timed}
    cases = (*timed, *(case for case in measured if case.name not in known))
    summary = "k-NN attention on a GPU in bfloat16, from 197 to 4,096 tokens, with one bound each; needs CUDA"
    return CaseSet(summary, cases, tuple(goals))


LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)


def _lengths() -> CaseSet:
    cases: list[Case] = [_knn(1, 6, n, 0.125) for n in LENGTHS]
    cases += [OperatorCase("kv", 1, 6, n, 64) for n in LENGTHS]
    cases += [OperatorCase("key_only", 1, 1, 64 * n, 64) for n in LENGTHS]
    summary = "time and memory from 128 to 8,192 tokens (key-only attention: to 524,288), for the figure"
    return CaseSet(summary, tuple(cases), against=("sdpa", "flash", "published", "copy"))


def _published() -> CaseSet:
    timed = ((32, 3, 197, 100), (1, 6, 196, 98), (1, 6, 784, 256), (1, 6, 3136, 256), (1, 1, 16384, 256))
    cases = [_knn(*shape) for shape in timed]
    cases += [_knn(1, 6, n, 256, timed=False) for n in (8192, 16384)]
    summary = "k-NN attention from 196 to 16,384 tokens against the published arithmetic (see --kernels bounded)"
    return CaseSet(summary, tuple(cases), against=("sdpa", "published"))


def _quick() -> CaseSet:
    cases = (_knn(2, 6, 197, 100), _knn(1, 6, 1024, 64), OperatorCase("kv", 1, 6, 1024, 64))
    more = (OperatorCase("key_only", 1, 1, 16384, 64), OperatorCase("softmax", 2, 6, 197, 64))
    summary = "each operator at a small shape, in less than a minute; the default set"
    return CaseSet(summary, (*cases, *more), against=("sdpa", "flash", "published", "copy"))


SETS: dict[str, CaseSet] = {
    "quick": _quick(),
    "goals": _goals(),
    "lengths": _lengths(),
    "knn": _published(),
    "gpu": _gpu(),
}


@dataclass(frozen=True)
class Selection:
    """The cases and goals of one benchmark run."""

    title: str
    cases: tuple[Case, ...]
    goals: tuple[Goal, ...]
    against: tuple[str, ...] | None


def select(names: Iterable[str], ops: Iterable[str] = ()) -> Selection:
    """Select cases by set, by pattern (`knn-*`) over all sets, or by name; `ops` restricts the operators.

    Raises:
        InputError: a name is unknown, or the selection is empty.
    """
    names, ops = list(names) or ["quick"], set(ops)
    cases: dict[str, Case] = {}
    against: list[tuple[str, ...] | None] = []
    everything = {case.name: case for each in SETS.values() for case in each.cases}
    for name in names:
        if name in SETS:
            found: Iterable[Case] = SETS[name].cases
            against.append(SETS[name].against)
        elif matching := [case for known, case in everything.items() if fnmatchcase(known, name)]:
            found = matching
            against.append(None)
        elif (single := parse_case(name)) is not None:
            found = [single]
            against.append(None)
        else:
            known = [*SETS, *everything]
            raise InputError(
                f"{name!r} is neither a set nor a case; {did_you_mean(name, known)}"
                "`fewpairs bench --list` lists them, and any shape has a name, such as knn-b8-h6-n197-d64-k100"
            )
        cases |= {case.name: case for case in found if not ops or case.op in ops}
    if not cases:
        raise InputError(f"none of {', '.join(names)} is of the operator {', '.join(sorted(ops))}")
    goals = dict.fromkeys(goal for each in SETS.values() for goal in each.goals if goal.case in cases)
    limited = [each for each in against if each is not None]
    both = tuple(dict.fromkeys(name for each in limited for name in each)) if len(limited) == len(against) else None
    return Selection(", ".join(names), tuple(cases.values()), tuple(goals), both)


def convert_selection(selection: Selection, dtype: str | None, device: str | None) -> Selection:
    """Return the cases with another dtype or device; the goals of changed cases are dropped."""
    from fewpairs.bench.cases import convert_case

    cases = tuple(convert_case(case, dtype, device) for case in selection.cases)
    kept = {case.name for case in cases}
    return replace(selection, cases=cases, goals=tuple(goal for goal in selection.goals if goal.case in kept))
