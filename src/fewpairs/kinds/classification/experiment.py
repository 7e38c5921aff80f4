"""Classification: labelled pictures -> view and augmentation -> classifier -> classes -> metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from fewpairs.attention import Attention, Softmax
from fewpairs.data.description import Check, DataDescription
from fewpairs.data.split import Split
from fewpairs.errors import InputError
from fewpairs.kinds.classification.augment import LabelledAugment, small_augment
from fewpairs.kinds.classification.check import check_images
from fewpairs.kinds.classification.dataset import ClassificationDataset, ClassificationItems, LabelledCollate
from fewpairs.kinds.classification.layouts.open import LabelledKind, LabelledOptions, open_labelled
from fewpairs.kinds.classification.pictures import show_mistakes
from fewpairs.kinds.classification.scoring import ClassificationScoring
from fewpairs.kinds.classification.source import LabelledSource
from fewpairs.kinds.classification.split import SPLIT_FIELDS, LabelledSplit, identity, leaks, split_labelled
from fewpairs.kinds.classification.task import Classification
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.kind import Built, Experiment
from fewpairs.models import load_pretrained
from fewpairs.models.classifiers import create_classifier
from fewpairs.models.probe import LinearProbe
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig
from fewpairs.types import Size

if TYPE_CHECKING:
    from fewpairs.kinds.classification.predict import ClassificationPredictor


@dataclass(frozen=True, kw_only=True)
class ClassificationModelConfig:
    """Settings of the classifier and its attention."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}

    name: str = "vit_nano"
    """A classifier of `fewpairs models`."""
    attention: Attention = field(default_factory=Softmax)
    """One variant, or a list of one for each stage or block."""
    image_size: Size | None = None
    """Height and width in pixels for which position tables are made; None: the size that training sees."""
    options: dict[str, str | float | int | bool | None] = field(default_factory=dict)
    """Further options of the architecture, such as `{layout: grafted}` of a LinGlo."""
    drop_path: float = 0.0
    pretrained: str | None = None
    """A file of weights, `best.safetensors` of a run among them, or `timm:NAME.TAG`."""
    frozen: bool = False
    """Train only a linear classifier on the features of the frozen encoder (linear evaluation)."""
    probe_blocks: int = 1
    """Number of last blocks whose class tokens are concatenated; for `frozen`."""

    def __post_init__(self) -> None:
        if not self.frozen and self.probe_blocks != 1:
            raise InputError(
                f"model.probe_blocks={self.probe_blocks} is for the linear evaluation of a frozen encoder; set "
                "model.frozen=true or leave it out"
            )
        if self.frozen and self.drop_path:
            raise InputError(f"model.drop_path={self.drop_path}: a frozen encoder drops nothing; set it to 0")


@dataclass(frozen=True, kw_only=True)
class ClassificationDataConfig:
    """Settings of the data set and its split."""

    kind: LabelledKind = "folder"
    root: str = "data"
    """The folder of the data set; for `huggingface` also a name on the hub."""
    source: LabelledOptions = field(default_factory=LabelledOptions)
    """Options of the layout."""
    split: Split = field(default_factory=Split)
    check: Check = "header"
    """Check of the files before training: `header` reads headers and ends, `decode` decodes every pixel."""
    cache: str | None = None
    """Folder for unpacked data and the list of checked files; None: `fewpairs` in the user's cache folder."""

    def __post_init__(self) -> None:
        self.split.refuse_others("classification", SPLIT_FIELDS)


