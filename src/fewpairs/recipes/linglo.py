"""LinGlo (a reconstruction, see `docs/linglo.md`) against its ablations and PVTv2, small: for a CPU, minutes a run.

All rows of one study have the same number of parameters to about 2 %, see the same images in the same order, and
differ in one thing each: the layout of the blocks, the attention, or the form of key-only attention. Softmax and k-NN
attention have query maps, which a narrower feed-forward part pays for.

- Fashion-MNIST, 28x28, with the settings of the other small study:
  `fewpairs train linglo_pico_fashion data.root=FOLDER`
- pictures in a folder for each class, 96x128: `fewpairs train linglo_nano_trashnet data.root=FOLDER`. As written for a
  share of TrashNet whose photos, taken at 4:3, are stored 384 wide and 512 high: `view.crop_mode=squash` and
  `augment.ratio` restore their aspect. For photos of true aspect set `view.crop_mode=center` and
  `augment.ratio=[0.75, 1.33]`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fewpairs.attention import KNN, KV, KeyOnly, Softmax, Variant
from fewpairs.kinds.classification.augment import LabelledAugment
from fewpairs.kinds.classification.experiment import (
    ClassificationConfig,
    ClassificationExperiment,
    ClassifierConfig,
    LabelledData,
)
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.models.encoders import LINGLO_NANO, LINGLO_PICO
from fewpairs.recipes import fashion
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig


@dataclass(frozen=True)
class Ablation:
    """LinGlo with one thing otherwise."""

    summary: str
    attention: Variant = field(default_factory=KeyOnly)
    layout: str = "alternating"
    queries: bool = False
    """Whether the attention has a query map."""


ABLATIONS: dict[str, Ablation] = {
    "": Ablation("key-only attention and convolution by turns"),
    "_grafted": Ablation("convolution in the first half of the stages, key-only attention after", layout="grafted"),
    "_attention": Ablation("key-only attention alone", layout="attention"),
    "_convolution": Ablation("convolution alone", layout="convolution"),
    "_softmax": Ablation("softmax attention and convolution by turns", Softmax(), queries=True),
    "_kv": Ablation("key-value attention and convolution by turns", KV()),
    "_knn50": Ablation("k-NN attention with 50 % of the keys and convolution by turns", KNN(topk=0.5), queries=True),
    "_r1c": Ablation("key-only attention with a logit a channel (R1c)", KeyOnly("R1c")),
    "_r2": Ablation("key-only attention that gates values by the pooled key (R2)", KeyOnly("R2")),
    "_r3": Ablation("key-only attention with a convolution of the values added (R3)", KeyOnly("R3")),
}
"""By the end of the recipe's name."""

_PICO, _NANO, _RIVALS = "linglo_pico", "linglo_nano", {"linglo_pico": "pvt_v2_pico", "linglo_nano": "pvt_v2_nano"}
_RATIOS = {_PICO: LINGLO_PICO.mlp_ratio, _NANO: LINGLO_NANO.mlp_ratio}
_QUERIES = 0.25
"""What a query map in every other block costs, in ratios of the feed-forward part."""


def classifier(model: str, row: Ablation) -> ClassifierConfig:
    """A small LinGlo with a row of `ABLATIONS`."""
    options: dict[str, str | float | int | bool | None] = {}
    if row.layout != "alternating":
        options["layout"] = row.layout
    if row.queries:
        options["mlp_ratio"] = _RATIOS[model] - _QUERIES
    return ClassifierConfig(name=model, attention=row.attention, options=options)


def rival(model: str) -> ClassifierConfig:
    """PVTv2 of the same size as a small LinGlo."""
    return ClassifierConfig(name=_RIVALS[model])


def on_fashion(name: str, model: ClassifierConfig) -> ClassificationExperiment:
    """One model on Fashion-MNIST."""
    return fashion.trained(name, model)


def on_photos(name: str, model: ClassifierConfig, *, steps: int = 600) -> ClassificationExperiment:
    """One model on photos in a folder for each class, from scratch, on a CPU."""
    return ClassificationExperiment(
        name=name,
        model=model,
        data=LabelledData(kind="folder", root="trashnet-photos"),
        view=LabelledView(size=(96, 128), crop_pct=1.0, crop_mode="squash"),
        augment=LabelledAugment(scale=(0.35, 1.0), ratio=(0.56, 1.0), jitter=0.3),
        task=ClassificationConfig(smoothing=0.1),
        fit=FitConfig(
            steps=steps,
            batch_size=16,
            clip=1.0,
            evaluate_every=max(1, steps // 6),
            checkpoint_every=max(1, steps // 6),
            log_every=20,
            monitor="top1",
            workers=0,
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(name="cosine", warmup=steps // 15),
    )
