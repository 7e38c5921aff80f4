"""Origin of a result (data, attention, curves), as reports show it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from fewpairs.attention import Attention, Variant, variant_name
from fewpairs.cost import CostBreakdown, cost_breakdown
from fewpairs.kinds.kind import Built, Experiment
from fewpairs.report import Curve
from fewpairs.train import History
from fewpairs.train.run_folder import Weights

WEIGHTS_NOTE: dict[Weights, str] = {
    "last": "Scored with the weights at the end of training (their moving average where one is kept): nothing was "
    "chosen on the cases that are scored.",
    "best": "Scored with the weights that did best on these very cases during training, so the scores flatter; "
    "`fewpairs compare` scores the last weights unless told otherwise.",
}


def data_notes(experiment: Experiment, built: Built) -> tuple[str, ...]:
    """Return what the data of an experiment was read as, and what was found in its files, one sentence each."""
    parts = ", ".join(f"{name} {count}" for name, count in built.description.cases.items())
    data: Any = experiment.data  # type: ignore[attr-defined]  # every kind has this section
    return (f"{data.root} is read as {experiment.kind} in the layout {data.kind}: {parts}", *built.notices)


def model_cost(built: Built) -> CostBreakdown:
    """Return the cost of one image of the training size in the model of an experiment."""
    return cost_breakdown(built.costed or built.model, built.size, channels=built.channels)


def attention_name(attention: Attention | None) -> str:
    """Name the attention of a model, with options that are not the default; None is the model's own."""
    if attention is None:
        return "own"
    variants = [attention] if isinstance(attention, Variant) else attention
    return ", ".join(dict.fromkeys(_named(variant) for variant in variants))


def _named(variant: Variant) -> str:
    name = variant_name(variant)
    kind: Any = type(variant)
    changed = [
        f"{option.name}={getattr(variant, option.name)}"
        for option in fields(kind)
        if getattr(variant, option.name) != option.default
    ]
    return f"{name} ({', '.join(changed)})" if changed else name


def score_curve(history: History, seed: int) -> Curve:
    """Return loss and monitored score of a run by step."""
    scored = ((e.step, e.scores.get(history.monitor)) for e in history.evaluations)
    return Curve(
        seed,
        loss=tuple((step, loss) for step, loss in history.losses if loss is not None),
        score=tuple((step, score) for step, score in scored if score is not None),
        steps_per_epoch=history.steps_per_epoch,
    )
