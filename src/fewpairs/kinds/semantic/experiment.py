"""Semantic segmentation: images with label maps -> pyramid encoder -> decoder -> class of each pixel -> metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import nn

from fewpairs.attention import Attention
from fewpairs.data.description import Check, DataDescription
from fewpairs.data.split import Split
from fewpairs.kinds.kind import Built, Experiment
from fewpairs.kinds.label_numbers import written_numbers
from fewpairs.kinds.semantic.augment import SemanticAugment
from fewpairs.kinds.semantic.check import check_classes, check_images
from fewpairs.kinds.semantic.dataset import SemanticDataset, SemanticItems, collate_semantic
from fewpairs.kinds.semantic.layouts.open import SemanticKind, SemanticOptions, open_semantic
from fewpairs.kinds.semantic.pictures import show_images
from fewpairs.kinds.semantic.scoring import SemanticScoring
from fewpairs.kinds.semantic.source import SemanticSource
from fewpairs.kinds.semantic.split import SPLIT_FIELDS, SemanticSplit, identity, leaks, split_semantic
from fewpairs.kinds.semantic.task import Semantic
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.models import InferenceConfig, InferenceSegmenter, Segmenter, create_segmenter, load_segmenter
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from fewpairs.kinds.semantic.predict import SemanticPredictor


@dataclass(frozen=True, kw_only=True)
class SemanticModelConfig:
    """The segmenter, its encoder and its attention."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}

    name: str = "semantic_fpn"
    """`semantic_fpn`, `upernet`, or any other segmenter of `fewpairs models`."""
    encoder: str | None = None
    """The encoder of these two: the timm name of any with a feature pyramid, such as `linglo_b0`; null: `pvt_v2_b0`."""
    attention: Attention | None = None
    """One variant, or a list with one for each stage or block; with null the encoder keeps its own attention."""
    drop_path: float = 0.0
    pretrained: str | None = None
    """A file with weights of a classifier or a whole segmenter, or `timm:NAME.TAG`."""


@dataclass(frozen=True, kw_only=True)
class SemanticDataConfig:
    """The data set and its split into training and validation images."""

    kind: SemanticKind = "label-maps"
    root: str = "data"
    """The root folder of the data set."""
    source: SemanticOptions = field(default_factory=SemanticOptions)
    """Options of the layout: class names, how masks are read, folder names, ..."""
    split: Split = field(default_factory=Split)
    check: Check = "header"
    """Check of the files before training: headers and sizes, every pixel and label, or none."""

    def __post_init__(self) -> None:
        self.split.refuse_others("semantic segmentation", SPLIT_FIELDS)


@dataclass(frozen=True, kw_only=True)
class SemanticTaskConfig:
    """The auxiliary loss. See `fewpairs.kinds.semantic.task.Semantic`."""

    auxiliary: bool = False
    aux_weight: float = 0.4


