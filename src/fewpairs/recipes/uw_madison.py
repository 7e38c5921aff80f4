"""The nine models of the KV-attention study at paper scale on the UW-Madison GI Tract data (arXiv 2503.18862).

The paper's training settings were never published, so these are ours, the same for all nine: 256 x 256 pixels, three
neighbouring slices as channels (2.5-D), BCE + Dice, AdamW at 1e-4 with weight decay 0.05, cosine, five folds by case.
No pretrained weights; give `model.pretrained=FILE` to start from some, in all models alike.

Made for one GPU of 24 GB in bf16. Not run yet by us at this scale: no score is promised.
"""

from __future__ import annotations

from fewpairs.attention import KV, KVPos, Softmax, Variant, variant_name
from fewpairs.kinds.segmentation.augment import Augment
from fewpairs.kinds.segmentation.experiment import DataConfig, ModelConfig, SegmentationExperiment, TaskConfig
from fewpairs.kinds.segmentation.view import View
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

SETR, CONV_SETR, CVT_SETR = "setr_pup_vit_b16", "conv_setr_cup_r50_vit_b16", "cvt_setr_pup_cvt13"


def _study(model: str, attention: Variant, *, auxiliary: bool = False) -> SegmentationExperiment:
    return SegmentationExperiment(
        name=f"{model}-{variant_name(attention)}",
        model=ModelConfig(name=model, attention=attention, drop_path=0.1),
        data=DataConfig(kind="uw-madison", root="uw-madison-gi-tract-image-segmentation"),
        view=View(size=(256, 256), fit="resize", normalise="max", stack=3, step=2),
        augment=Augment(),
        task=TaskConfig(loss="bce+dice", auxiliary=auxiliary),
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


def setr_qkv() -> SegmentationExperiment:
    """SETR-PUP on ViT-B/16, query-key-value attention. `fewpairs train setr_qkv_uw_madison data.root=FOLDER`."""
    return _study(SETR, Softmax(), auxiliary=True)


def setr_kv() -> SegmentationExperiment:
    """SETR-PUP on ViT-B/16, key-value attention. `fewpairs train setr_kv_uw_madison data.root=FOLDER`."""
    return _study(SETR, KV(), auxiliary=True)


def setr_kvpos() -> SegmentationExperiment:
    """SETR-PUP on ViT-B/16, KV+Pos attention. `fewpairs train setr_kvpos_uw_madison data.root=FOLDER`."""
    return _study(SETR, KVPos(d_pos=50), auxiliary=True)


def conv_setr_qkv() -> SegmentationExperiment:
    """R50 stem, ViT-B/16, CUP decoder; query-key-value. `fewpairs train conv_setr_qkv_uw_madison data.root=FOLDER`."""
    return _study(CONV_SETR, Softmax())


def conv_setr_kv() -> SegmentationExperiment:
    """R50 stem, ViT-B/16, CUP decoder; key-value. `fewpairs train conv_setr_kv_uw_madison data.root=FOLDER`."""
    return _study(CONV_SETR, KV())


def conv_setr_kvpos() -> SegmentationExperiment:
    """R50 stem, ViT-B/16, CUP decoder; KV+Pos. `fewpairs train conv_setr_kvpos_uw_madison data.root=FOLDER`."""
    return _study(CONV_SETR, KVPos(d_pos=50))


def cvt_setr_qkv() -> SegmentationExperiment:
    """CvT-13 with unstrided keys, PUP decoder; query-key-value. `fewpairs train cvt_setr_qkv_uw_madison ...`."""
    return _study(CVT_SETR, Softmax())


def cvt_setr_kv() -> SegmentationExperiment:
    """CvT-13 with unstrided keys, PUP decoder; key-value. `fewpairs train cvt_setr_kv_uw_madison ...`."""
    return _study(CVT_SETR, KV())


def cvt_setr_kvpos() -> SegmentationExperiment:
    """CvT-13 with unstrided keys, PUP decoder; KV+Pos. `fewpairs train cvt_setr_kvpos_uw_madison ...`."""
    return _study(CVT_SETR, KVPos(d_pos=50))
