"""The training loop and the evaluation loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from fewpairs.errors import InputError
from fewpairs.train.config import FitConfig, OptimizerConfig, Precision, ScheduleConfig
from fewpairs.train.dataloader import BatchLoader, Collate, KeyedDataset, load_items
from fewpairs.train.ema import Ema
from fewpairs.train.evaluation import Evaluator, join_outputs, out_of_patience, to_float32, update_best
from fewpairs.train.history import History
from fewpairs.train.interruption import Interrupted, StopRequest
from fewpairs.train.loss_log import LossLog
from fewpairs.train.metrics_log import json_safe
from fewpairs.train.optimizer import build_optimizer, parameter_groups, set_rates
from fewpairs.train.processes import (
    gather_objects,
    prepare_training,
    rank_and_world,
    resolve_device,
    run_on_main,
    start_processes,
    sync_batch_norm,
)
from fewpairs.train.progress import track_progress
from fewpairs.train.protocols import Items, Metric, Task
from fewpairs.train.recorder import RunRecorder
from fewpairs.train.run_folder import RunFolder
from fewpairs.train.sampler import BatchPlan, BatchSampler
from fewpairs.train.schedule import check_schedule, rate_factor, weight_decay_at
from fewpairs.train.state import TrainingState, capture_rng, seed_everything


def fit(
    model: nn.Module,
    task: Task,
    dataset: KeyedDataset,
    *,
    collate: Collate,
    config: FitConfig,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    run: RunFolder,
    evaluate_on: Items | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train `model` in place and write log and checkpoints to `run`.

    `dataset[epoch, index]` gives a sample that depends on nothing else; `collate` makes a batch of samples. Items of
    `evaluate_on` are scored every `config.evaluate_every` steps, and `best.safetensors` holds the weights with the best
    `config.monitor`: with `config.ema` the moving average (unless `config.score_ema` is false), and the log then has
    the scores of the plain weights too. The model itself ends with its last weights, neither averaged nor the best.

    If the model has a method `before_step()`, it is called when the gradients of an optimiser step are complete;
    `after_step()` is called after it. With `resume`, training continues from `run.last`; on a CPU it ends with the same
    bits as an uninterrupted run. Python's, NumPy's and PyTorch's global random states are seeded from
    `config.seed`. Under `accelerate launch` or torchrun every process calls `fit`, and gradients are those of the
    global batch.

    Raises:
        InputError: settings contradict each other, the model or the data, or the run folder cannot be used.
        CheckpointError: `run.last` cannot be resumed.
        TrainingError: a loss is not finite, or the disk is full; `Interrupted`: Ctrl-C or SIGTERM, after a save.
    """
    check_schedule(schedule, config.steps)
    unused = bool(getattr(model, "aux_heads", None)) and not task.auxiliary
    accelerator = start_processes(config.device, config.precision, unused_parameters=unused)
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    plan = BatchPlan(len(dataset), config.batch_size, config.accumulate, world, config.seed, config.repeats)
    identity = {"data": asdict(plan), "precision": config.precision, "clip": config.clip, "ema": config.ema}
    identity |= {"optimizer": asdict(optimizer), "schedule": json_safe(asdict(schedule))}
    run_on_main(accelerator, partial(run.open, resume=resume, settings={"steps": config.steps, **identity}))

    model = sync_batch_norm(model.to(device), accelerator)
    score = partial(
        evaluate, device=device, batch_size=config.batch_size, precision=config.precision, workers=config.workers
    )
    evaluator = Evaluator(lambda model, items: score(model, task, items), evaluate_on, config)
    evaluator.check_monitor(model)
    adjust = build_optimizer(parameter_groups(model, optimizer), optimizer, fused=config.precision != "fp16")
    ema = Ema(model, config.ema) if config.ema else None
    after_step: Callable[[], None] | None = getattr(model, "after_step", None)
    state = TrainingState(model, adjust, ema, accelerator.scaler, identity, score_ema=config.score_ema)
    loss_log = LossLog(run, eager=device.type == "cpu" and world == 1, scaled=accelerator.scaler is not None)
    with run.lock(main=accelerator.is_main_process), prepare_training(accelerator, model, adjust) as wrapped:
        seed_everything(config.seed, rank)
        if resume:
            state.restore(run.last, rank)
        at, main = state.position, accelerator.is_main_process
        sampler = BatchSampler(plan, rank=rank, start=at.step, stop=config.steps)
        batches = BatchLoader(dataset, sampler, collate, device=device, workers=config.workers)
        recorder = RunRecorder(run, config, at, batches, main=main, progress=progress)
        with StopRequest(announce=main, debounce=0.5 if world > 1 else 0.0) as stop, recorder:
            while at.step < config.steps and not out_of_patience(at, config):
                rate = optimizer.lr * rate_factor(schedule, at.step, config.steps)
                set_rates(adjust, rate, weight_decay_at(optimizer, at.step, config.steps))
                train_step(accelerator, wrapped, task, batches, loss_log, config, at.step + 1)
                if after_step is not None:
                    after_step()
                if ema:
                    ema.update(model)
                at.step += 1
                recorder.step()

                scored = evaluator.due(at.step)
                saved = at.step == config.steps or at.step % config.checkpoint_every == 0
                pause = scored or saved or at.step % config.log_every == 0
                # Several processes must agree to stop; they communicate only at steps where they pause anyway.
                stopping = next(filter(None, gather_objects([stop.signal])), None) if pause or world == 1 else None
                if not (pause or stopping):
                    continue
                record = {"step": at.step, "epoch": at.step / plan.steps_per_epoch, "lr": rate, **loss_log.drain()}
                record |= recorder.close_window()
                if scored:
                    recorder.reporter.evaluating()
                    record |= evaluator.scores(model, ema)
                    if update_best(at, record["scores"][config.monitor], config):
                        run_on_main(accelerator, partial(state.save_best, run.best, config.monitor, record["scores"]))
                recorder.write(record)
                finished = at.step == config.steps or out_of_patience(at, config)
                if saved or stopping or finished:
                    rng = gather_objects([capture_rng(device)])
                    run_on_main(accelerator, partial(state.save_last, run.last, rng, config, finished=finished))
                if stopping and not finished:
                    raise Interrupted(
                        f"stopped by {stopping} after step {at.step} of "
                        f"{config.steps}; the state is saved. Resume with: {run.resume_command}"
                    )
                recorder.open_window()
    return recorder.finish()


