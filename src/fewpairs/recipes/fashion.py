"""Dense and k-NN attention compared at small scale: three architectures on Fashion-MNIST, minutes a run on a CPU.

Every model has about 50 keys in each attention and sees the same images in the same order; only attention differs:
softmax, or k-NN with a quarter, half or three quarters of the keys. The data set's test images are the validation data,
and `compare` scores the last weights, so nothing is chosen on them. Example: `fewpairs train vit_pico_fashion
data.root=FOLDER`. `recipes.linglo` uses the same settings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fewpairs.attention import KNN, Softmax, parse_variant, variant_name
from fewpairs.data.split import Split
from fewpairs.kinds.classification.experiment import (
    ClassificationDataConfig,
    ClassificationExperiment,
    ClassificationModelConfig,
    ClassificationTaskConfig,
)
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.models.classifiers import CLASSIFIERS
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

IMAGES = 4_000
"""The number of training images used, of 60,000, with equally many of every class."""

TESTED = 4_000
"""The number of test images used, of 10,000, with equally many of every class."""


def study(model: str, attention: str | dict[str, Any]) -> ClassificationExperiment:
    """One small classifier with softmax or k-NN attention, whose logits have the architecture's scale."""
    variant = parse_variant(attention)
    assert isinstance(variant, Softmax | KNN)
    scaled = replace(variant, scale_by=CLASSIFIERS[model].scale_by)
    return trained(f"{model}-{variant_name(scaled)}", ClassificationModelConfig(name=model, attention=scaled))


def trained(
    name: str, model: ClassificationModelConfig, *, epochs: int = 4, batch_size: int = 32
) -> ClassificationExperiment:
    """A small classifier with the settings of the study."""
    epoch = IMAGES // batch_size
    return ClassificationExperiment(
        name=name,
        model=model,
        data=ClassificationDataConfig(
            kind="idx",
            root="fashion-mnist",
            split=Split(validation="test", limit=IMAGES, validation_limit=TESTED),
            check="none",
        ),
        view=LabelledView(size=(28, 28), mean=(0.286,), std=(0.353,), crop_pct=1.0),
        augment=None,
        task=ClassificationTaskConfig(smoothing=0.1),
        fit=FitConfig(
            steps=epochs * epoch,
            batch_size=batch_size,
            evaluate_every=epoch,
            checkpoint_every=epoch,
            log_every=50,
            monitor="top1",
            workers=0,
        ),
        optimizer=OptimizerConfig(name="adamw", lr=2e-3, weight_decay=0.05),
        schedule=ScheduleConfig(name="cosine", warmup=epoch // 2),
    )
