"""A training step of the engine against a bare PyTorch loop, and how long training waits for data.

Both train a copy of the same model on the same batch, in one process and by turns, so that drift of the machine meets
them alike. The engine's side does all that `fit` does in a step, schedule, loss book-keeping and accelerate's wrapping
included, except to move the progress bar. Prints one JSON line: seconds (median, quartiles), the ratio of the medians,
the share of a real training on phantom scans that was spent waiting for data, and the hardware.

    python benchmarks/train_step.py --rounds 60 --batch-size 16 --size 64
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import nn

from fewpairs.attention import parse_variant
from fewpairs.kinds.segmentation.augment import SegmentationAugment
from fewpairs.kinds.segmentation.dataset import SegmentationDataset, collate_segmentation
from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison
from fewpairs.kinds.segmentation.phantom.phantom import make_phantom
from fewpairs.kinds.segmentation.preparation import prepare
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.models import create_segmenter
from fewpairs.train import FitConfig, OptimizerConfig, RunFolder, ScheduleConfig, describe_environment, fit
from fewpairs.train.engine import train_step
from fewpairs.train.loss_log import LossLog
from fewpairs.train.optimizer import build_optimizer, parameter_groups, set_rates
from fewpairs.train.processes import prepare_training, start_processes
from fewpairs.train.schedule import rate_factor
from fewpairs.types import SegmentationBatch

OPTIMIZER = OptimizerConfig()
SCHEDULE = ScheduleConfig()


class Same:
    """Stands in for the loader, so that both loops see one batch."""

    def __init__(self, batch: SegmentationBatch) -> None:
        self.batch = batch

    def next(self) -> SegmentationBatch:
        return self.batch


def bare_loop(model: nn.Module, task: Segmentation, batch: SegmentationBatch, config: FitConfig) -> Callable[[], None]:
    """Forward, loss, backward, clip, AdamW: as few lines as PyTorch allows, in the same precision."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=OPTIMIZER.lr, weight_decay=OPTIMIZER.weight_decay, fused=True)
    model.train()

    def step() -> None:
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            outputs = model(batch.image)
        loss = sum(task.loss(outputs.float(), batch).values())
        loss.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(model.parameters(), config.clip or float("inf"))
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(arguments: argparse.Namespace, config: FitConfig, folder: Path) -> dict[str, Any]:
    """Seconds a step of both loops."""
    torch.manual_seed(0)
    task = Segmentation(("large_bowel", "small_bowel", "stomach"))
    size = (arguments.size, arguments.size)
    model = create_segmenter(
        arguments.model, attention=parse_variant(arguments.attention), classes=task.channels, image_size=size
    )
    accelerator = start_processes(config.device, config.precision)
    device = accelerator.device
    image = torch.randn(arguments.batch_size, model.in_channels, *size)
    mask = (torch.rand(arguments.batch_size, len(task.classes), *size) > 0.5).float()
    batch = SegmentationBatch(image, mask, tuple(map(str, range(arguments.batch_size)))).to(device)
    bare = bare_loop(copy.deepcopy(model).to(device), task, batch, config)
    model.to(device)
    adjust = build_optimizer(parameter_groups(model, OPTIMIZER), OPTIMIZER)
    loss_log = LossLog(RunFolder(folder), eager=device.type == "cpu", scaled=False)
    seconds: dict[str, list[float]] = {"engine": [], "bare": []}
    with prepare_training(accelerator, model, adjust) as wrapped:

        def engine() -> None:
            step = len(seconds["engine"])
            set_rates(adjust, OPTIMIZER.lr * rate_factor(SCHEDULE, step, config.steps))
            train_step(accelerator, wrapped, task, Same(batch), loss_log, config, step + 1)  # type: ignore[arg-type]
            if (step + 1) % config.log_every == 0:
                loss_log.drain()

        for number in range(config.steps):
            loops: list[tuple[str, Callable[[], None]]] = [("engine", engine), ("bare", bare)]
            for name, run in loops if number % 2 else reversed(loops):
                started = time.perf_counter()
                run()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds[name].append(time.perf_counter() - started)
    measured = {name: values[arguments.warmup :] for name, values in seconds.items()}
    ratios = [a / b for a, b in zip(measured["engine"], measured["bare"], strict=True)]
    return {
        "seconds_a_step": {name: spread(values) for name, values in measured.items()},
        "ratio_of_medians": median(measured["engine"]) / median(measured["bare"]),
        "ratio_by_round": spread(ratios),
    }


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = quantiles(values, n=4)
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}


def waiting(arguments: argparse.Namespace, folder: Path) -> float:
    """Share of the time of a real training on phantom scans in which no batch was ready."""
    root = make_phantom(folder / "phantom", cases=4, seed=0, scale=0.5)
    store = prepare(UWMadison(root), folder / "cache", progress=False)
    task, size = Segmentation(store.classes), (arguments.size, arguments.size)
    data = SegmentationDataset(
        store,
        sorted({scan.case for scan in store.scans}),
        view=SegmentationView(size=size),
        augment=SegmentationAugment(),
        seed=0,
    )
    model = create_segmenter(
        arguments.model,
        attention=parse_variant(arguments.attention),
        classes=task.channels,
        in_channels=store.channels,
        image_size=size,
    )
    config = FitConfig(
        steps=arguments.rounds, batch_size=arguments.batch_size, workers=arguments.workers, device=arguments.device
    )
    history = fit(
        model,
        task,
        data,
        collate=collate_segmentation,
        config=config,
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
        run=RunFolder(folder / "run"),
        progress=False,
    )
    return history.waiting_share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="setr_pup_small")
    parser.add_argument("--attention", default="softmax")
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=60, help="steps of each loop, counted after the warm-up")
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1, help="loading processes in the measurement of waiting")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    config = FitConfig(
        steps=arguments.rounds + arguments.warmup,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        device=arguments.device,
    )
    with tempfile.TemporaryDirectory() as name:
        result = compare(arguments, config, Path(name))
        result["waiting_share"] = waiting(arguments, Path(name))
    print(json.dumps(result | {"arguments": vars(arguments), "environment": describe_environment()}))


if __name__ == "__main__":
    main()
