"""A small comparison that has everything a report can show."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import partial

import pytest
from PIL import Image

from fewpairs.data.description import DataDescription
from fewpairs.report import Comparison, Curve, Difference, Estimate, Overlay, Row, StepTime

carried = partial(Difference, units=40, seeds=6)
"""A difference from trainings and cases enough for a verdict about the method."""

CLASSES = ("large_bowel", "stomach")


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 6), shade).save(buffer, "png")
    return buffer.getvalue()


def make_row(
    label: str, attention: str, place: int, *, difference: Difference | None = None, seeds: int = 2, steps: int = 30
) -> Row:
    base = 0.84 - 0.01 * place
    scores = {name: Estimate(base, base - 0.02, base + 0.02) for name in ("jaccard", "jaccard_weighted", "dice")}
    scores["jaccard_with_background"] = Estimate(0.95, 0.94, 0.96)
    scores["hd95_mm"] = Estimate(6.0 + place, 5.0, 8.0)
    scores |= {f"{name}/{label}": Estimate(base, None, None) for name in ("jaccard", "dice") for label in CLASSES}
    scores["hd95_mm/stomach"] = Estimate(None)
    curves = tuple(
        Curve(
            seed,
            tuple((float(step), math.exp(-step / 10) + 0.01 * seed) for step in range(steps)),
            tuple((float(step), base - 1 / (1 + step)) for step in range(0, steps, 5)),
        )
        for seed in range(seeds)
    )
    return Row(
        recipe=label.lower(),
        label=label,
        attention=attention,
        parameters=1_060_000 - 90_000 * place,
        macs=210_000_000 - 10_000_000 * place,
        scores=scores,
        step_ms=StepTime(231.0 - place, 225.0, 244.0),
        peak_mib=2100.0 - place,
        peak_of="resident memory of the process",
        per_seed={"jaccard": tuple(base + 0.001 * seed for seed in range(seeds))},
        differences=None if difference is None else {"jaccard": difference},
        curves=curves,
        overlays=tuple(
            Overlay(rank, f"case{place}_day{shade}, Jaccard 0.8", png=picture(shade))
            for rank, shade in (("best", 10), ("median", 20), ("worst", 30))
        ),
    )


def make_comparison(*rows: Row, title: str = "QKV against KV") -> Comparison:
    return Comparison(
        title=title,
        command="fewpairs compare qkv kv --seeds 2",
        commit="0f3c9a1",
        hardware="2 CPU cores, no GPU",
        versions={"fewpairs": "0.1.0", "torch": "2.11.0"},
        data=DataDescription("phantom scans", {"train": 16, "validation": 4}, "fold 0 of 5, by case"),
        classes=CLASSES,
        seeds=(0, 1),
        margin=0.02,
        rows=rows,
        settings={"steps": 30, "optimizer": {"name": "adamw", "betas": [0.9, 0.999]}},
        empty_rule="a missed class scores 0",
        notes=("Seed 1 of KV stopped early.",),
        date="2025-03-02",
    )


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    """Two rows, softmax and KV, the second non-inferior at 0.02."""
    difference = carried(-0.004, -0.013, 0.004, 0.02, "non-inferior", "cases and seeds")
    return make_comparison(make_row("QKV", "softmax", 0), make_row("KV", "kv", 1, difference=difference))


@pytest.fixture
def row_maker() -> Callable[..., Row]:
    return make_row


@pytest.fixture
def comparison_maker() -> Callable[..., Comparison]:
    return make_comparison


def make_classified(label: str, attention: str, place: int, *, classes: tuple[str, ...], seeds: int = 3) -> Row:
    base = 0.91 + 0.002 * place
    scores = {name: Estimate(base, base - 0.005, base + 0.005) for name in ("top1", "top5", "balanced_accuracy")}
    scores["nll"] = Estimate(0.25, 0.24, 0.26)
    scores |= {f"recall/{name}": Estimate(base - 0.01 * n, 0.7, 0.99) for n, name in enumerate(classes)}
    differences = {
        "top1": carried(0.0023, -0.0012, 0.0058, 0.005, "non-inferior", "images and seeds", 0.0004, 0.0041),
        "nll": carried(0.012, 0.004, 0.02, 0.005, "inconclusive", "images and seeds", 0.006, 0.018),
    }
    points = tuple((float(step), 0.5 + step / 1000) for step in range(100, 401, 100))
    return Row(
        recipe=label.lower(),
        label=label,
        attention=attention,
        parameters=250_000,
        macs=12_000_000,
        scores=scores,
        per_seed={"top1": tuple(base + 0.001 * seed for seed in range(seeds))},
        differences=differences if place else None,
        curves=tuple(Curve(seed, points, points, steps_per_epoch=100.0) for seed in range(seeds)),
        overlays=(Overlay("mistakes", "The 12 surest of 870 mistakes", png=picture(place)),),
        confusions=((0, 0, 90), (0, 1, 9), (0, 2, 1), (1, 1, 95), (1, 0, 5), (2, 2, 100)),
    )


@pytest.fixture(scope="session")
def classified() -> Comparison:
    """Two classifiers, dense and k-NN attention, over three seeds."""
    classes = ("shirt", "coat", "bag")
    return Comparison(
        title="Dense against k-NN attention",
        command="fewpairs compare vit_nano vit_nano_knn",
        commit="0f3c9a1",
        hardware="2 CPU cores, no GPU",
        versions={"fewpairs": "0.1.0"},
        data=DataDescription("fashion pictures", {"train": 60_000, "validation": 10_000}, "as published"),
        classes=classes,
        seeds=(0, 1, 2),
        margin=0.005,
        rows=(
            make_classified("dense", "softmax", 0, classes=classes),
            make_classified("k-NN", "knn", 1, classes=classes),
        ),
        monitor="top1",
        headline="top1",
        resamples=2000,
        kind="classification",
    )
