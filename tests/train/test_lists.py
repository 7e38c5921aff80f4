"""Evaluation of models whose outputs are a list of one dataclass an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewpairs.train import evaluate
from fewpairs.types import DetectionItem, Detections, Objects


class Finder(nn.Module):
    """Finds one box an image, as large as the image."""

    def forward(self, image: Tensor) -> list[Detections]:
        box = torch.tensor([[0.0, 0.0, image.shape[-1], image.shape[-2]]])
        return [Detections(box, torch.ones(1), torch.zeros(1).long()) for _ in image]


class Boxes:
    """Keeps the boxes of every image."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def update(self, prediction: list[Detections], item: DetectionItem) -> None:
        assert all(one.boxes.device.type == "cpu" for one in prediction)
        self.records.append((item.id, [one.boxes.tolist()[0] for one in prediction]))

    def merge(self, records: Any) -> None:
        self.records += records

    def compute(self) -> dict[str, float]:
        return {"images": float(len(self.records))}


@dataclass
class Finding:
    auxiliary = False

    def predict(self, outputs: list[Detections], item: DetectionItem) -> list[Detections]:
        return outputs

    def loss(self, outputs: Any, batch: Any) -> dict[str, Tensor]:
        return {}

    def metric(self) -> Boxes:
        return Boxes()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_each_image_has_comes_in_one_list_whatever_the_batch(batch_size: int, precision: Any) -> None:
    items = [DetectionItem(torch.rand(3, 1, 4 + n, 7), f"{n}.png", Objects.none()) for n in range(3)]
    found = evaluate(Finder(), Finding(), items, device="cpu", batch_size=batch_size, precision=precision)
    assert found.records == [(f"{n}.png", [[0.0, 0.0, 7.0, 4.0 + n]] * 3) for n in range(3)]
