"""The main job on made data, in minutes on a CPU."""

from __future__ import annotations

from dataclasses import replace

from latchkey.attention import Softmax
from latchkey.experiment import SegmentationExperiment
from latchkey.experiment.segmentation import DataConfig
from latchkey.recipes.small import SETR, study


def demo(steps: int = 700) -> SegmentationExperiment:
    """Small SETR-PUP on phantom scans; `latchkey demo` trains it with QKV, KV and KV+Pos attention.

    On 2 cores the three take 7 minutes; macro Jaccard on cases never seen: 0.775, 0.781 and 0.776 (seed 0).
    """
    return replace(
        study(SETR, Softmax(), steps=steps),
        name="demo",
        data=DataConfig(kind="uw-madison", root="demo/phantom", folds=4),
    )
