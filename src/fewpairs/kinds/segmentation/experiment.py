"""Segmentation: image files -> store -> encoder -> attention -> decoder -> masks -> metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from torch import nn

from fewpairs.attention import Attention, Softmax
from fewpairs.data.description import DataDescription
from fewpairs.data.identity import DataIdentity, PartIdentity
from fewpairs.data.split import Split
from fewpairs.kinds.kind import Built, Experiment
from fewpairs.kinds.segmentation.augment import SegmentationAugment
from fewpairs.kinds.segmentation.dataset import SegmentationDataset, SegmentationItems, collate_segmentation
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.label_values import in_order
from fewpairs.kinds.segmentation.layouts.open import SourceOptions
from fewpairs.kinds.segmentation.open_store import open_store
from fewpairs.kinds.segmentation.pictures import show_cases
from fewpairs.kinds.segmentation.scoring import SegmentationScoring
from fewpairs.kinds.segmentation.split import SPLIT_FIELDS, CaseSplit, leaks, split_scans
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.models import Segmenter, create_segmenter, load_segmenter
from fewpairs.scoring.score_table import find_score
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from fewpairs.kinds.segmentation.predict import SegmentationPredictor


@dataclass(frozen=True, kw_only=True)
class SegmentationModelConfig:
    """The segmenter and its attention."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}

    name: str = "setr_pup_small"
    """A name of `fewpairs models`."""
    encoder: str | None = None
    """The encoder of `semantic_fpn` and `upernet`: the timm name of any with a feature pyramid, such as `linglo_b0`."""
    attention: Attention | None = field(default_factory=Softmax)
    """One variant, or a list with one for each stage or block; with null `encoder` keeps its own attention."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels for which position embeddings are made; None uses `view.size`."""
    drop_path: float = 0.0
    pretrained: str | None = None
    """A file with weights of timm, DeiT, CvT or fewpairs; a KV model loads QKV weights without the queries."""


@dataclass(frozen=True, kw_only=True)
class SegmentationDataConfig:
    """The data set and its split into training and validation cases."""

    kind: Literal["uw-madison", "msd", "nifti", "folder"] = "uw-madison"
    root: str = "data"
    """The root folder of the data set."""
    source: SourceOptions = field(default_factory=SourceOptions)
    """Options of the layout: class names, the axis to slice along, folder names, ..."""
    split: Split = field(default_factory=Split)
    empty_fraction: float = 1.0
    """Share of the slices without any class that a training epoch uses; each epoch draws other ones."""
    cache: str | None = None
    """Folder for decoded data; None uses `fewpairs` in the user's cache folder (`XDG_CACHE_HOME`)."""

    def __post_init__(self) -> None:
        self.split.refuse_others("segmentation", SPLIT_FIELDS)


@dataclass(frozen=True, kw_only=True)
class SegmentationTaskConfig:
    """Loss, prediction and empty rule. See `fewpairs.kinds.segmentation.task.Segmentation`."""

    loss: str | None = None
    exclusive: bool = False
    threshold: float = 0.5
    auxiliary: bool = False
    aux_weight: float = 0.4
    empty_rule: Literal["strict", "credit", "kaggle"] = "strict"
    """The scores of classes that truth or prediction lack: see `fewpairs.kinds.segmentation.empty.EmptyRule`."""