@dataclass(frozen=True, kw_only=True)
class ClassificationTaskConfig:
    """Settings of `fewpairs.kinds.classification.task.Classification`."""

    loss: Literal["ce", "bce"] = "ce"
    smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ClassificationExperiment(Experiment):
    """Training of a classifier on labelled pictures."""

    kind: ClassVar[str] = "classification"
    show = staticmethod(show_mistakes)

    name: str = "experiment"
    model: ClassificationModelConfig = field(default_factory=ClassificationModelConfig)
    data: ClassificationDataConfig = field(default_factory=ClassificationDataConfig)
    view: LabelledView = field(default_factory=LabelledView)
    augment: LabelledAugment | None = field(default_factory=small_augment)
    task: ClassificationTaskConfig = field(default_factory=ClassificationTaskConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000, batch_size=64, monitor="top1"))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        self._check()

    @property
    def scoring(self) -> ClassificationScoring:
        return ClassificationScoring()

    @property
    def comparable(self) -> Mapping[str, Any]:
        return {"data.*": self.data, "view.size": self.view.size}

    def build(self, *, progress: bool = True) -> Built:
        source, split, notices = open_split(self.data, progress=progress)
        view, task = self.view.with_channels(source.channels), self._task(source.classes)
        training = ClassificationDataset(source, split.train, view, augment=self.augment, seed=self.fit.seed)
        return Built(
            model=self._classifier(task, training.channels),
            task=task,
            training=training,
            validation=ClassificationItems(source, split.validation, view),
            collate=LabelledCollate(self.augment, len(source.classes), self.fit.seed),
            size=view.size,
            channels=training.channels,
            note={
                "classes": source.classes,
                "channels": training.channels,
                "train": len(split.train),
                "validation": len(split.validation),
                "left_out": source.notes,
            },
            description=describe(self.data, split),
            identity=lambda: identity(source, split),
            notices=notices,
        )

    def restore(self, note: Mapping[str, Any]) -> tuple[nn.Module, Classification]:
        task = self._task(tuple(note["classes"]))
        return self._classifier(task, int(note["channels"])), task

    def start(self, built: Built) -> str | None:
        if self.model.pretrained is None:
            return None
        encoder = built.model.encoder if isinstance(built.model, LinearProbe) else built.model
        return str(load_pretrained(encoder, self.model.pretrained))

    def predictor(self, note: Mapping[str, Any], model: nn.Module, task: Any, **flags: Any) -> ClassificationPredictor:
        from fewpairs.kinds.classification.predict import ClassificationPredictor

        return ClassificationPredictor(model, task, self.view.with_channels(int(note["channels"])), **flags)

    def _task(self, classes: tuple[str, ...]) -> Classification:
        return Classification(classes, loss=self.task.loss, smoothing=self.task.smoothing)

    def _classifier(self, task: Classification, channels: int) -> nn.Module:
        """Return the model with fresh weights from `fit.seed`."""
        torch.manual_seed(self.fit.seed)
        classifier = create_classifier(
            self.model.name,
            attention=self.model.attention,
            classes=len(task.classes),
            in_channels=channels,
            image_size=self.model.image_size or self.view.size,
            drop_path=self.model.drop_path,
            options=self.model.options,
        )
        if not self.model.frozen:
            return classifier
        return LinearProbe(classifier, len(task.classes), blocks=self.model.probe_blocks)


def open_split(
    data: ClassificationDataConfig, *, progress: bool = True
) -> tuple[LabelledSource, LabelledSplit, tuple[str, ...]]:
    """Open the data set, split it and check the images of both sides; the last are notes on files.

    Raises:
        InputError: files or options are wrong.
        DataError: images cannot be read; the message names them.
    """
    cache = cache_folder(data)
    source = open_labelled(data.kind, data.root, data.source, cache=cache)
    split = split_labelled(source, data.split)
    notices = (*source.notes, *leaks(source, split, data.split.case_pattern))
    if data.check != "none":
        seen = np.concatenate([split.train, split.validation])
        notices += check_images(source, seen, decode=data.check == "decode", cache=cache, progress=progress)
    return source, split, notices


def cache_folder(data: ClassificationDataConfig) -> Path:
    """Return the folder of unpacked data: `data.cache`, or a folder in the cache of the user (`XDG_CACHE_HOME`)."""
    if data.cache is not None:
        return Path(data.cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fewpairs" / "labelled"


def describe(data: ClassificationDataConfig, split: LabelledSplit) -> DataDescription:
    """Describe the data and the split for reports."""
    chosen = data.split
    return DataDescription(
        description=f"{Path(data.root).name} ({data.kind}), {len(split.train)} training images",
        cases={"train": len(split.train), "validation": len(split.validation)},
        split=f"validated on {chosen.validation}, fold {chosen.fold} of share {chosen.share:g}, seed {chosen.seed}"
        + chosen.limits,
    )