@dataclass(frozen=True, kw_only=True)
class SemanticExperiment(Experiment):
    """The settings of a segmenter, its images with label maps and its training."""

    kind: ClassVar[str] = "semantic"
    show = staticmethod(show_images)

    name: str = "experiment"
    model: SemanticModelConfig = field(default_factory=SemanticModelConfig)
    data: SemanticDataConfig = field(default_factory=SemanticDataConfig)
    view: SemanticView = field(default_factory=SemanticView)
    augment: SemanticAugment | None = field(default_factory=SemanticAugment)
    task: SemanticTaskConfig = field(default_factory=SemanticTaskConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000, batch_size=16, monitor="miou"))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        self._check()

    @property
    def scoring(self) -> SemanticScoring:
        return SemanticScoring("images" if self.data.source.case_pattern is None else "cases")

    @property
    def comparable(self) -> Mapping[str, Any]:
        return {
            "data.*": self.data,
            "view.short": self.view.short,
            "view.long": self.view.long,
            "inference.*": self.inference,
        }

    def build(self, *, progress: bool = True) -> Built:
        source, split, notices = open_split(self.data, progress=progress)
        view, task = self.view.with_channels(source.channels), self._task(source.classes)
        channels, numbers = (
            view.channels or 3,
            written_numbers(source.values, len(source.classes), first=0, largest=255),
        )
        return Built(
            model=self._segmenter(task, channels),
            task=task,
            training=SemanticDataset(source, split.train, view, augment=self.augment, seed=self.fit.seed),
            validation=SemanticItems(source, split.validation, view),
            collate=collate_semantic,
            size=view.size,
            channels=channels,
            note={
                "classes": source.classes,
                "colours": source.colours,
                "channels": channels,
                "train": len(split.train),
                "validation": len(split.validation),
            }
            | ({} if numbers == tuple(range(len(numbers))) else {"numbers": numbers}),
            description=describe(self.data, split),
            identity=lambda: identity(split),
            notices=notices,
        )

    def restore(self, note: Mapping[str, Any]) -> tuple[nn.Module, Semantic]:
        task = self._task(tuple(note["classes"]))
        return self._segmenter(task, int(note["channels"])), task

    def start(self, built: Built) -> str | None:
        if self.model.pretrained is None:
            return None
        return str(load_segmenter(cast(Segmenter, built.model), self.model.pretrained))

    def inference_model(self, model: nn.Module) -> nn.Module:
        """Wrap the model by the settings `inference`; during training, images are evaluated once and as a whole."""
        return InferenceSegmenter(model, self.inference)

    def predictor(self, note: Mapping[str, Any], model: nn.Module, task: Any, **flags: Any) -> SemanticPredictor:
        from fewpairs.kinds.semantic.predict import SemanticPredictor

        return SemanticPredictor(
            self.inference_model(model),
            task,
            self.view.with_channels(int(note["channels"])),
            tuple((red, green, blue) for red, green, blue in note["colours"]),
            numbers=tuple(note.get("numbers", range(len(task.classes)))),
            **flags,
        )

    def _task(self, classes: tuple[str, ...]) -> Semantic:
        return Semantic(classes, auxiliary=self.task.auxiliary, aux_weight=self.task.aux_weight)

    def _segmenter(self, task: Semantic, channels: int) -> Segmenter:
        """Build the model with weights drawn from `fit.seed`."""
        torch.manual_seed(self.fit.seed)
        return create_segmenter(
            self.model.name,
            encoder=self.model.encoder,
            attention=self.model.attention,
            classes=task.channels,
            in_channels=channels,
            image_size=self.view.size,
            auxiliary=self.task.auxiliary,
            drop_path=self.model.drop_path,
        )


def open_split(
    data: SemanticDataConfig, *, progress: bool = True
) -> tuple[SemanticSource, SemanticSplit, tuple[str, ...]]:
    """Open the data set, split its images into training and validation, and check them; the last are notes on files.

    Raises:
        InputError: files or options are wrong.
        DataError: files cannot be read or do not fit together, or no mask has a class; the message names them.
    """
    source = open_semantic(data.kind, data.root, data.source)
    split = split_semantic(source, data.split)
    notices = (*source.notes, *leaks(split, data.source.case_pattern))
    if data.check != "none":
        seen = (*split.train, *split.validation)
        notices += check_images(source, seen, decode=data.check == "decode", progress=progress)
        notices += check_classes(source, progress=progress)
    return source, split, notices


def describe(data: SemanticDataConfig, split: SemanticSplit) -> DataDescription:
    """Describe the data and the split for reports."""
    chosen = data.split
    dealt = f"validated on {split.on}"
    if split.on == "train":
        dealt = f"fold {chosen.fold} of share {chosen.share:g} of the training cases held out, seed {chosen.seed}"
    return DataDescription(
        description=f"{Path(data.root).name} ({data.kind}), {len(split.train)} training images",
        cases={"train": len(split.train), "validation": len(split.validation)},
        split=dealt + chosen.limits,
    )
