"""A toy to train: find the bright square. Small enough that a step takes a millisecond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewpairs.train import FitConfig, History, OptimizerConfig, RunFolder, ScheduleConfig, fit
from fewpairs.types import Geometry, Scan, SegmentationBatch

SIZE = 8


class ToyModel(nn.Module):
    """Two convolutions, dropout between them."""

    def __init__(self, dropout: float = 0.0, width: int = 8, batch_norm: bool = False) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.GroupNorm(2, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.dropout(nn.functional.gelu(self.norm(self.embed(image)))))

    def layer_groups(self) -> list[list[str]]:
        return [["embed.weight", "embed.bias"], ["norm.weight", "norm.bias"], ["head.weight", "head.bias"]]

    def no_weight_decay(self) -> set[str]:
        return {"embed.weight"}


def draw(seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A noisy `[1 H W]` image with a bright square, and the square."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((1, SIZE, SIZE), dtype=np.float32)
    row, column = rng.integers(0, SIZE - 3, size=2)
    mask[:, row : row + 3, column : column + 3] = 1
    noise = rng.normal(size=mask.shape).astype(np.float32)
    return torch.from_numpy(mask * 2 + 0.5 * noise), torch.from_numpy(mask)


@dataclass
class ToyData:
    """Samples that depend on epoch and index alone; `spoil` turns one image into NaN."""

    size: int = 24
    augment: bool = True
    spoil: int | None = None

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, str]:
        epoch, index = key
        image, mask = draw((index, epoch if self.augment else 0))
        return (image * float("nan") if index == self.spoil else image), mask, f"image-{index}"


def collate(samples: Sequence[tuple[Tensor, Tensor, str]]) -> SegmentationBatch:
    images, masks, ids = zip(*samples, strict=True)
    return SegmentationBatch(torch.stack(images), torch.stack(masks), tuple(ids))


@dataclass
class ToyMetric:
    """Dice over all scans, from sums."""

    rows: list[tuple[str, int, int]]

    @property
    def records(self) -> list[tuple[str, int, int]]:
        """Sorted in an order of their own, as a metric may."""
        return sorted(self.rows, reverse=True)

    def update(self, prediction: Tensor, scan: Scan) -> None:
        overlap = int((prediction & scan.mask).sum())
        self.rows.append((scan.id, overlap, int(prediction.sum() + scan.mask.sum())))

    def merge(self, records: list[tuple[str, int, int]]) -> None:
        self.rows += records

    def compute(self) -> dict[str, float]:
        total = sum(row[2] for row in self.rows)
        dice = 2 * sum(row[1] for row in self.rows) / total if total else float("nan")
        return {"dice": dice, "error": 1 - dice, "nothing": float("nan")}


class ToyTask:
    auxiliary = False

    def loss(self, outputs: Tensor, batch: SegmentationBatch) -> dict[str, Tensor]:
        bce = nn.functional.binary_cross_entropy_with_logits(outputs, batch.mask)
        return {"bce": bce, "square": 0.1 * (outputs.sigmoid() - batch.mask).square().mean()}

    def predict(self, logits: Tensor, scan: Scan) -> Tensor:
        return scan.geometry.invert(logits) > 0

    def metric(self) -> ToyMetric:
        return ToyMetric([])


def make_scans(count: int = 3, slices: int = 5) -> list[Scan]:
    scans = []
    for number in range(count):
        pairs = [draw((1000 + number, position)) for position in range(slices)]
        image, mask = (torch.stack(part) for part in zip(*pairs, strict=True))
        geometry = Geometry((SIZE, SIZE), (SIZE, SIZE))
        ids = tuple(f"{number}-{position}" for position in range(slices))
        scans.append(Scan(f"scan-{number}", f"case-{number}", image, mask.bool(), (3.0, 1.0, 1.0), geometry, ids))
    return scans


def toy_model(dropout: float = 0.0, seed: int = 3, **options: Any) -> ToyModel:
    torch.manual_seed(seed)
    return ToyModel(dropout, **options)


def toy_fit(
    run: Path,
    model: nn.Module,
    *,
    data: Any = None,
    task: Any = None,
    scans: Any = None,
    resume: bool = False,
    optimizer: OptimizerConfig | None = None,
    **config: Any,
) -> History:
    """`fit` with settings that suit the toy."""
    settings: dict[str, Any] = {"steps": 12, "batch_size": 4, "log_every": 3, "device": "cpu", **config}
    return fit(
        model,
        task or ToyTask(),
        data or ToyData(),
        collate=collate,
        config=FitConfig(**settings),
        optimizer=optimizer or OptimizerConfig(lr=0.02),
        schedule=ScheduleConfig(warmup=2),
        run=RunFolder(run),
        evaluate_on=scans,
        resume=resume,
        progress=False,
    )


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
