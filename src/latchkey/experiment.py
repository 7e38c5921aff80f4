"""One experiment: image files -> store -> encoder -> attention -> decoder -> masks -> metrics.

The frozen dataclasses say what it is; the functions put it together. This is the only module that sees models, tasks,
data and training at once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch

from latchkey.attention import Softmax, Variant
from latchkey.data import (
    Augment,
    ScanDataset,
    SliceDataset,
    SourceOptions,
    Split,
    Store,
    View,
    collate,
    open_source,
    prepare,
    split_cases,
    split_listed,
)
from latchkey.errors import InputError
from latchkey.metrics import SCORES, EmptyRule, SegmentationMetric, find_score
from latchkey.models import Segmenter, create_segmenter, load_pretrained
from latchkey.tasks import Segmentation
from latchkey.train import FitConfig, History, OptimizerConfig, RunFolder, ScheduleConfig, fit, load_weights
from latchkey.train import evaluate as evaluate_model
from latchkey.train.schedule import check_schedule

Weights = Literal["best", "last"]

PRETRAINED_NOTE = "pretrained.txt"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which segmenter, with which attention."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}

    name: str = "setr_pup_small"
    """A name of `latchkey models`."""
    attention: Variant = field(default_factory=Softmax)
    image_size: tuple[int, int] | None = None
    """Height and width in pixels for which position tables are made; None: the size that training sees."""
    drop_path: float = 0.0
    pretrained: str | None = None
    """A file with weights of timm, DeiT, CvT or latchkey; QKV weights go into a KV model, less the queries."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which files, and which cases of them train and validate."""

    kind: Literal["uw-madison", "msd", "nifti", "folder"] = "uw-madison"
    root: str = "data"
    """The folder that holds the layout."""
    source: SourceOptions = field(default_factory=SourceOptions)
    """What the layout does not say itself: class names, the axis to slice along, folder names, ..."""
    folds: int = 5
    fold: int = 0
    split_seed: int = 0
    empty_fraction: float = 1.0
    """Share of the slices without any class that a training epoch holds, drawn anew for each."""
    cases: int | None = None
    """Use only this many cases (the first by name), training and validation together; None: all."""
    validation_cases: tuple[str, ...] = ()
    """Names of the cases to validate on, instead of a fold."""
    cache: str | None = None
    """Folder for decoded data; None: `latchkey` in the user's cache folder (`XDG_CACHE_HOME`)."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is asked of the masks. See `latchkey.tasks.Segmentation`."""

    loss: str | None = None
    exclusive: bool = False
    threshold: float = 0.5
    auxiliary: bool = False
    aux_weight: float = 0.4
    empty_rule: Literal["strict", "credit", "kaggle"] = "strict"
    """What a class scores that truth, prediction or both lack. See `latchkey.metrics.EmptyRule`."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides a run's result, as plain data; written beside every checkpoint."""

    name: str = "experiment"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    view: View = field(default_factory=lambda: View(size=(64, 64)))
    augment: Augment | None = field(default_factory=Augment)
    task: TaskConfig = field(default_factory=TaskConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000, batch_size=16))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        check_schedule(self.schedule, self.fit.steps)
        score = SCORES.get(self.fit.monitor.partition("/")[0])
        if score is not None and score.higher_is_better != self.fit.maximise:
            better = "higher" if score.higher_is_better else "lower"
            raise InputError(
                f"fit.monitor={self.fit.monitor} is better when {better}; fit.maximise={self.fit.maximise} would keep "
                f"the worst weights; set fit.maximise={str(score.higher_is_better).lower()}"
            )

    def with_seed(self, seed: int) -> Experiment:
        """The same experiment with another start: initial weights, order of the data and augmentation."""
        return replace(self, fit=replace(self.fit, seed=seed))


def open_store(config: DataConfig, *, progress: bool = True) -> Store:
    """The decoded data of `config`, built at first use and whenever its files have changed."""
    return prepare(open_source(config.kind, config.root, config.source), cache_folder(config), progress=progress)


def cache_folder(config: DataConfig) -> Path:
    """Where the decoded data of `config` lies: `data.cache`, or a folder of its own in the user's cache."""
    if config.cache is not None:
        return Path(config.cache)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(config.root).resolve()
    key = hashlib.sha256(repr((config.kind, str(root), config.source)).encode()).hexdigest()
    return user / "latchkey" / f"{root.name}-{key[:12]}"


