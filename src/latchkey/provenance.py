"""Where a result comes from: data, curves, hardware and commit, in the words that reports use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latchkey import __version__
from latchkey.cost import Ledger, ledger
from latchkey.experiment import Built, Experiment, Weights, build_segmenter
from latchkey.report import Curve, DataDescription
from latchkey.train import History

DATA_NOTE = "data.json"
"""File of a run folder that says what it was trained on."""

WEIGHTS_NOTE: dict[Weights, str] = {
    "last": "Scored with the weights at the end of training (their moving average where one is kept): nothing was "
    "chosen on the cases that are scored.",
    "best": "Scored with the weights that did best on these very cases during training, so the scores flatter; "
    "`latchkey compare` scores the last weights unless told otherwise.",
}


def note_data(built: Built, folder: Path) -> None:
    """Writes what a run has to know of its data when the files are elsewhere: classes, channels and the split."""
    content = {
        "classes": built.task.classes,
        "channels": built.training.store.channels,
        "train": built.split.train,
        "validation": built.split.validation,
    }
    (folder / DATA_NOTE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def describe(experiment: Experiment, built: Built) -> DataDescription:
    """The data and the split of an experiment."""
    data = experiment.data
    chosen = (
        "validation cases named in the settings"
        if data.validation_cases
        else f"fold {data.fold} of {data.folds} by case, stratified by empty slices, split seed {data.split_seed}"
    )
    return DataDescription(
        description=f"{Path(data.root).name} ({data.kind}), {len(built.training)} training slices",
        cases={"train": len(built.split.train), "validation": len(built.split.validation)},
        split=chosen,
    )


def model_cost(experiment: Experiment, built: Built) -> Ledger:
    """What one image of the training size costs in the model of an experiment on this data."""
    store = built.training.store
    segmenter = build_segmenter(experiment, built.task, store.channels)
    return ledger(segmenter, experiment.view.size, channels=experiment.view.channels(store.channels))


def curve(history: History, seed: int) -> Curve:
    """Loss and monitored score of a run by step."""
    scored = ((e.step, e.scores.get(history.monitor)) for e in history.evaluations)
    return Curve(
        seed,
        loss=tuple((step, loss) for step, loss in history.losses if loss is not None),
        score=tuple((step, score) for step, score in scored if score is not None),
    )


def hardware(environment: Mapping[str, Any]) -> str:
    """The device that PyTorch computes on here."""
    if environment["cuda_devices"]:
        return ", ".join(environment["cuda_devices"])
    name = processor_name() or environment["processor"]
    return f"{name}, {environment['cores']} cores, {torch.get_num_threads()} threads"


def processor_name() -> str | None:
    """The processor's model, where the system tells (Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def commit() -> str:
    """The commit of the source tree in use, marked when files differ from it; the version when it is no checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"latchkey {__version__}"
