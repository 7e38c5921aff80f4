"""Semantic segmentation of photographs: Semantic FPN and UperNet on ADE20K and Cityscapes, and two small sets.

`fewpairs train fpn_linglo_b0_ade20k data.root=ADEChallengeData2016 model.pretrained=linglo_b0.safetensors`: the papers
start from encoders trained on ImageNet, which `model.pretrained` names (a file such as a run's `best.safetensors`,
or `timm:pvt_v2_b0.in1k`). We have not run the large recipes at their scale. On one GPU of 80 GB `fit.precision=bf16`
and a batch of 16 fit; with several processes divide `fit.batch_size` by their number.
"""

from __future__ import annotations

from fewpairs.data.split import Split
from fewpairs.kinds.semantic.augment import SemanticAugment
from fewpairs.kinds.semantic.experiment import (
    SemanticDataConfig,
    SemanticExperiment,
    SemanticModelConfig,
    SemanticTaskConfig,
)
from fewpairs.kinds.semantic.layouts.open import SemanticOptions
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.models import InferenceConfig
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

HEART = {
    "background": (0, 0, 0),
    "left ventricle": (255, 0, 0),
    "right ventricle": (0, 0, 255),
    "left atrium": (255, 255, 0),
    "right atrium": (0, 255, 255),
    "aorta": (0, 255, 0),
    "pulmonary artery": (255, 255, 255),
    "superior vena cava": (255, 0, 255),
    "inferior vena cava": (128, 128, 128),
}
"""Classes of HVSMR-2.0 slices with masks in colour."""


def fpn_ade20k(encoder: str) -> SemanticExperiment:
    """Semantic FPN on ADE20K as PVT was published with it: 80,000 steps of 16, AdamW 1e-4, poly 0.9, crops of 512."""
    return SemanticExperiment(
        name=f"fpn-{encoder}-ade20k",
        model=SemanticModelConfig(name="semantic_fpn", encoder=encoder, drop_path=0.1),
        data=SemanticDataConfig(kind="ade20k", root="ADEChallengeData2016"),
        view=SemanticView(size=(512, 512), short=512, long=2048, channels=3),
        fit=_long(80_000, 16),
        optimizer=OptimizerConfig(name="adamw", lr=1e-4, weight_decay=1e-4),
        schedule=ScheduleConfig(name="poly", power=0.9),
    )


def upernet_ade20k(encoder: str) -> SemanticExperiment:
    """UperNet on ADE20K as Swin was published with it (2103.14030): 160,000 steps of 16, AdamW 6e-5, auxiliary head."""
    return SemanticExperiment(
        name=f"upernet-{encoder}-ade20k",
        model=SemanticModelConfig(name="upernet", encoder=encoder, drop_path=0.3),
        data=SemanticDataConfig(kind="ade20k", root="ADEChallengeData2016"),
        view=SemanticView(size=(512, 512), short=512, long=2048, channels=3),
        task=SemanticTaskConfig(auxiliary=True, aux_weight=0.4),
        fit=_long(160_000, 16),
        optimizer=OptimizerConfig(name="adamw", lr=6e-5, weight_decay=0.01),
        schedule=ScheduleConfig(name="poly", power=1.0, warmup=1500),
    )


def fpn_cityscapes(encoder: str) -> SemanticExperiment:
    """Semantic FPN on Cityscapes: 80,000 steps of 8, crops of 512 x 1024; scored in windows of that size."""
    return SemanticExperiment(
        name=f"fpn-{encoder}-cityscapes",
        model=SemanticModelConfig(name="semantic_fpn", encoder=encoder, drop_path=0.1),
        data=SemanticDataConfig(kind="cityscapes", root="cityscapes"),
        view=SemanticView(size=(512, 1024), short=1024, long=2048, channels=3),
        inference=InferenceConfig(mode="slide", window=(512, 1024), stride=(341, 683)),
        fit=_long(80_000, 8),
        optimizer=OptimizerConfig(name="adamw", lr=1e-4, weight_decay=1e-4),
        schedule=ScheduleConfig(name="poly", power=0.9),
    )


def fpn_nuclei(encoder: str) -> SemanticExperiment:
    """Nuclei against background on the Data Science Bowl 2018 images, from scratch.

    Mean IoU 0.885 with LinGlo-b0 and 0.876 with PVTv2-b0, one seed each, in three minutes of one core of an AMD EPYC.
    """
    return SemanticExperiment(
        name=f"fpn-{encoder}-nuclei",
        model=SemanticModelConfig(name="semantic_fpn_narrow", encoder=encoder),
        data=SemanticDataConfig(
            kind="label-maps",
            root="dsb2018-nuclei",
            source=SemanticOptions(classes=("background", "nucleus"), nonzero=True, split_file="index.csv"),
        ),
        view=SemanticView(size=(128, 128), short=None, channels=3),
        augment=SemanticAugment(scale=(0.7, 1.4), crop_share=1.0, turn=True),
        fit=_short(400, 8),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(name="poly", power=0.9, warmup=20),
    )


def fpn_heart(encoder: str) -> SemanticExperiment:
    """Eight parts of the heart in 36 slices of HVSMR-2.0, split by patient, from scratch.

    Mean IoU 0.573 with LinGlo-b0 and 0.503 with PVTv2-b0 on two patients, too few to distinguish them, one seed each,
    in seven minutes of one core of an AMD EPYC.
    """
    return SemanticExperiment(
        name=f"fpn-{encoder}-heart",
        model=SemanticModelConfig(name="semantic_fpn_narrow", encoder=encoder),
        data=SemanticDataConfig(
            kind="label-maps",
            root="hvsmr2-heart-mri-sample",
            source=SemanticOptions(colours=HEART, case_pattern=r"(\d+)_\d+"),
            split=Split(validation="train", fraction=0.4),
        ),
        view=SemanticView(size=(160, 160), short=192, channels=1),
        augment=SemanticAugment(scale=(0.7, 1.4), crop_share=0.95, flip=0.0),
        fit=_short(400, 8),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(name="poly", power=0.9, warmup=20),
    )


def _long(steps: int, batch_size: int) -> FitConfig:
    return FitConfig(
        steps=steps,
        batch_size=batch_size,
        clip=None,
        evaluate_every=8000,
        checkpoint_every=4000,
        log_every=50,
        monitor="miou",
        workers=8,
    )


def _short(steps: int, batch_size: int) -> FitConfig:
    return FitConfig(
        steps=steps,
        batch_size=batch_size,
        evaluate_every=steps // 2,
        checkpoint_every=steps // 2,
        log_every=20,
        monitor="miou",
    )
