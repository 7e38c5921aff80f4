"""Detection: images with objects -> view and augmentation -> encoder, FPN and heads -> boxes and masks -> metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import nn

from fewpairs.attention import Attention
from fewpairs.data.description import Check, DataDescription
from fewpairs.data.files import CasePattern
from fewpairs.data.identity import DataIdentity, PartIdentity
from fewpairs.data.patients import patient_notes, stems_of
from fewpairs.data.split import Split, held_out_units, random_subset
from fewpairs.errors import InputError
from fewpairs.kinds.detection.dataset import DetectionDataset, DetectionItems, collate_detection
from fewpairs.kinds.detection.layouts.open import DetectionKind, open_detection
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.pictures import show_images
from fewpairs.kinds.detection.scoring import DetectionScoring
from fewpairs.kinds.detection.source import AnnotatedImages, DetectionSource
from fewpairs.kinds.detection.task import Detection
from fewpairs.kinds.detection.view import DetectionAugment, DetectionView
from fewpairs.kinds.kind import Built, Experiment
from fewpairs.models import CountedDetector, Detector, DetectorOptions, create_detector, detector_spec
from fewpairs.models.detectors import HeadNorm
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from fewpairs.kinds.detection.predict import DetectionPredictor

SPLIT_FIELDS = (
    "validation", "train", "folds", "fold", "fraction", "test_fraction", "seed", "limit", "validation_limit",
    "case_pattern",
)  # fmt: skip
"""The fields of `data.split` that apply to detection."""


@dataclass(frozen=True, kw_only=True)
class DetectionModelConfig:
    """The detector, its encoder and its attention. See `fewpairs.models.DetectorOptions`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}

    name: str = "retinanet"
    """`retinanet`, `faster_rcnn` or `mask_rcnn`."""
    encoder: str = "linglo_b0"
    """The timm name of any encoder with a feature pyramid; those of fewpairs are registered there."""
    attention: Attention | None = None
    """One variant, or a list with one for each stage or block; with None the encoder keeps its own attention."""
    drop_path: float = 0.0
    pretrained: str | None = None
    """Weights of the encoder: a file, such as `best.safetensors` of a run, or `timm:NAME.TAG`."""
    width: int = 256
    """Channels of the FPN and of the heads' convolutions."""
    hidden: int = 1024
    """Width of the R-CNNs' linear layers."""
    samples: int = 512
    """Number of boxes in an image that train an R-CNN's second stage in a step."""
    norm: HeadNorm = "none"
    """Normalisation of FPN and heads; use `group` to train from scratch."""
    anchor_sizes: tuple[tuple[float, ...], ...] | None = None
    """Square roots of anchor areas in pixels of the resized image, for each map from the finest; None: by stride."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Ratios of height to width."""
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100
    """Maximum number of detections per image. If it is above 100, scoring uses it too."""


@dataclass(frozen=True, kw_only=True)
class DetectionDataConfig:
    """The data set and its split into training and validation images."""

    kind: DetectionKind = "coco"
    root: str = "data"
    """The root folder of the data set."""
    source: DetectionOptions = field(default_factory=DetectionOptions)
    """Options of the layout."""
    split: Split = field(default_factory=lambda: Split(validation="validation"))
    check: Check = "header"
    """Check of the image files before training: headers and ends, every pixel, or none."""
    empty: bool = True
    """Whether images without objects are used for training."""

    def __post_init__(self) -> None:
        self.split.refuse_others("detection", SPLIT_FIELDS)


@dataclass(frozen=True, kw_only=True)
class DetectionTaskConfig:
    """The scores and the weights of the losses. See `task.Detection`."""

    masks: bool | None = None
    """Whether masks are scored in addition to boxes; None scores them if the detector predicts them."""
    class_weight: float = 1.0
    box_weight: float = 1.0
    mask_weight: float = 1.0
    proposal_weight: float = 1.0
    """Weight of both losses of an R-CNN's first stage."""


