"""Comparison of recipes over seeds on the same cases: costs, intervals, paired differences."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any, cast

import torch

from fewpairs.cost import CostBreakdown
from fewpairs.data.progress import remark
from fewpairs.errors import InputError
from fewpairs.folder_lock import lock_folder
from fewpairs.kinds.kind import Built, Experiment
from fewpairs.report import Comparison, Difference, Estimate, Row, StepTime
from fewpairs.runs.config import load_experiment, to_dict, to_yaml
from fewpairs.runs.provenance import WEIGHTS_NOTE, attention_name, data_notes, model_cost, score_curve
from fewpairs.runs.same_data import check_same_data, write_data_note
from fewpairs.runs.step_cost import peak_bytes, time_steps, training_step
from fewpairs.runs.training import evaluate, train
from fewpairs.safe_text import file_name, same_file
from fewpairs.scoring.scoring import Scoring
from fewpairs.train import Interrupted, RunFolder, describe_environment, read_history
from fewpairs.train.environment import describe_hardware, source_commit
from fewpairs.train.run_folder import Weights
from fewpairs.writing import check_inside

Runs = Mapping[str, Sequence[Sequence[Any]]]
"""Recipe -> records of each seed."""

_MOST_UNITS = 200
"""Number of cases or images up to which each is drawn by itself."""
ROUNDS = 15
"""Number of timed training steps of each model; the models take turns."""


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """Experiments to compare, and the rule for verdicts on their differences."""

    experiments: Mapping[str, Experiment]
    """Experiments by name; the first is the reference."""
    seeds: tuple[int, ...] = (0, 1, 2)
    margin: float = 0.02
    """Largest loss of the headline score that still counts as no worse; choose it before looking at results."""
    headline: str | None = None
    """Score that verdicts use; None takes the default of the kind of experiment."""
    weights: Weights = "last"
    """`best` is chosen on the cases that are scored, so its scores are too high for all models; `last` is not."""
    samples: int = 2000
    """Bootstrap resamples."""

    def __post_init__(self) -> None:
        if not self.experiments:
            raise InputError("there is nothing to compare; name at least one recipe")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"seeds={self.seeds} must be one or more different whole numbers")
        if len({same_file(file_name(name)) for name in self.experiments}) != len(self.experiments):
            raise InputError(f"{', '.join(self.experiments)}: two of these would have one run folder; rename one")
        first, *others = self.experiments.items()
        for name, other in others:
            if other.kind != first[1].kind:
                raise InputError(
                    f"{name} is of the kind {other.kind}, {first[0]} {first[1].kind}; compare experiments of one kind"
                )
            mine, theirs = first[1].comparable, other.comparable
            if different := [field for field in mine if mine[field] != theirs[field]]:
                raise InputError(
                    f"{name} and {first[0]} differ in {', '.join(different)}, so their scores cannot be compared; set "
                    "the same values for both"
                )

    @property
    def scoring(self) -> Scoring:
        """Scoring of the experiments, which is the same for all."""
        return next(iter(self.experiments.values())).scoring

    @property
    def headline_score(self) -> str:
        """Name of the score that verdicts use."""
        return self.headline or self.scoring.headline


def compare(
    plan: ComparisonPlan,
    out: Path,
    *,
    title: str,
    command: str,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Train and score all runs, measure the costs and return one `Comparison`.

    Runs are in `out/runs/<recipe>/seed-<n>`. Finished runs are reused and unfinished ones are resumed, so the same
    command continues an interrupted comparison.

    Raises:
        InputError: a run folder holds a run with other settings, another process works in the folder, or data and
            recipes do not fit together.
        TrainingError: training failed or was interrupted.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("a comparison runs in one process; start it without a launcher (single runs take one)")
    check_inside(out, (run_folder(out, name, seed) / "config.yaml" for name in plan.experiments for seed in plan.seeds))
    with lock_folder(out, "comparing"):
        return _compare(plan, out, title, command, progress, say)


def _compare(
    plan: ComparisonPlan, out: Path, title: str, command: str, progress: bool, say: Callable[[str], None]
) -> Comparison:
    records: dict[str, list[Sequence[Any]]] = {name: [] for name in plan.experiments}
    built: Built | None = None
    total = len(plan.seeds) * len(plan.experiments)
    for seed in plan.seeds:
        for name, experiment in plan.experiments.items():
            seeded = experiment.with_seed(seed)
            folder = run_folder(out, name, seed)
            done = sum(len(runs) for runs in records.values())
            say(f"[{done + 1}/{total}] {name}, seed {seed}")
            built = seeded.build(progress=progress)
            if RunFolder(folder).last.is_file():
                check_same_data(folder, built, remedy="restore them, or name another --out, where all runs train anew")
            if not done:
                remark(data_notes(seeded, built))
            try:
                records[name].append(_run(seeded, folder, plan.weights, built, progress=progress))
            except Interrupted as stop:
                raise Interrupted(f"{stop}\nThe whole comparison resumes with: {command}") from None
    assert built is not None  # a plan holds at least one experiment and one seed
    say("measuring time and memory of a training step, all models in turn")
    return _report(plan, out, built, records, title=title, command=command)


def run_folder(out: Path, recipe: str, seed: int) -> Path:
    """Return the folder of one run of a comparison."""
    return out / "runs" / file_name(recipe) / f"seed-{seed}"


def _run(experiment: Experiment, folder: Path, weights: Weights, built: Built, *, progress: bool) -> Sequence[Any]:
    """Return the records of one run; train or finish it first if necessary."""
    with RunFolder(folder).lock():
        return _finished_records(experiment, folder, weights, built, progress)


def _finished_records(
    experiment: Experiment, folder: Path, weights: Weights, built: Built, progress: bool
) -> Sequence[Any]:
    run, text = RunFolder(folder), to_yaml(experiment)
    if run.config.is_file() and to_yaml(load_experiment(run.config)) != text:
        raise InputError(f"{folder} holds a run with other settings; remove it or name another --out folder")
    if not (run.last.is_file() and run.finished):
        resume = run.last.is_file()
        if not resume:
            run.create(text)
            write_data_note(built, folder)
        train(experiment, run, resume=resume, progress=progress, built=built)
    file = folder / f"records-{weights}.jsonl"
    if not file.is_file() or file.stat().st_mtime < run.last.stat().st_mtime:
        metric = evaluate(experiment, folder, weights=weights, progress=progress, built=built)
        experiment.scoring.save(metric.records, file)
    return experiment.scoring.load(file)


def _report(plan: ComparisonPlan, out: Path, built: Built, runs: Runs, *, title: str, command: str) -> Comparison:
    scoring, headline = plan.scoring, plan.headline_score
    scoring.check(headline, built.task.classes)
    times, peaks, costs, device = _step_costs(plan)
    first = next(iter(plan.experiments))
    rows = []
    for name, experiment in plan.experiments.items():
        seeds = runs[name]
        single = [scoring.scores(records) for records in seeds]
        rows.append(
            Row(
                recipe=name,
                label=name,
                attention=attention_name(experiment.model.attention),
                parameters=costs[name].parameters,
                macs=costs[name].macs,
                scores={
                    key: Estimate.of(value) for key, value in scoring.intervals(seeds, samples=plan.samples).items()
                },
                step_ms=_milliseconds(times[name]),
                peak_mib=peaks[name] / 2**20,
                peak_of=f"tensors made in one training step of {experiment.fit.batch_size} images ({device.type})",
                per_seed={key: tuple(scores[key] for scores in single) for key in single[0]},
                differences=None
                if name == first
                else {
                    key: Difference.of(
                        scoring.paired(runs[first], seeds, metric=key, margin=plan.margin, samples=plan.samples)
                    )
                    for key in dict.fromkeys((headline, *scoring.compared))
                },
                units=_by_unit(scoring, seeds, headline),
                confusions=scoring.confusions(seeds[0]),
                curves=tuple(
                    score_curve(read_history(RunFolder(run_folder(out, name, seed))), seed) for seed in plan.seeds
                ),
                overlays=experiment.with_seed(plan.seeds[0]).pictures(
                    run_folder(out, name, plan.seeds[0]),
                    seeds[0],
                    weights=plan.weights,
                    headline=headline,
                    chosen_by=runs[first][0],
                ),
            )
        )
    environment = describe_environment()
    return Comparison(
        title=title,
        command=command,
        commit=source_commit(),
        hardware=describe_hardware(environment),
        versions={"python": platform.python_version(), **environment["packages"]},
        data=built.description,
        classes=built.task.classes,
        seeds=plan.seeds,
        margin=plan.margin,
        rows=tuple(rows),
        settings=_shared_settings(plan),
        monitor=next(iter(plan.experiments.values())).fit.monitor,
        headline=headline,
        resamples=plan.samples,
        empty_rule=scoring.rule,
        kind=next(iter(plan.experiments.values())).kind,
        notes=(WEIGHTS_NOTE[plan.weights],),
        date=date.today().isoformat(),
    )


def _by_unit(scoring: Scoring, runs: Sequence[Sequence[Any]], name: str) -> dict[str, float]:
    """Return the mean score of each unit over the seeds; empty for more units than can be drawn."""
    if scoring.count(runs[0]) > _MOST_UNITS:
        return {}
    found = [scoring.by_unit(records, name) for records in runs]
    return {unit: mean(one[unit] for one in found) for unit in found[0] if all(unit in one for one in found)}


def _step_costs(
    plan: ComparisonPlan,
) -> tuple[dict[str, list[float]], dict[str, int], dict[str, CostBreakdown], torch.device]:
    """Return by experiment: seconds of training steps, peak bytes of a step, and the cost of one image."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps, peaks, costs = {}, {}, {}
    for name, experiment in plan.experiments.items():
        one = experiment.build(progress=False)
        size = experiment.fit.batch_size
        batch = one.collate([one.training[0, index % len(one.training)] for index in range(size)])
        costs[name] = model_cost(one)
        steps[name] = training_step(one.model, one.task, batch, device)
        peaks[name] = peak_bytes(steps[name], device)
    return time_steps(steps, rounds=ROUNDS, device=device), peaks, costs, device


def _milliseconds(seconds: Sequence[float]) -> StepTime:
    lower, _, upper = quantiles(seconds, n=4)
    return StepTime(1000 * median(seconds), 1000 * lower, 1000 * upper)


def _shared_settings(plan: ComparisonPlan) -> dict[str, Any]:
    """Return the settings that all experiments share, by section."""
    first, *others = (to_dict(experiment) for experiment in plan.experiments.values())

    def common(one: Any, rest: Sequence[Any]) -> Any:
        if isinstance(one, dict):
            kept = {}
            for key, value in one.items():
                inner = common(value, [r.get(key) if isinstance(r, dict) else None for r in rest])
                if inner is not _DIFFERENT:
                    kept[key] = inner
            return kept
        return one if all(r == one for r in rest) else _DIFFERENT

    shared = common(first, others)
    shared["fit"].pop("seed", None)
    return cast(dict[str, Any], shared)


_DIFFERENT = object()
