"""DINO (arXiv 2104.14294): a ViT-S/16 trained on ImageNet without labels, and a small ViT on Fashion-MNIST.

The settings on ImageNet are those of the publication's longer ViT-S run (300 epochs, teacher warmed to 0.07, last layer
not normalised), for which its repository reports 73.3 % by k-NN and about 76.1 % by linear evaluation. We have not run
them at this scale and promise no score. Two settings differ: gradients are clipped by their joint norm rather than
tensor by tensor, and the teacher's temperature rises with each step rather than each epoch. The global batch
is `fit.batch_size x fit.accumulate x processes`: as written, one GPU takes it in 16 passes; start several processes
(`accelerate launch`) with `fit.accumulate` divided by their number for the same result.
"""

from __future__ import annotations

from typing import Any

from fewpairs.attention import KNN, Softmax, Variant, parse_variant
from fewpairs.data.split import Split
from fewpairs.kinds.classification.augment import LabelledAugment
from fewpairs.kinds.classification.experiment import (
    ClassificationDataConfig,
    ClassificationExperiment,
    ClassificationModelConfig,
)
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.self_distillation.experiment import (
    SelfDistillationExperiment,
    SelfDistillationModelConfig,
    SelfDistillationTaskConfig,
)
from fewpairs.kinds.self_distillation.multicrop import MultiCrop
from fewpairs.models.dino import TeacherSchedule
from fewpairs.recipes.imagenet import IMAGES
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

GLOBAL_BATCH = 1024
EPOCH = IMAGES // GLOBAL_BATCH
PASS = 64

FASHION = ClassificationDataConfig(
    kind="idx",
    root="fashion-mnist",
    split=Split(validation="test", limit=20_000, validation_limit=4_000),
    check="none",
)
FASHION_VIEW = LabelledView(size=(28, 28), mean=(0.286,), std=(0.353,), crop_pct=1.0)


def imagenet() -> SelfDistillationExperiment:
    """ViT-S/16 on ImageNet-1k without labels (DINO), softmax attention.

    `fewpairs train dino_small_imagenet data.root=FOLDER`
    """
    return _imagenet(Softmax())


def imagenet_knn() -> SelfDistillationExperiment:
    """ViT-S/16 on ImageNet-1k without labels (DINO), k-NN attention with 100 keys, all 37 in local crops.

    `fewpairs train dino_small_knn_imagenet data.root=FOLDER`
    """
    return _imagenet(KNN(topk=100))


def _imagenet(attention: Variant) -> SelfDistillationExperiment:
    epochs, lr = 300, 0.0005 * GLOBAL_BATCH / 256
    return SelfDistillationExperiment(
        name="dino-small" if attention == Softmax() else "dino-small-knn",
        model=SelfDistillationModelConfig(
            name="vit_small_patch16_224", attention=attention, drop_path=0.1, learn_norm=True
        ),
        data=ClassificationDataConfig(kind="imagenet", root="imagenet"),
        view=LabelledView(size=(224, 224)),
        crops=MultiCrop(),
        teacher=TeacherSchedule(temperature=0.07, cold_temperature=0.04, warmup=30 * EPOCH, freeze=EPOCH),
        task=SelfDistillationTaskConfig(bank=100_000),
        fit=FitConfig(
            steps=epochs * EPOCH,
            batch_size=PASS,
            accumulate=GLOBAL_BATCH // PASS,
            precision="bf16",
            clip=3.0,
            evaluate_every=10 * EPOCH,
            checkpoint_every=EPOCH,
            log_every=50,
            monitor="knn_top1",
            workers=14,
        ),
        optimizer=OptimizerConfig(name="adamw", lr=lr, weight_decay=0.04, weight_decay_end=0.4),
        schedule=ScheduleConfig(name="cosine", warmup=10 * EPOCH, floor=1e-6 / lr),
    )


def linear_imagenet() -> ClassificationExperiment:
    """Linear evaluation on ImageNet-1k, class tokens of four blocks of a frozen ViT-S/16, softmax attention.

    `fewpairs train dino_linear_imagenet data.root=FOLDER model.pretrained=RUN/best.safetensors`
    """
    return _linear_imagenet(Softmax())


def linear_imagenet_knn() -> ClassificationExperiment:
    """Linear evaluation on ImageNet-1k, class tokens of four blocks of a frozen ViT-S/16, k-NN attention.

    `fewpairs train dino_linear_knn_imagenet data.root=FOLDER model.pretrained=RUN/best.safetensors`
    """
    return _linear_imagenet(KNN(topk=100))


def _linear_imagenet(attention: Variant) -> ClassificationExperiment:
    return ClassificationExperiment(
        name="dino-linear" if attention == Softmax() else "dino-linear-knn",
        model=ClassificationModelConfig(name="vit_small_patch16_224", attention=attention, frozen=True, probe_blocks=4),
        data=ClassificationDataConfig(kind="imagenet", root="imagenet"),
        view=LabelledView(size=(224, 224)),
        augment=LabelledAugment(),
        fit=FitConfig(
            steps=100 * EPOCH,
            batch_size=GLOBAL_BATCH,
            precision="bf16",
            clip=None,
            evaluate_every=5 * EPOCH,
            checkpoint_every=EPOCH,
            log_every=50,
            monitor="top1",
            workers=14,
        ),
        optimizer=OptimizerConfig(name="sgd", lr=0.001 * GLOBAL_BATCH / 256, weight_decay=0.0),
        schedule=ScheduleConfig(name="cosine"),
    )


def fashion(attention: str | dict[str, Any]) -> SelfDistillationExperiment:
    """A small ViT on Fashion-MNIST without labels; `fewpairs train dino_pico_fashion data.root=FOLDER`."""
    chosen = parse_variant(attention)
    return SelfDistillationExperiment(
        name="dino-pico" if chosen == Softmax() else "dino-pico-knn",
        model=SelfDistillationModelConfig(
            name="vit_pico", attention=chosen, drop_path=0.0, outputs=256, hidden=256, bottleneck=64
        ),
        data=FASHION,
        view=FASHION_VIEW,
        crops=MultiCrop(local_size=(12, 12), local_crops=4, local_scale=(0.1, 0.4), blur=1.0),
        teacher=TeacherSchedule(momentum=0.98, temperature=0.04),
        task=SelfDistillationTaskConfig(bank=4_000),
        fit=FitConfig(
            steps=1500,
            batch_size=64,
            clip=3.0,
            evaluate_every=300,
            checkpoint_every=300,
            log_every=50,
            monitor="knn_top1",
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.04, weight_decay_end=0.4),
        schedule=ScheduleConfig(name="cosine", warmup=400),
    )


def linear_fashion(attention: str | dict[str, Any]) -> ClassificationExperiment:
    """Linear evaluation on Fashion-MNIST, class tokens of all four blocks of a frozen small ViT.

    `fewpairs train dino_pico_linear_fashion data.root=FOLDER model.pretrained=RUN/best.safetensors`
    """
    chosen = parse_variant(attention)
    return ClassificationExperiment(
        name="dino-pico-linear" if chosen == Softmax() else "dino-pico-linear-knn",
        model=ClassificationModelConfig(name="vit_pico", attention=chosen, frozen=True, probe_blocks=4),
        data=FASHION,
        view=FASHION_VIEW,
        augment=None,
        fit=FitConfig(
            steps=600,
            batch_size=128,
            clip=None,
            evaluate_every=150,
            checkpoint_every=150,
            log_every=50,
            monitor="top1",
        ),
        optimizer=OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.0),
        schedule=ScheduleConfig(name="cosine"),
    )