def train_step(
    accelerator: Accelerator,
    wrapped: tuple[nn.Module, torch.optim.Optimizer],
    task: Task,
    batches: BatchLoader,
    loss_log: LossLog,
    config: FitConfig,
    step: int,
) -> None:
    """Take optimiser step `step` (from 1) over `config.accumulate` forward passes."""
    model, optimizer = wrapped
    model.train()
    for index in range(config.accumulate):
        batch = batches.next()
        # Processes exchange gradients once a step, with the last pass.
        with nullcontext() if index == config.accumulate - 1 else accelerator.no_sync(model):
            outputs = model(batch.image, auxiliary=True) if task.auxiliary else model(batch.image)
            terms = task.loss(outputs, batch)
            loss_log.add(terms, batch.ids)
            accelerator.backward(torch.stack(list(terms.values())).sum() / config.accumulate)
    before_step: Callable[[], None] | None = getattr(accelerator.unwrap_model(model), "before_step", None)
    if before_step is not None:
        before_step()
    norm = accelerator.clip_grad_norm_(model.parameters(), float("inf") if config.clip is None else config.clip)
    loss_log.close(step, norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def evaluate(
    model: nn.Module,
    task: Task,
    items: Items,
    *,
    device: torch.device | str,
    batch_size: int,
    precision: Precision = "fp32",
    workers: int = 0,
    progress: bool = False,
) -> Metric:
    """Return `task.metric()`, updated with the predictions of `model` for every item (such as a scan or an image).

    Images go through the model `batch_size` at a time; `workers` processes read items ahead. Several processes share
    the items, and all return the same metric, updated in the order of `items`: none of these numbers changes a score.

    Raises:
        InputError: there are no items, or the device is missing or cannot compute in `precision`.
    """
    if len(items) == 0:
        raise InputError("there is nothing to evaluate on; check the validation split")
    device = resolve_device(str(device), precision)
    rank, world = rank_and_world(device)
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    found: list[tuple[int, list[Any]]] = []
    was_training = model.training
    model.to(device).eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=precision != "fp32"):
            mine = range(rank, len(items), world)
            loaded = zip(mine, load_items(items, mine, workers), strict=True)
            for index, item in track_progress(loaded, "evaluating", total=len(mine), enabled=progress and rank == 0):
                outputs = (to_float32(model(chunk.to(device))) for chunk in item.image.split(batch_size))
                one = task.metric()
                one.update(join_outputs(task.predict(part, item) for part in outputs), item)
                found.append((index, one.records))
    finally:
        model.train(was_training)
    metric = task.metric()
    metric.merge(
        [record for _, records in sorted(gather_objects(found), key=lambda pair: pair[0]) for record in records]
    )
    return metric