@dataclass(frozen=True, kw_only=True)
class SegmentationExperiment(Experiment):
    """The settings of a segmenter, its scans and its training."""

    kind: ClassVar[str] = "segmentation"
    show = staticmethod(show_cases)

    name: str = "experiment"
    model: SegmentationModelConfig = field(default_factory=SegmentationModelConfig)
    data: SegmentationDataConfig = field(default_factory=SegmentationDataConfig)
    view: SegmentationView = field(default_factory=lambda: SegmentationView(size=(64, 64)))
    augment: SegmentationAugment | None = field(default_factory=SegmentationAugment)
    task: SegmentationTaskConfig = field(default_factory=SegmentationTaskConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000, batch_size=16))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        self._check()

    @property
    def scoring(self) -> SegmentationScoring:
        return SegmentationScoring(EmptyRule(self.task.empty_rule))

    @property
    def comparable(self) -> Mapping[str, Any]:
        return {"data.*": self.data, "view.size": self.view.size, "task.empty_rule": self.task.empty_rule}

    def build(self, *, progress: bool = True) -> Built:
        store, notices = open_store(self.data, progress=progress)
        cases = split_scans(store.scans, self.data.split)
        task = build_task(self.task, store.classes, ignores=store.ignores)
        training = SegmentationDataset(
            store,
            cases.train,
            view=self.view,
            augment=self.augment,
            seed=self.fit.seed,
            empty_fraction=self.data.empty_fraction,
        )
        return Built(
            model=self._segmenter(task, store.channels),
            task=task,
            training=training,
            validation=SegmentationItems(store, cases.validation, view=self.view),
            collate=collate_segmentation,
            size=self.view.size,
            channels=self.view.channels(store.channels),
            note={
                "classes": store.classes,
                "channels": store.channels,
                "train": cases.train,
                "validation": cases.validation,
            }
            | ({} if store.values is None or in_order(store.values) else {"values": store.values}),
            description=describe(self.data, cases, slices=len(training)),
            identity=lambda: DataIdentity(
                *(PartIdentity.of(store.entries(c)) for c in (cases.train, cases.validation))
            ),
            notices=(*notices, *leaks(store.scans, cases)),
        )

    def restore(self, note: Mapping[str, Any]) -> tuple[Segmenter, Segmentation]:
        task = build_task(self.task, tuple(note["classes"]))
        return self._segmenter(task, int(note["channels"])), task

    def start(self, built: Built) -> str | None:
        if self.model.pretrained is None:
            return None
        return str(load_segmenter(cast(Segmenter, built.model), self.model.pretrained))

    def training_task(self, built: Built) -> Segmentation:
        """The task during training. It leaves out the slow surface distances unless one of them is monitored."""
        classes = built.task.classes
        surface = find_score(self.fit.monitor, classes).surface
        return build_task(self.task, classes, surface=surface, ignores=built.task.ignores)

    def predictor(self, note: Mapping[str, Any], model: nn.Module, task: Any, **flags: Any) -> SegmentationPredictor:
        from fewpairs.kinds.segmentation.predict import SegmentationPredictor

        source = self.data.source
        known = {name: getattr(source, name) for name in ("axis", "thickness", "spacing")}
        trained = {name: value for name, value in known.items() if value is not None}
        options = trained | flags
        if "values" in note:
            options["values"] = tuple(map(tuple, note["values"]))
        return SegmentationPredictor(cast(Segmenter, model), task, self.view, **options)

    def _segmenter(self, task: Segmentation, channels: int) -> Segmenter:
        """Build the model with weights drawn from `fit.seed`; `channels` is the number of channels of an image."""
        torch.manual_seed(self.fit.seed)
        return create_segmenter(
            self.model.name,
            attention=self.model.attention,
            encoder=self.model.encoder,
            classes=task.channels,
            in_channels=self.view.channels(channels),
            image_size=self.model.image_size or self.view.size,
            auxiliary=self.task.auxiliary,
            drop_path=self.model.drop_path,
        )


def build_task(
    task: SegmentationTaskConfig, classes: Sequence[str], *, surface: bool = True, ignores: bool = False
) -> Segmentation:
    """Build the task for `classes`; `surface=False` skips the surface distances, which is faster."""
    return Segmentation(
        classes,
        loss=task.loss,
        exclusive=task.exclusive,
        threshold=task.threshold,
        auxiliary=task.auxiliary,
        aux_weight=task.aux_weight,
        surface=surface,
        rule=EmptyRule(task.empty_rule),
        ignores=ignores,
    )


def describe(data: SegmentationDataConfig, cases: CaseSplit, *, slices: int) -> DataDescription:
    """Describe the data and the split for reports."""
    split = data.split
    share = f"fold {split.fold} of {split.folds}" if split.fraction is None else f"the share {split.fraction:g}"
    return DataDescription(
        description=f"{Path(data.root).name} ({data.kind}), {slices} training slices",
        cases={"train": len(cases.train), "validation": len(cases.validation)},
        split="validation cases named in the settings"
        if split.cases
        else f"{share} by case, stratified by empty slices, split seed {split.seed}",
    )