@dataclass(frozen=True, kw_only=True)
class DetectionExperiment(Experiment):
    """The settings of a detector, its images and its training."""

    kind: ClassVar[str] = "detection"
    show = staticmethod(show_images)

    name: str = "experiment"
    model: DetectionModelConfig = field(default_factory=DetectionModelConfig)
    data: DetectionDataConfig = field(default_factory=DetectionDataConfig)
    view: DetectionView = field(default_factory=DetectionView)
    augment: DetectionAugment | None = field(default_factory=DetectionAugment)
    task: DetectionTaskConfig = field(default_factory=DetectionTaskConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000, batch_size=8, monitor="ap"))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        self._check()
        if self.task.masks and not detector_spec(self.model.name).masks:
            raise InputError(f"task.masks is true, but {self.model.name} has boxes alone; use mask_rcnn or unset it")

    @property
    def masks(self) -> bool:
        """Whether masks are scored."""
        return detector_spec(self.model.name).masks if self.task.masks is None else self.task.masks

    @property
    def scoring(self) -> DetectionScoring:
        return DetectionScoring(
            masks=self.masks, headline="mask_ap" if self.masks else "ap", max_detections=self._max_detections
        )

    @property
    def comparable(self) -> Mapping[str, Any]:
        return {"data.*": self.data, "task.masks": self.masks, "model.detections over 100": self._max_detections}

    @property
    def options(self) -> DetectorOptions:
        """The options of the detector, with the sizes of the view."""
        chosen = self.model
        return DetectorOptions(
            short=self.view.short,
            long=self.view.long,
            width=chosen.width,
            hidden=chosen.hidden,
            samples=chosen.samples,
            norm=chosen.norm,
            anchor_sizes=chosen.anchor_sizes,
            anchor_ratios=chosen.anchor_ratios,
            score_threshold=chosen.score_threshold,
            nms_threshold=chosen.nms_threshold,
            detections=chosen.detections,
        )

    def build(self, *, progress: bool = True) -> Built:
        data = self.data
        source = open_detection(data.kind, data.root, data.source, split=data.split, look=data.check)
        learns = detector_spec(self.model.name).masks
        if (learns or self.masks) and not source.has_masks:
            raise InputError(
                f"{self.model.name} needs masks, but {self.data.root} ({self.data.kind}) has boxes alone; use "
                "model.name=retinanet or faster_rcnn"
            )
        training, validation = split_detection(self.data, source)
        view = self.view
        note = {
            "classes": source.classes,
            "category_ids": source.category_ids,
            "channels": view.channels,
            "train": len(training),
            "validation": len(validation),
            "left_out": source.check.sentences(),
        }
        model, task = self.restore(note)
        return Built(
            model=model,
            task=task,
            training=DetectionDataset(training, view, augment=self.augment, masks=learns, seed=self.fit.seed),
            validation=DetectionItems(validation, view, masks=self.masks),
            collate=collate_detection,
            size=view.scaled(validation[0].size),
            channels=view.channels,
            note=note,
            description=describe(self.data, source, training, validation),
            identity=lambda: DataIdentity(*(PartIdentity.of(side.entries()) for side in (training, validation))),
            notices=(*source.check.sentences(shown=1), *leaks(training, validation, data.split.case_pattern)),
            costed=CountedDetector(model),
        )

    def restore(self, note: Mapping[str, Any]) -> tuple[Detector, Detection]:
        classes = tuple(note["classes"])
        weights = {
            "class": self.task.class_weight,
            "box": self.task.box_weight,
            "mask": self.task.mask_weight,
            "proposal_class": self.task.proposal_weight,
            "proposal_box": self.task.proposal_weight,
        }
        task = Detection(classes, masks=self.masks, weights=weights, max_detections=self._max_detections)
        torch.manual_seed(self.fit.seed)
        model = create_detector(
            self.model.name,
            encoder=self.model.encoder,
            attention=self.model.attention,
            classes=len(classes),
            in_channels=int(note["channels"]),
            drop_path=self.model.drop_path,
            options=self.options,
        )
        return model, task

    def start(self, built: Built) -> str | None:
        if self.model.pretrained is None:
            return None
        return str(cast(Detector, built.model).encoder.load(self.model.pretrained))

    def predictor(self, note: Mapping[str, Any], model: nn.Module, task: Any, **flags: Any) -> DetectionPredictor:
        from fewpairs.kinds.detection.predict import DetectionPredictor

        category_of = dict(zip(task.classes, note["category_ids"], strict=True))
        return DetectionPredictor(cast(Detector, model), task, self.view, category_of, **flags)

    @property
    def _max_detections(self) -> int:
        """The number of detections per class and image that scoring uses: at least COCO's 100."""
        return max(100, self.model.detections)


def split_detection(data: DetectionDataConfig, source: DetectionSource) -> tuple[AnnotatedImages, AnnotatedImages]:
    """Split the images into training and validation.

    Raises:
        InputError: the data set has no such part, or no training image has objects and `empty` is false.
    """
    split = data.split
    rows = np.concatenate([source.part(part).rows for part in split.train])
    on = split.validated(source.parts, source.name)
    if on == "train":
        held = held_out_rows([source.images.ids[row] for row in rows.tolist()], split)
        training = AnnotatedImages(source, np.delete(rows, held))
        validation = AnnotatedImages(source, rows[np.sort(held)])
    else:
        training, validation = AnnotatedImages(source, rows), source.part(on)
    if not data.empty:
        training = training.with_objects()
        if not len(training):
            raise InputError(f"no image of {', '.join(split.train)} has an object; check it, or set data.empty=true")
    return (
        training.take(random_subset(len(training), split.limit, split.seed)),
        validation.take(random_subset(len(validation), split.validation_limit, split.seed)),
    )


def held_out_rows(names: Sequence[str], split: Split) -> np.ndarray:
    """Draw the places of the images that are held out; with a `case_pattern`, those of whole cases."""
    if split.case_pattern is None:
        return held_out_units(len(names), split)
    case_of = CasePattern(split.case_pattern)
    cases, case = np.unique([case_of(stem) for stem in stems_of(names)], return_inverse=True)
    return np.flatnonzero(np.isin(case, held_out_units(len(cases), split)))


def leaks(training: AnnotatedImages, validation: AnnotatedImages, pattern: str | None) -> tuple[str, ...]:
    """Return a sentence if names say that one patient has images on both sides."""
    sides = {"training": training, "validation": validation}
    stems = {name: stems_of([one.id for one in images]) for name, images in sides.items()}
    return patient_notes(stems, "data.split.case_pattern", pattern=pattern, drawn=True)


def describe(
    data: DetectionDataConfig, source: DetectionSource, training: AnnotatedImages, validation: AnnotatedImages
) -> DataDescription:
    """Describe the data and the split for reports."""
    objects = sum(int(record.count) for record in training)
    return DataDescription(
        description=f"{Path(data.root).name} ({data.kind}), {len(training)} training images with {objects} objects of "
        f"{len(source.classes)} class{'' if len(source.classes) == 1 else 'es'}"
        + "".join(f"; {sentence}" for sentence in source.check.sentences()),
        cases={"train": len(training), "validation": len(validation)},
        split=f"trained on {', '.join(data.split.train)}, validated on {data.split.validation}; {source.split}"
        + data.split.limits,
    )
