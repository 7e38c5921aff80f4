"""Your own pictures in a folder for each class: fine-tuning from pretrained weights, and linear evaluation.

DeiT's augmentation at DeiT's size with a tenth of its rate, 20 epochs of a thousand images by default: set `fit.steps`
to `epochs x images / 64` and the warm-up to a twentieth of that.
"""

from __future__ import annotations

from fewpairs.attention import KNN, Softmax, Variant
from fewpairs.kinds.classification.augment import deit_augment, small_augment
from fewpairs.kinds.classification.experiment import (
    ClassificationDataConfig,
    ClassificationExperiment,
    ClassificationModelConfig,
    ClassificationTaskConfig,
)
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig


def fine_tune() -> ClassificationExperiment:
    """DeiT-Tiny from its ImageNet weights on a folder for each class, softmax attention.

    `fewpairs train deit_tiny_fine_tune data.root=FOLDER`; without a network `model.pretrained=FILE`, null for none.
    """
    return _fine_tune(Softmax())


def fine_tune_knn() -> ClassificationExperiment:
    """DeiT-Tiny from its ImageNet weights on a folder for each class, k-NN attention with 100 keys.

    `fewpairs train deit_tiny_knn_fine_tune data.root=FOLDER`; without a network `model.pretrained=FILE`.
    """
    return _fine_tune(KNN(topk=100))


def _fine_tune(attention: Variant) -> ClassificationExperiment:
    return ClassificationExperiment(
        name="deit-tiny-fine-tune" if attention == Softmax() else "deit-tiny-knn-fine-tune",
        model=ClassificationModelConfig(
            name="deit_tiny_patch16_224",
            attention=attention,
            drop_path=0.1,
            pretrained="timm:deit_tiny_patch16_224.fb_in1k",
        ),
        data=ClassificationDataConfig(kind="folder", root="pictures"),
        view=LabelledView(size=(224, 224)),
        augment=deit_augment(),
        task=ClassificationTaskConfig(smoothing=0.1),
        fit=FitConfig(
            steps=320,
            batch_size=64,
            clip=1.0,
            evaluate_every=80,
            checkpoint_every=80,
            log_every=10,
            monitor="top1",
            workers=4,
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-4, weight_decay=0.05, head_lr=1.0),
        schedule=ScheduleConfig(name="cosine", warmup=16),
    )


def linear_probe() -> ClassificationExperiment:
    """Linear evaluation: one layer on the features of a frozen ViT-S/16.

    `fewpairs train linear_probe data.root=FOLDER model.pretrained=RUN/best.safetensors`, of a DINO run or any other.
    """
    return ClassificationExperiment(
        name="linear-probe",
        model=ClassificationModelConfig(name="vit_small_patch16_224", frozen=True, probe_blocks=4),
        data=ClassificationDataConfig(kind="folder", root="pictures"),
        view=LabelledView(size=(224, 224)),
        augment=small_augment(padding=0),
        fit=FitConfig(
            steps=1000,
            batch_size=256,
            clip=None,
            evaluate_every=250,
            checkpoint_every=250,
            log_every=50,
            monitor="top1",
            workers=4,
        ),
        optimizer=OptimizerConfig(name="sgd", lr=1e-2, weight_decay=0.0),
        schedule=ScheduleConfig(name="cosine"),
    )
