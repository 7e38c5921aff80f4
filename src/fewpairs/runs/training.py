"""Training of an experiment in a run folder, and evaluation of the trained weights."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from fewpairs.kinds.kind import Built, Experiment
from fewpairs.train import History, RunFolder, fit, load_weights
from fewpairs.train import evaluate as evaluate_model
from fewpairs.train.failures import explained
from fewpairs.train.run_folder import Weights, weights_file
from fewpairs.writing import replace_text

PRETRAINED_NOTE = "pretrained.txt"


def train(
    experiment: Experiment, run: RunFolder, *, resume: bool = False, progress: bool = True, built: Built | None = None
) -> History:
    """Train an experiment in a run folder; `resume` continues from the folder's last checkpoint.

    The load report of `model.pretrained` is written to `pretrained.txt` in the folder.
    """
    built = experiment.build(progress=progress) if built is None else built
    if not resume:
        report = experiment.start(built)
        if report is not None:
            replace_text(run.path / PRETRAINED_NOTE, f"{report}\n")
    with explained(run):
        return fit(
            built.model,
            experiment.training_task(built),
            built.training,
            collate=built.collate,
            config=experiment.fit,
            optimizer=experiment.optimizer,
            schedule=experiment.schedule,
            run=run,
            evaluate_on=built.validation,
            resume=resume,
            progress=progress,
        )


def evaluate(
    experiment: Experiment,
    folder: Path,
    *,
    weights: Weights,
    progress: bool = True,
    built: Built | None = None,
) -> Any:
    """Evaluate a run's weights on its validation data and return the metric."""
    built = experiment.build(progress=progress) if built is None else built
    load_weights(weights_file(folder, weights), built.model)
    with explained(RunFolder(folder), again=f"fewpairs evaluate {shlex.quote(str(folder))}"):
        return evaluate_model(
            experiment.inference_model(built.model),
            built.task,
            built.validation,
            device=experiment.fit.device,
            batch_size=experiment.fit.batch_size,
            precision=experiment.fit.precision,
            workers=experiment.fit.workers,
            progress=progress,
        )
