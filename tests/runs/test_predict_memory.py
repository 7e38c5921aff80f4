"""Peak memory of the prediction of one large picture, measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 5000
BYTES = {"resize": 30, "pad": 30, "semantic": 40, "semantic-windows": 60, "classification": 20, "detection": 15}
"""Bytes a pixel that a prediction with overlays may take beyond the model; it took 120 to 195 when whole logits were
held, which are 20 to 33 GB for a picture of 13,000 x 13,000, and 204 for 20 objects with masks, and more for 100."""

PROGRAM = """
import sys
from pathlib import Path

import torch
from torch import nn

from fewpairs.kinds.classification.predict import ClassificationPredictor
from fewpairs.kinds.classification.task import Classification
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.detection.predict import DetectionPredictor
from fewpairs.kinds.detection.task import Detection
from fewpairs.kinds.detection.view import DetectionView
from fewpairs.kinds.predictor import OutputFolder
from fewpairs.kinds.segmentation.predict import SegmentationPredictor
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.kinds.semantic.predict import SemanticPredictor
from fewpairs.kinds.semantic.task import Semantic
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.models.detectors import DetectorOptions, create_detector
from fewpairs.models.inference import InferenceConfig, InferenceSegmenter
from fewpairs.runs.predict import predict_files

kind, picture, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])


class Brightness(nn.Module):
    def __init__(self, classes, channels, pooled=False):
        super().__init__()
        self.classes, self.in_channels, self.pooled = classes, channels, pooled

    def forward(self, image):
        grey = image.mean(1, keepdim=True)
        logits = torch.cat([grey - 0.1 * place for place in range(self.classes)], 1)
        return logits.mean((2, 3)) if self.pooled else logits


def cover(model, given, found):
    # let some masks cover the whole picture, for which one mask takes the most
    found[0].masks.boxes[:4] = torch.tensor([0.0, 0.0, *given[0].shape[:1:-1]])


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if kind == "classification":
    view = LabelledView().with_channels(3)
    made = ClassificationPredictor(Brightness(3, 3, True), Classification(("a", "b", "c")), view, device="cpu")
elif kind == "detection":
    options = DetectorOptions(short=128, long=128, width=16, hidden=16, norm="group", score_threshold=0.0)
    model = create_detector("mask_rcnn", encoder="linglo_pico", classes=2, options=options)
    model.register_forward_hook(cover)
    view = DetectionView(128, 128)
    made = DetectionPredictor(model, Detection(("a", "b")), view, {"a": 1, "b": 2}, threshold=0.0, device="cpu")
elif kind.startswith("semantic"):
    view = SemanticView(short=None if kind.endswith("windows") else 512).with_channels(3)
    model = InferenceSegmenter(Brightness(19, 3), InferenceConfig(mode="slide"))
    made = SemanticPredictor(model, Semantic([str(n) for n in range(19)]), view, ((9, 9, 9),) * 19, device="cpu")
else:
    view = SegmentationView((512, 512), fit=kind)
    made = SegmentationPredictor(Brightness(3, 3), Segmentation(("a", "b", "c")), view, device="cpu")
torch.set_num_threads(1)
before = status("VmRSS")
found = predict_files(made, [picture], OutputFolder(out), progress=False)
assert kind != "detection" or found[0].detections == 100
print(status("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.png"
    row = np.arange(SIDE, dtype=np.uint8)
    Image.fromarray(np.stack([np.add.outer(row, row)] * 3, axis=-1)).save(path, compress_level=1)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", BYTES)
def test_the_memory_of_a_prediction_is_bounded(kind: str, picture: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, kind, str(picture), str(tmp_path / "out")]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    fixed = 300 * 2**20  # imports on the way, buffers of windows and bands, and a sheet
    assert int(shown) <= fixed + BYTES[kind] * SIDE**2
