"""The nine models of the KV-attention study at paper scale on the UW-Madison GI Tract data (arXiv 2503.18862).

The paper's training settings could not be obtained, so these are ours, shared by all nine: 256 x 256 pixels, three
neighbouring slices as channels (2.5-D), BCE + Dice, AdamW at 1e-4 with weight decay 0.05, cosine, five folds by case.
The models start without pretrained weights; `model.pretrained=FILE` loads some, in all models alike.

The recipes suit one GPU of 24 GB in bf16. We have not run them at this scale and promise no score.
"""

from __future__ import annotations

from fewpairs.attention import KVPos, parse_variant, variant_name
from fewpairs.kinds.segmentation.augment import SegmentationAugment
from fewpairs.kinds.segmentation.experiment import (
    SegmentationDataConfig,
    SegmentationExperiment,
    SegmentationModelConfig,
    SegmentationTaskConfig,
)
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

MODELS = {"setr": "setr_pup_vit_b16", "conv_setr": "conv_setr_cup_r50_vit_b16", "cvt_setr": "cvt_setr_pup_cvt13"}


def study(model: str, attention: str) -> SegmentationExperiment:
    """One model of `MODELS` with an attention by its name: `fewpairs train setr_kv_uw_madison data.root=FOLDER`."""
    chosen = KVPos(d_pos=50) if attention == "kvpos" else parse_variant(attention)
    return SegmentationExperiment(
        name=f"{MODELS[model]}-{variant_name(chosen)}",
        model=SegmentationModelConfig(name=MODELS[model], attention=chosen, drop_path=0.1),
        data=SegmentationDataConfig(kind="uw-madison", root="uw-madison-gi-tract-image-segmentation"),
        view=SegmentationView(size=(256, 256), fit="resize", normalise="max", stack=3, step=2),
        augment=SegmentationAugment(),
        task=SegmentationTaskConfig(loss="bce+dice", auxiliary=model == "setr"),
        fit=FitConfig(
            steps=40_000,
            batch_size=16,
            precision="bf16",
            ema=0.999,
            evaluate_every=2_000,
            checkpoint_every=1_000,
            log_every=50,
            workers=4,
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-4, weight_decay=0.05),
        schedule=ScheduleConfig(name="cosine", warmup=1_000),
    )
