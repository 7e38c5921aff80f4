"""The nine models of the KV-attention study at small scale: 64 x 64 pixels, minutes a run on a CPU.

All nine share their settings, so that only the attention differs. `data.*` and `view.*` adapt them to your files.

Measured on MSD Task04 Hippocampus with 700 steps (2 to 6 minutes a run on one thread, seeds 0 to 2; command in
docs/results): Dice 0.80 for SETR and CvT-SETR, 0.81 to 0.83 for conv-SETR, where one run in six was still on a
plateau of the loss at the last step (Dice 0.51). `fewpairs train setr_kv_small data.root=FOLDER` runs one.
"""

from __future__ import annotations

from fewpairs.attention import parse_variant, variant_name
from fewpairs.kinds.segmentation.augment import SegmentationAugment
from fewpairs.kinds.segmentation.experiment import (
    SegmentationDataConfig,
    SegmentationExperiment,
    SegmentationModelConfig,
    SegmentationTaskConfig,
)
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

MODELS = {"setr": "setr_pup_small", "conv_setr": "conv_setr_cup_small", "cvt_setr": "cvt_setr_pup_small"}


def study(model: str, attention: str, *, steps: int = 1000) -> SegmentationExperiment:
    """One model of `MODELS` with an attention by its name and the settings that all of them share."""
    chosen = parse_variant(attention)
    return SegmentationExperiment(
        name=f"{MODELS[model]}-{variant_name(chosen)}",
        model=SegmentationModelConfig(name=MODELS[model], attention=chosen),
        data=SegmentationDataConfig(kind="uw-madison", root="data"),
        view=SegmentationView(size=(64, 64), fit="resize", normalise="percentile"),
        augment=SegmentationAugment(),
        task=SegmentationTaskConfig(loss="bce+dice"),
        fit=FitConfig(
            steps=steps,
            batch_size=16,
            ema=0.99,
            evaluate_every=max(1, steps // 4),
            checkpoint_every=max(1, steps // 4),
            log_every=25,
            workers=1,
        ),
        optimizer=OptimizerConfig(name="adamw", lr=2e-3, weight_decay=0.05),
        schedule=ScheduleConfig(name="cosine", warmup=steps // 15),
    )
