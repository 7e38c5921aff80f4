"""LinGlo (a reconstruction, see `docs/linglo.md`), its ablations and PVTv2 at small scale, minutes a run on a CPU.

All rows of a study have the same number of parameters within about 2 %, see the same images in the same order, and
differ in one thing: the layout of the blocks, the attention, or the form of key-only attention. Softmax and k-NN
attention have query maps, which a narrower feed-forward part compensates.

- Fashion-MNIST, 28x28, with the settings of the other small study:
  `fewpairs train linglo_pico_fashion data.root=FOLDER`
- pictures in a folder for each class, 96x128: `fewpairs train linglo_nano_trashnet data.root=FOLDER`. The settings suit
  a part of TrashNet whose photos, taken at 4:3, are stored 384 wide and 512 high: `view.crop_mode=squash` and
  `augment.ratio` restore their aspect. For photos with their true aspect set `view.crop_mode=center` and
  `augment.ratio=[0.75, 1.33]`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fewpairs.attention import KNN, KV, KeyOnly, Softmax, Variant
from fewpairs.kinds.classification.augment import LabelledAugment
from fewpairs.kinds.classification.experiment import (
    ClassificationDataConfig,
    ClassificationExperiment,
    ClassificationModelConfig,
    ClassificationTaskConfig,
)
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.models.encoders import LINGLO_NANO, LINGLO_PICO
from fewpairs.recipes import fashion
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig


@dataclass(frozen=True)
class Ablation:
    """What one row of the study changes in LinGlo."""

    attention: Variant = field(default_factory=KeyOnly)
    layout: str = "alternating"
    queries: bool = False
    """Whether the attention has a query map."""


ABLATIONS: dict[str, Ablation] = {
    "": Ablation(),
    "_grafted": Ablation(layout="grafted"),
    "_attention": Ablation(layout="attention"),
    "_convolution": Ablation(layout="convolution"),
    "_softmax": Ablation(Softmax(), queries=True),
    "_kv": Ablation(KV()),
    "_knn50": Ablation(KNN(topk=0.5), queries=True),
    "_r1c": Ablation(KeyOnly("R1c")),
    "_r2": Ablation(KeyOnly("R2")),
    "_r3": Ablation(KeyOnly("R3")),
}
"""The rows of the study, by the end of the recipe's name; `fewpairs train --list` describes each."""

_MLP_RATIOS = {"linglo_pico": LINGLO_PICO.mlp_ratio, "linglo_nano": LINGLO_NANO.mlp_ratio}
_QUERY_MAP = 0.25
"""What a query map in every other block costs, as a part of the feed-forward ratio."""


def classifier(model: str, ending: str = "") -> ClassificationModelConfig:
    """A small LinGlo with a row of `ABLATIONS`, or a PVTv2 as it is."""
    if model not in _MLP_RATIOS:
        return ClassificationModelConfig(name=model)
    row = ABLATIONS[ending]
    options: dict[str, str | float | int | bool | None] = {}
    if row.layout != "alternating":
        options["layout"] = row.layout
    if row.queries:
        options["mlp_ratio"] = _MLP_RATIOS[model] - _QUERY_MAP
    return ClassificationModelConfig(name=model, attention=row.attention, options=options)


def on_fashion(model: str, ending: str = "") -> ClassificationExperiment:
    """One model on Fashion-MNIST."""
    return fashion.trained(f"{model}{ending}".replace("_", "-"), classifier(model, ending))


def on_photos(model: str, ending: str = "", *, steps: int = 600) -> ClassificationExperiment:
    """One model on photos in a folder for each class, from scratch, on a CPU."""
    return ClassificationExperiment(
        name=f"{model}{ending}".replace("_", "-"),
        model=classifier(model, ending),
        data=ClassificationDataConfig(kind="folder", root="trashnet-photos"),
        view=LabelledView(size=(96, 128), crop_pct=1.0, crop_mode="squash"),
        augment=LabelledAugment(scale=(0.35, 1.0), ratio=(0.56, 1.0), jitter=0.3),
        task=ClassificationTaskConfig(smoothing=0.1),
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
