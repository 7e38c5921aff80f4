"""The nine models of the KV-attention study, small: for a CPU, 64 x 64 pixels, minutes a run.

The same settings for all nine, so that only the attention differs. `data.*` and `view.*` fit them to your files.

Measured on MSD Task04 Hippocampus with 700 steps (2 to 6 minutes a run on one thread, seeds 0 to 2; command in
docs/results): Dice 0.80 for SETR and CvT-SETR, 0.81 to 0.83 for conv-SETR, of whose runs one in six was still on a
plateau of the loss when the steps were over (Dice 0.51). `fewpairs train setr_kv_small data.root=FOLDER` runs one.
"""

from __future__ import annotations

from fewpairs.attention import KV, KVPos, Softmax, Variant, variant_name
from fewpairs.kinds.segmentation.augment import Augment
from fewpairs.kinds.segmentation.experiment import DataConfig, ModelConfig, SegmentationExperiment, TaskConfig
from fewpairs.kinds.segmentation.view import View
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

SETR, CONV_SETR, CVT_SETR = "setr_pup_small", "conv_setr_cup_small", "cvt_setr_pup_small"


def study(model: str, attention: Variant, *, steps: int = 1000) -> SegmentationExperiment:
    """One small model; the settings that all of them share."""
    return SegmentationExperiment(
        name=f"{model}-{variant_name(attention)}",
        model=ModelConfig(name=model, attention=attention),
        data=DataConfig(kind="uw-madison", root="data"),
        view=View(size=(64, 64), fit="resize", normalise="percentile"),
        augment=Augment(),
        task=TaskConfig(loss="bce+dice"),
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


def setr_qkv() -> SegmentationExperiment:
    """Small SETR-PUP, query-key-value attention."""
    return study(SETR, Softmax())


def setr_kv() -> SegmentationExperiment:
    """Small SETR-PUP, key-value attention."""
    return study(SETR, KV())


def setr_kvpos() -> SegmentationExperiment:
    """Small SETR-PUP, KV+Pos attention."""
    return study(SETR, KVPos())


def conv_setr_qkv() -> SegmentationExperiment:
    """Small convolutional stem and CUP decoder with skips, query-key-value attention."""
    return study(CONV_SETR, Softmax())


def conv_setr_kv() -> SegmentationExperiment:
    """Small convolutional stem and CUP decoder with skips, key-value attention."""
    return study(CONV_SETR, KV())


def conv_setr_kvpos() -> SegmentationExperiment:
    """Small convolutional stem and CUP decoder with skips, KV+Pos attention."""
    return study(CONV_SETR, KVPos())


def cvt_setr_qkv() -> SegmentationExperiment:
    """Small CvT with unstrided keys and PUP decoder, query-key-value attention."""
    return study(CVT_SETR, Softmax())


def cvt_setr_kv() -> SegmentationExperiment:
    """Small CvT with unstrided keys and PUP decoder, key-value attention."""
    return study(CVT_SETR, KV())


def cvt_setr_kvpos() -> SegmentationExperiment:
    """Small CvT with unstrided keys and PUP decoder, KV+Pos attention."""
    return study(CVT_SETR, KVPos())