def split(config: DataConfig, store: Store) -> Split:
    """The cases that train and those that validate; no case is on both sides.

    Raises:
        InputError: a validation case is unknown, or too few cases are there for the folds.
    """
    names = list(dict.fromkeys(scan.case for scan in store.scans))
    if config.cases is not None and not 2 <= config.cases <= len(names):
        raise InputError(
            f"data.cases={config.cases}: {config.root} has {len(names)} cases; allowed are 2 to {len(names)}"
        )
    kept = set(names[: config.cases])
    scans = [scan for scan in store.scans if scan.case in kept]
    if config.validation_cases:
        return split_listed(scans, config.validation_cases)
    return split_cases(scans, folds=config.folds, fold=config.fold, seed=config.split_seed)


def build_task(experiment: Experiment, classes: Sequence[str], *, surface: bool = True) -> Segmentation:
    """Loss, prediction and metric for `classes`; without `surface` no distances are measured, which is faster."""
    task = experiment.task
    return Segmentation(
        classes,
        loss=task.loss,
        exclusive=task.exclusive,
        threshold=task.threshold,
        auxiliary=task.auxiliary,
        aux_weight=task.aux_weight,
        surface=surface,
        rule=EmptyRule(task.empty_rule),
    )


def build_segmenter(experiment: Experiment, task: Segmentation, channels: int) -> Segmenter:
    """The model with fresh weights drawn from `fit.seed`; `channels` are an image's own."""
    torch.manual_seed(experiment.fit.seed)
    config = experiment.model
    return create_segmenter(
        config.name,
        attention=config.attention,
        classes=task.channels,
        in_channels=experiment.view.channels(channels),
        image_size=config.image_size or experiment.view.size,
        auxiliary=experiment.task.auxiliary,
        drop_path=config.drop_path,
    )


@dataclass(frozen=True)
class Built:
    """An experiment put together: data -> segmenter -> task."""

    segmenter: Segmenter
    task: Segmentation
    training: SliceDataset
    validation: ScanDataset
    split: Split


def build(experiment: Experiment, *, progress: bool = True) -> Built:
    """Opens the data and makes the model, the task and the two data sets of an experiment."""
    store = open_store(experiment.data, progress=progress)
    cases = split(experiment.data, store)
    task = build_task(experiment, store.classes)
    return Built(
        segmenter=build_segmenter(experiment, task, store.channels),
        task=task,
        training=SliceDataset(
            store,
            cases.train,
            view=experiment.view,
            augment=experiment.augment,
            seed=experiment.fit.seed,
            empty_fraction=experiment.data.empty_fraction,
        ),
        validation=ScanDataset(store, cases.validation, view=experiment.view),
        split=cases,
    )


def train(
    experiment: Experiment, run: RunFolder, *, resume: bool = False, progress: bool = True, built: Built | None = None
) -> History:
    """Trains an experiment in a run folder; `resume` goes on from the folder's last checkpoint.

    What became of the tensors of `model.pretrained` is written to `pretrained.txt` in the folder.
    """
    built = build(experiment, progress=progress) if built is None else built
    if experiment.model.pretrained is not None and not resume:
        report = load_pretrained(built.segmenter, experiment.model.pretrained)
        (run.path / PRETRAINED_NOTE).write_text(f"{report}\n", encoding="utf-8")
    return fit(
        built.segmenter,
        build_task(
            experiment, built.task.classes, surface=find_score(experiment.fit.monitor, built.task.classes).surface
        ),
        built.training,
        collate=collate,
        config=experiment.fit,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        run=run,
        evaluate_on=built.validation,
        resume=resume,
        progress=progress,
    )


def weights_file(folder: Path, weights: Weights) -> Path:
    """The checkpoint of a run: `best` by the monitored score, or `last` (its moving average where one is kept).

    Raises:
        InputError: the run has no such checkpoint.
    """
    run = RunFolder(folder)
    file = {"best": run.best, "last": run.last}[weights]
    if not file.is_file():
        raise InputError(f"{folder} has no {file.name}; train first: latchkey train RECIPE --out {folder}")
    return file


def evaluate(
    experiment: Experiment,
    folder: Path,
    *,
    weights: Weights,
    progress: bool = True,
    built: Built | None = None,
) -> SegmentationMetric:
    """The metric of a run's weights over its validation cases."""
    built = build(experiment, progress=progress) if built is None else built
    load_weights(weights_file(folder, weights), built.segmenter)
    metric = evaluate_model(
        built.segmenter,
        built.task,
        built.validation,
        device=experiment.fit.device,
        batch_size=experiment.fit.batch_size,
        precision=experiment.fit.precision,
        progress=progress,
    )
    return cast(SegmentationMetric, metric)
