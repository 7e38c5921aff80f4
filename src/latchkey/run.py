"""A run folder, end to end: train into it, load it back, score it, report on it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from latchkey.attention import variant_name
from latchkey.config import load_experiment, to_dict, to_yaml
from latchkey.data import View
from latchkey.errors import InputError
from latchkey.experiment import (
    PRETRAINED_NOTE,
    Built,
    Experiment,
    Weights,
    build,
    build_segmenter,
    build_task,
    evaluate,
    train,
    weights_file,
)
from latchkey.metrics import ScanStatistics, SegmentationMetric, compute_scores, intervals, save_records
from latchkey.models import Segmenter
from latchkey.provenance import DATA_NOTE, WEIGHTS_NOTE, commit, curve, describe, hardware, model_cost, note_data
from latchkey.report import Comparison, Estimate, Row, write_run
from latchkey.showcase import showcase
from latchkey.tasks import Segmentation
from latchkey.train import History, RunFolder, describe_environment, leave_processes, load_weights


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with what is needed to use it."""

    segmenter: Segmenter
    """In evaluation mode, on the CPU."""
    task: Segmentation
    view: View
    classes: tuple[str, ...]
    experiment: Experiment


def run_settings(folder: Path) -> Experiment:
    """The experiment that a run folder holds.

    Raises:
        InputError: the folder holds no run.
    """
    config = RunFolder(folder).config
    if not config.is_file():
        raise InputError(f"{folder} holds no run (no {config.name}); name a folder that `latchkey train` made")
    return load_experiment(config)


def train_run(experiment: Experiment, folder: Path, *, resume: bool, overwrite: bool, progress: bool) -> History:
    """Trains into a run folder, scores the weights that it keeps as best and writes `report.html`.

    Under a launcher every process calls this alike; the first one writes.

    Raises:
        InputError: the folder cannot hold the run, or files or settings are wrong.
        TrainingError: training failed or was interrupted; what it had is kept.
    """
    run = RunFolder(folder)
    if resume:
        run.check_resumable()
    built = build(experiment, progress=progress and first_process())
    if first_process() and not resume:
        run.create(to_yaml(experiment), overwrite=overwrite)
        for stale in (*folder.glob("records-*.jsonl"), folder / "report.html", folder / PRETRAINED_NOTE):
            stale.unlink(missing_ok=True)
        note_data(built, folder)
    history = train(experiment, run, resume=resume, progress=progress, built=built)
    metric = evaluate(experiment, folder, weights="best", progress=progress, built=built)
    if first_process():
        save_records(metric.records, folder / "records-best.jsonl")
        write_run_report(experiment, folder, metric.records, built, history)
    leave_processes()
    return history


def first_process() -> bool:
    """Whether this is the process that writes: the only one, or a launcher's first."""
    return os.environ.get("RANK", "0") == "0"


def evaluate_run(folder: Path, *, weights: Weights = "best", progress: bool = True) -> SegmentationMetric:
    """Scores a run's weights on its validation cases and keeps the records beside them."""
    file = weights_file(folder, weights)
    metric = evaluate(run_settings(folder), folder, weights=weights, progress=progress)
    save_records(metric.records, file.with_name(f"records-{weights}.jsonl"))
    return metric


def load_run(folder: Path, weights: Weights = "best") -> LoadedRun:
    """A run's model, ready to predict; the files that it was trained on need not be there.

    Raises:
        InputError: the folder holds no run, or no such checkpoint.
        CheckpointError: the checkpoint is damaged or belongs to another model.
    """
    experiment, file = run_settings(folder), weights_file(folder, weights)
    try:
        data = json.loads((folder / DATA_NOTE).read_text(encoding="utf-8"))
        classes, channels = tuple(data["classes"]), int(data["channels"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder / DATA_NOTE} is missing or damaged, so the classes are not known; train again, or restore it"
        ) from None
    task = build_task(experiment, classes)
    segmenter = build_segmenter(experiment, task, channels)
    load_weights(file, segmenter)
    return LoadedRun(segmenter.eval(), task, experiment.view, classes, experiment)


def write_run_report(
    experiment: Experiment, folder: Path, records: Sequence[ScanStatistics], built: Built, history: History
) -> Path:
    """Writes `report.html` about one run: scores with intervals, curves, and its best, median and worst case."""
    environment = describe_environment()
    headline = experiment.fit.monitor
    seed, costs = experiment.fit.seed, model_cost(experiment, built)
    row = Row(
        recipe=experiment.name,
        label=experiment.name,
        attention=variant_name(experiment.model.attention),
        parameters=costs.parameters,
        macs=costs.macs,
        scores={name: Estimate.of(value) for name, value in intervals(records, rule=built.task.rule).items()},
        step_ms=None,
        peak_mib=history.peak_memory_bytes / 2**20,
        peak_of="most memory of the training process: tensors on a GPU, resident size on a CPU",
        per_seed={name: (value,) for name, value in compute_scores(records, rule=built.task.rule).items()},
        curves=(curve(history, seed),),
        overlays=showcase(experiment, folder, records, weights="best", headline=headline, built=built),
    )
    report = Comparison(
        title=experiment.name,
        command=f"latchkey train {folder / 'config.yaml'}",
        commit=commit(),
        hardware=hardware(environment),
        versions={"python": environment["python"], **environment["packages"]},
        data=describe(experiment, built),
        classes=built.task.classes,
        seeds=(seed,),
        margin=0.0,
        rows=(row,),
        settings=to_dict(experiment),
        monitor=headline,
        headline=headline,
        empty_rule=built.task.rule.meaning,
        notes=(WEIGHTS_NOTE["best"],),
        date=date.today().isoformat(),
    )
    return write_run(report, folder)
