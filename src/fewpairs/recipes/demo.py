"""The demonstration recipe: synthetic scans, minutes on a CPU."""

from __future__ import annotations

from dataclasses import replace

from fewpairs.data.split import Split
from fewpairs.kinds.segmentation.experiment import SegmentationDataConfig, SegmentationExperiment
from fewpairs.recipes.small import study


def demo(steps: int = 700) -> SegmentationExperiment:
    """Small SETR-PUP on phantom scans; `fewpairs demo` trains it with QKV, KV and KV+Pos attention.

    On 2 cores the three take 6 minutes and reach a macro Jaccard of 0.785, 0.791 and 0.781 on held-out cases (seed 0).
    At the study's rate of 2e-3 a training run may collapse half way, depending on rounding.
    """
    recipe = study("setr", "softmax", steps=steps)
    return replace(
        recipe,
        name="demo",
        optimizer=replace(recipe.optimizer, lr=1.5e-3),
        data=SegmentationDataConfig(kind="uw-madison", root="demo/phantom", split=Split(folds=4)),
    )
