"""The eleven architectures of the k-NN attention paper (arXiv 2106.00515, table 1) on ImageNet-1k, each with its dense
twin: the same settings for both, so that only the attention differs.

DeiT's recipe (arXiv 2012.12877), changed where an architecture's own publication says otherwise; see `SETTINGS`. The
global batch is `fit.batch_size x fit.accumulate x processes`: as written, one GPU takes it in several passes; start
several processes (`accelerate launch`) with `fit.accumulate` divided by their number for the same result. We have not
run these at scale and promise no score. LinGlo (a reconstruction) and PVTv2 of equal size train as PVTv2's repository
does, which is DeiT's recipe too. Token labelling (VOLO) is not offered, because its labels are not part of ImageNet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fewpairs.attention import Softmax
from fewpairs.kinds.classification.augment import deit_augment
from fewpairs.kinds.classification.experiment import (
    ClassificationDataConfig,
    ClassificationExperiment,
    ClassificationModelConfig,
    ClassificationTaskConfig,
)
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.models.classifiers import CLASSIFIERS, classifier_attention
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

IMAGES = 1_281_167
"""The number of training images of ImageNet-1k."""

PASS = 128
"""The number of images in one forward pass."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where an architecture's recipe differs from DeiT's."""

    batch: int = 1024
    lr: float = 1e-3
    weight_decay: float = 0.05
    drop_path: float = 0.1
    epochs: int = 300
    warmup_epochs: int = 5
    size: int = 224
    floor: float = 1e-5
    """The learning rate at the end."""


SETTINGS: dict[str, Settings] = {
    "deit_tiny_patch16_224": Settings(),
    "deit_small_patch16_224": Settings(),
    "deit_base_patch16_224": Settings(),
    "so_vit_7": Settings(batch=512, weight_decay=0.03),
    "visformer_tiny": Settings(drop_path=0.03),
    "cvt_13": Settings(batch=2048, lr=2e-3),
    "cvt_21": Settings(batch=2048, lr=2e-3),
    "tnt_s_patch16_224": Settings(),
    "volo_d1_384": Settings(lr=1.6e-3),
    "volo_d3_448": Settings(drop_path=0.5),
    "swin_tiny_patch4_window7_224": Settings(drop_path=0.2, warmup_epochs=20),
    "t2t_vit_t_19": Settings(batch=512, lr=5e-4, weight_decay=0.065),
    "twins_svt_base": Settings(drop_path=0.3),
    "pit_b_224": Settings(),
    **{name: Settings() for name in ("linglo_b0", "linglo_b1", "linglo_b2")},
    **{name: Settings() for name in ("pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2")},
}
"""Settings of the publications' repositories; VOLO trains at 224 and is fine-tuned at its own size (`fine_tuned`)."""


def dense(name: str) -> ClassificationExperiment:
    """An architecture with softmax attention. `fewpairs train deit_tiny_imagenet data.root=FOLDER`."""
    return trained(name, SETTINGS[name], "softmax")


def key_only(name: str) -> ClassificationExperiment:
    """An architecture with key-only attention. `fewpairs train linglo_b0_imagenet data.root=FOLDER`."""
    return trained(name, SETTINGS[name], "keyonly")


def knn(name: str) -> ClassificationExperiment:
    """An architecture with k-NN attention. `fewpairs train deit_tiny_knn_imagenet data.root=FOLDER`."""
    return trained(name, SETTINGS[name], "knn")


def trained(name: str, settings: Settings, attention: str) -> ClassificationExperiment:
    """DeiT's recipe with an architecture's settings; the attention has the architecture's scale and its own k."""
    epoch = IMAGES // settings.batch
    chosen = classifier_attention(CLASSIFIERS[name], attention) or Softmax()
    return ClassificationExperiment(
        name=f"{name}-{attention}",
        model=ClassificationModelConfig(name=name, attention=chosen, drop_path=settings.drop_path),
        data=ClassificationDataConfig(kind="imagenet", root="imagenet"),
        view=LabelledView(size=(settings.size, settings.size)),
        augment=deit_augment(),
        task=ClassificationTaskConfig(smoothing=0.1),
        fit=FitConfig(
            steps=settings.epochs * epoch,
            batch_size=PASS,
            accumulate=settings.batch // PASS,
            precision="bf16",
            clip=None,
            ema=0.99996,
            score_ema=False,
            repeats=3,
            evaluate_every=epoch,
            checkpoint_every=epoch,
            log_every=50,
            monitor="top1",
            workers=12,
        ),
        optimizer=OptimizerConfig(name="adamw", lr=settings.lr, weight_decay=settings.weight_decay),
        schedule=ScheduleConfig(
            name="cosine",
            warmup=settings.warmup_epochs * epoch,
            warmup_from=1e-6 / settings.lr,
            floor=settings.floor / settings.lr,
        ),
    )


def fine_tuned(name: str) -> ClassificationExperiment:
    """VOLO's second half: 30 epochs at the published size, from the weights of the run at 224.

    `fewpairs train volo_d1_384_fine_tune data.root=FOLDER model.pretrained=runs/volo_d1_imagenet/best.safetensors`
    """
    height, _ = CLASSIFIERS[name].image_size
    recipe = trained(name, replace(SETTINGS[name], lr=8e-6, epochs=30, size=height, floor=1e-6), "softmax")
    return replace(recipe, name=f"{name}-fine-tune", fit=replace(recipe.fit, repeats=1))
