"""Self-distillation: pictures -> multi-crop views -> student and teacher -> features -> their neighbours' classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from fewpairs.attention import Attention, Softmax
from fewpairs.errors import InputError
from fewpairs.kinds.classification.dataset import ClassificationItems
from fewpairs.kinds.classification.experiment import ClassificationDataConfig, describe, open_split
from fewpairs.kinds.classification.split import identity
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.kind import Built, Experiment
from fewpairs.kinds.self_distillation.multicrop import (
    GLOBAL_CROPS,
    ExemplarItems,
    MultiCrop,
    MultiCropDataset,
    collate_crops,
)
from fewpairs.kinds.self_distillation.scoring import FeatureScoring
from fewpairs.kinds.self_distillation.task import SelfDistillation
from fewpairs.models import load_pretrained
from fewpairs.models.classifiers import create_classifier
from fewpairs.models.dino import DinoPair, ProjectionHead, TeacherSchedule
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig
from fewpairs.types import Size


@dataclass(frozen=True, kw_only=True)
class SelfDistillationModelConfig:
    """Settings of the encoder, its attention and the projection head."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}

    name: str = "vit_nano"
    """A classifier of `fewpairs models` that takes images of any size."""
    attention: Attention = field(default_factory=Softmax)
    """One variant, or a list of one for each stage or block."""
    image_size: Size | None = None
    """Height and width in pixels for which position tables are made; None: the size of the global crops."""
    drop_path: float = 0.1
    """Stochastic depth of the student; the teacher has none."""
    pretrained: str | None = None
    """A file of weights from which both encoders start."""
    outputs: int = 65536
    """Number of outputs of the head."""
    hidden: int = 2048
    bottleneck: int = 256
    learn_norm: bool = False
    """Whether the head's last layer learns the norms of its weights too ("not normalised")."""


@dataclass(frozen=True, kw_only=True)
class SelfDistillationTaskConfig:
    """Settings of the loss and of the scores of features."""

    temperature: float = 0.1
    """Temperature of the student."""
    neighbours: int = 20
    """Number of training images that vote on the class of a validation image."""
    bank: int | None = None
    """Maximum number of training images that are searched for neighbours; None uses all."""

    def __post_init__(self) -> None:
        if self.bank is not None and self.bank < 1:
            raise InputError(f"task.bank={self.bank}: give at least 1 image, or leave it out for all")


@dataclass(frozen=True, kw_only=True)
class SelfDistillationExperiment(Experiment):
    """Training of an encoder on pictures without labels, which only score its features."""

    kind: ClassVar[str] = "self-distillation"

    name: str = "experiment"
    model: SelfDistillationModelConfig = field(default_factory=SelfDistillationModelConfig)
    data: ClassificationDataConfig = field(default_factory=ClassificationDataConfig)
    view: LabelledView = field(default_factory=LabelledView)
    """View, whose size is that of the global crops."""
    crops: MultiCrop = field(default_factory=MultiCrop)
    teacher: TeacherSchedule = field(default_factory=TeacherSchedule)
    task: SelfDistillationTaskConfig = field(default_factory=SelfDistillationTaskConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000, batch_size=64, clip=3.0, monitor="knn_top1"))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        self._check()
        if self.fit.ema is not None:
            raise InputError(
                f"fit.ema={self.fit.ema}: the teacher is the moving average already (teacher.momentum); leave it out"
            )
        if self.fit.repeats != 1:
            raise InputError(f"fit.repeats={self.fit.repeats}: every image has several crops already; set it to 1")

    @property
    def scoring(self) -> FeatureScoring:
        return FeatureScoring(self.task.neighbours)

    @property
    def comparable(self) -> Mapping[str, Any]:
        return {
            "data.*": self.data,
            "view.size": self.view.size,
            "task.neighbours": self.task.neighbours,
            "task.bank": self.task.bank,
        }

    def build(self, *, progress: bool = True) -> Built:
        source, split, notices = open_split(self.data, progress=progress)
        view, task = self.view.with_channels(source.channels), self._task(source.classes)
        training = MultiCropDataset(source, split.train, view, self.crops, seed=self.fit.seed)
        bank = _limited(split.train, self.task.bank, self.data.split.seed)
        pair = self._pair(training.channels)
        return Built(
            model=pair,
            task=task,
            training=training,
            validation=ExemplarItems(
                ClassificationItems(source, bank, view), ClassificationItems(source, split.validation, view)
            ),
            collate=collate_crops,
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
            costed=pair.teacher.encoder,
        )

    def restore(self, note: Mapping[str, Any]) -> tuple[nn.Module, SelfDistillation]:
        return self._pair(int(note["channels"])), self._task(tuple(note["classes"]))

    def start(self, built: Built) -> str | None:
        if self.model.pretrained is None:
            return None
        pair: Any = built.model
        report = load_pretrained(pair.student.encoder, self.model.pretrained)
        pair.teacher.encoder.load_state_dict(pair.student.encoder.state_dict())
        return str(report)

    def _task(self, classes: tuple[str, ...]) -> SelfDistillation:
        return SelfDistillation(classes, temperature=self.task.temperature, neighbours=self.task.neighbours)

    def _pair(self, channels: int) -> DinoPair:
        """Student and teacher with fresh weights drawn from `fit.seed`."""
        torch.manual_seed(self.fit.seed)
        student, teacher = (self._encoder(channels, drop_path) for drop_path in (self.model.drop_path, 0.0))
        self._try_crops(student, channels)
        head = ProjectionHead(
            int(student.num_features),  # type: ignore[arg-type]  # timm's interface
            self.model.outputs,
            hidden=self.model.hidden,
            bottleneck=self.model.bottleneck,
            learn_norm=self.model.learn_norm,
        )
        return DinoPair(student, teacher, head, self.teacher, steps=self.fit.steps, global_crops=GLOBAL_CROPS)

    def _encoder(self, channels: int, drop_path: float) -> nn.Module:
        return create_classifier(
            self.model.name,
            attention=self.model.attention,
            classes=0,
            in_channels=channels,
            image_size=self.model.image_size or self.view.size,
            drop_path=drop_path,
        )

    def _try_crops(self, encoder: nn.Module, channels: int) -> None:
        """Raise InputError unless the encoder takes crops of both sizes."""
        sizes = {"view.size": self.view.size}
        if self.crops.local_crops:
            sizes["crops.local_size"] = self.crops.local_size
        encoder.eval()
        for name, size in sizes.items():
            try:
                with torch.no_grad():
                    encoder(torch.zeros(1, channels, *size))
            except (AssertionError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"{name}={list(size)}: {self.model.name} cannot take crops of this size ({error}); choose a "
                    "multiple of its patches, or a model for images of any size, such as vit_small_patch16_224"
                ) from error
        encoder.train()


def _limited(indices: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """Draw at most `limit` of the images, in their order."""
    if limit is None or limit >= len(indices):
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, limit, replace=False))
