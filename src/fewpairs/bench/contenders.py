"""The contenders of a case: the measured kernels or attention, and the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from fewpairs.attention import Variant, parse_variant
from fewpairs.bench import models, operators
from fewpairs.bench.cases import Case, ModelCase, OperatorCase, Pass
from fewpairs.bench.check import CheckResult, check
from fewpairs.bench.timing import Step
from fewpairs.errors import InputError, nearest
from fewpairs.ops.dispatch import KernelRefused


@dataclass(frozen=True)
class Contender:
    """One implementation of a case."""

    name: str
    role: Literal["kernel", "baseline"]
    prepare: Callable[[Pass], Step]
    """Creates inputs, and returns the function to measure."""
    refuse: Callable[[Pass], str | None]
    """Returns the reason why it cannot run, as a sentence, or None."""
    check: Callable[[bool], CheckResult | None]
    """Compares the output with float64, and the gradients if the argument is True; raises CheckFailed."""


def contenders(
    case: Case, pass_: Pass, *, kernels: Sequence[str] = (), against: Sequence[str] | None = None
) -> list[Contender]:
    """Return the named kernels, or the one that the operator chooses, and then the named or all baselines.

    Named kernels that this operator does not have are ignored.

    Raises:
        KernelRefused: a named kernel refuses this case; the message is its reason.
    """
    found = _of_model(case) if isinstance(case, ModelCase) else _of_operator(case, pass_, kernels)
    return [one for one in found if one.role == "kernel" or against is None or one.name in against]


def contender(case: Case, name: str) -> Contender:
    """Return the contender with this name, even if it refuses the case."""
    if isinstance(case, ModelCase):
        return next(one for one in _of_model(case) if one.name == name)
    methods = {method.name: method for method in operators.baselines(case)}
    return _operator(case, methods[name] if name in methods else operators.kernel(case, name))


def check_names(cases: Sequence[Case], kernels: Sequence[str], against: Sequence[str] | None) -> None:
    """Check that every name belongs to a kernel or baseline of the cases.

    Raises:
        InputError: a name is unknown.
    """
    ours = [case for case in cases if isinstance(case, OperatorCase)]
    known = dict.fromkeys(kernel.name for case in ours for kernel in operators.tables()[case.op])
    for name in kernels:
        if name not in known:
            raise InputError(f"no kernel of these cases has the name {name!r}; {nearest(name, known)}")
    for name in against or ():
        if name not in operators.BASELINES:
            raise InputError(f"there is no baseline {name!r}; {nearest(name, operators.BASELINES)}")


def _of_operator(case: OperatorCase, pass_: Pass, wanted: Sequence[str]) -> list[Contender]:
    refusals = dict(operators.explain_kernels(case, pass_))
    names = [name for name in refusals if name in wanted]
    for name in names:
        if refusals[name] is not None:
            raise KernelRefused(f"kernel {name!r} refuses {case.name}: {refusals[name]}")
    if not wanted:
        names = [operators.chosen(case, pass_)]
    methods = [*(operators.kernel(case, name) for name in names), *operators.baselines(case)]
    return [_operator(case, method) for method in methods]


def _operator(case: OperatorCase, method: operators.Method) -> Contender:
    return Contender(
        method.name,
        method.role,
        prepare=partial(operators.prepare, case, method),
        refuse=partial(method.refuse, case),
        check=lambda training: check(case, method, training=training and method.refuse(case, "training") is None),
    )


def _of_model(case: ModelCase) -> list[Contender]:
    return [_attention(case, case.attention, parse_variant(case.attention)), _attention(case, models.OWN, None)]


def _attention(case: ModelCase, name: str, attention: Variant | None) -> Contender:
    return Contender(
        name,
        "baseline" if attention is None else "kernel",
        prepare=lambda pass_: models.prepare(case, attention, pass_),
        refuse=lambda _passed: None,
        check=lambda training: models.check_model(case, attention, training=training),
    )
