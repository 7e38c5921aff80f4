"""Training, loading, scoring and report of a run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from torch import nn

from fewpairs.data.progress import remark
from fewpairs.errors import InputError
from fewpairs.kinds import PREDICTIONS
from fewpairs.kinds.kind import Built, Experiment
from fewpairs.kinds.predictor import Predictor
from fewpairs.report import Comparison, Estimate, Row, write_run
from fewpairs.runs.config import load_experiment, merge, parse_override, to_dict, to_yaml, validate
from fewpairs.runs.provenance import WEIGHTS_NOTE, attention_name, data_notes, model_cost, score_curve
from fewpairs.runs.same_data import check_same_data, damaged_note, read_data_note, write_data_note
from fewpairs.runs.training import PRETRAINED_NOTE, evaluate, train
from fewpairs.train import History, RunFolder, describe_environment, leave_processes, load_weights
from fewpairs.train.environment import describe_hardware, source_commit
from fewpairs.train.run_folder import Weights, weights_file


@dataclass(frozen=True)
class LoadedRun:
    """Trained model with everything that its use needs."""

    folder: Path
    model: nn.Module
    """Model in evaluation mode, on the CPU."""
    task: Any
    experiment: Experiment
    note: dict[str, Any]
    """Description of the data, see `Built.note`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the model."""
        return tuple(self.task.classes)

    def predictor(self, **flags: Any) -> Predictor[Any, Any, Any, Any]:
        """Return the predictor of this run; `flags` are those of `fewpairs predict`, such as `batch_size=4`.

        Raises:
            InputError: the kind of the run predicts nothing or has no such flag, or a value is out of range.
        """
        experiment = self.experiment
        if experiment.kind not in PREDICTIONS:
            raise InputError(
                f"{self.folder} is a run of the kind {experiment.kind}, which predicts no masks, classes or objects"
            )
        predicts, declared = PREDICTIONS[experiment.kind]
        known = {flag.key: flag for flag in declared}
        stray = [f"--{name.replace('_', '-')}" for name in flags if name not in (*known, "device")]
        if stray:
            raise InputError(
                f"{', '.join(stray)}: no option for {self.folder}, which predicts {predicts}; leave it out"
            )
        for name, flag in known.items():
            if flag.section is not None and name in flags:
                experiment = with_settings(experiment, flag.section, flags.pop(name))
        return experiment.predictor(self.note, self.model, self.task, **flags)


def run_settings(folder: Path) -> Experiment:
    """Return the experiment of a run folder.

    Raises:
        InputError: the folder holds no run.
    """
    config = RunFolder(folder).config
    if not config.is_file():
        raise InputError(f"{folder} holds no run (no {config.name}); name a folder that `fewpairs train` made")
    return load_experiment(config)


def train_run(experiment: Experiment, folder: Path, *, resume: bool, overwrite: bool, progress: bool) -> History:
    """Train in a run folder, score the best weights and write `report.html`.

    Under a launcher every process calls this function; the first one writes.

    Raises:
        InputError: the folder cannot hold the run, or files or settings are wrong.
        TrainingError: training failed or was interrupted; its files are kept.
    """
    run = RunFolder(folder)
    if resume:
        run.check_resumable()
    built = experiment.build(progress=progress and first_process())
    if resume:
        check_same_data(folder, built, remedy="restore them, or train a new run; data.json has the run's digests")
    if first_process():
        remark(data_notes(experiment, built))
    with run.lock(main=first_process()):
        if first_process() and not resume:
            run.create(to_yaml(experiment), overwrite=overwrite)
            for stale in (*folder.glob("records-*.jsonl"), folder / "report.html", folder / PRETRAINED_NOTE):
                stale.unlink(missing_ok=True)
            write_data_note(built, folder)
        history = train(experiment, run, resume=resume, progress=progress, built=built)
        metric = evaluate(experiment, folder, weights="best", progress=progress, built=built)
        if first_process():
            experiment.scoring.save(metric.records, folder / "records-best.jsonl")
            write_run_report(experiment, folder, metric.records, built, history)
    leave_processes()
    return history


def first_process() -> bool:
    """Return whether this process writes files: it is the only one, or the first of a launcher."""
    return os.environ.get("RANK", "0") == "0"


def evaluate_run(
    folder: Path,
    *,
    weights: Weights = "best",
    progress: bool = True,
    inference: Sequence[str] = (),
    changed_data: bool = False,
) -> tuple[Experiment, list[Any]]:
    """Score the weights of a run on its validation data, and write the records beside the weights.

    With changes of the settings `inference` (see `with_settings`) no records are written.

    Args:
        changed_data: score images or labels that have changed since training; their records get a file of their own.

    Raises:
        InputError: the classes of the data are not those of the run, or images or labels have changed.
    """
    file, experiment = weights_file(folder, weights), with_settings(run_settings(folder), "inference", inference)
    built = experiment.build(progress=progress)
    remedy = "restore them, or score them as they are with --changed-data"
    other = check_same_data(folder, built, remedy=remedy, allowed=changed_data)
    records = evaluate(experiment, folder, weights=weights, progress=progress, built=built).records
    if not inference:
        experiment.scoring.save(records, file.with_name(f"records-{weights}{f'-{other}' if other else ''}.jsonl"))
    return experiment, records


def with_settings(experiment: Experiment, section: str, changes: Sequence[str]) -> Experiment:
    """Return the experiment with changed settings in a section, such as `["flip=true", "ratios=[0.5, 1]"]`.

    Raises:
        InputError: a setting is unknown or out of range, or the kind of experiment does not have the section.
    """
    if not changes:
        return experiment
    having = [name for name, (_, flags) in PREDICTIONS.items() if any(flag.section == section for flag in flags)]
    if experiment.kind not in having:
        raise InputError(
            f"--{section} {changes[0]}: a run of the kind {experiment.kind} has no {section} settings; only runs of "
            f"the kind {', '.join(having)} have them"
        )
    return validate(merge(to_dict(experiment), [parse_override(f"{section}.{text}") for text in changes]))


def load_run(folder: Path, weights: Weights = "best") -> LoadedRun:
    """Load the model of a run for prediction; its training data is not needed.

    Raises:
        InputError: the folder holds no run, or no such checkpoint.
        CheckpointError: the checkpoint is damaged or belongs to another model.
    """
    experiment, file = run_settings(folder), weights_file(folder, weights)
    note = read_data_note(folder)
    try:
        model, task = experiment.restore(note)
    except (KeyError, TypeError):
        raise damaged_note(folder) from None
    load_weights(file, model)
    return LoadedRun(folder, model.eval(), task, experiment, note)


def write_run_report(
    experiment: Experiment, folder: Path, records: Sequence[Any], built: Built, history: History
) -> Path:
    """Write `report.html` of one run: scores with intervals, curves, and the best, median and worst case."""
    environment = describe_environment()
    headline = experiment.fit.monitor
    seed, costs, scoring = experiment.fit.seed, model_cost(built), experiment.scoring
    row = Row(
        recipe=experiment.name,
        label=experiment.name,
        attention=attention_name(experiment.model.attention),
        parameters=costs.parameters,
        macs=costs.macs,
        scores={name: Estimate.of(value) for name, value in scoring.intervals([records], samples=1000).items()},
        step_ms=None,
        peak_mib=history.peak_memory_bytes / 2**20,
        peak_of="most memory of the training process: tensors on a GPU, resident size on a CPU",
        per_seed={name: (value,) for name, value in scoring.scores(records).items()},
        curves=(score_curve(history, seed),),
        confusions=scoring.confusions(records),
        overlays=experiment.pictures(folder, records, weights="best", headline=headline, built=built),
    )
    report = Comparison(
        title=experiment.name,
        command=f"fewpairs train {folder / 'config.yaml'}",
        commit=source_commit(),
        hardware=describe_hardware(environment),
        versions={"python": environment["python"], **environment["packages"]},
        data=built.description,
        classes=built.task.classes,
        seeds=(seed,),
        margin=0.0,
        rows=(row,),
        settings=to_dict(experiment),
        monitor=headline,
        headline=headline,
        empty_rule=scoring.rule,
        kind=experiment.kind,
        notes=(WEIGHTS_NOTE["best"],),
        date=date.today().isoformat(),
    )
    return write_run(report, folder)
