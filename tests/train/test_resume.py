from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_toy import ToyModel, make_scans, same_bits, toy_fit, toy_model

from fewpairs.errors import CheckpointError
from fewpairs.train import Interrupted, OptimizerConfig, read_history, read_log
from fewpairs.train.checkpoint import read_checkpoint
from fewpairs.train.run_folder import RunFolder
from fewpairs.train.state import capture_rng, restore_rng, seed_everything

FULL: dict[str, Any] = {
    "accumulate": 2,
    "ema": 0.9,
    "evaluate_every": 4,
    "checkpoint_every": 5,
    "steps": 14,
}


def scores(run: Path) -> list[tuple[Any, ...]]:
    return [(r["step"], r["scores"], r["raw_scores"]) for r in read_log(run / "metrics.jsonl") if "scores" in r]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, stop_after: Callable[[int], None], workers: int, name: Any
) -> None:
    through, parts = tmp_path / "through", tmp_path / "parts"
    optimizer, scans = OptimizerConfig(name=name, lr=0.02, layer_decay=0.8), make_scans(2)
    options = FULL | {"workers": workers, "optimizer": optimizer, "scans": scans}
    straight_model = toy_model(0.3)
    straight = toy_fit(through, straight_model, **options)

    # Step 4 ends with an evaluation, 7 lies inside an epoch of 3 steps, 12 at the end of one.
    for stop in (4, 7, 12):
        stop_after(stop)
        with pytest.raises(Interrupted, match=f"after step {stop} of 14"):
            toy_fit(parts, toy_model(0.3, seed=stop) if stop > 4 else toy_model(0.3), resume=stop > 4, **options)
        torch.manual_seed(99)
        random.seed(99)
        np.random.seed(99)
    resumed_model = toy_model(0.3, seed=99)
    resumed = toy_fit(parts, resumed_model, resume=True, **options)

    assert same_bits(dict(straight_model.state_dict()), dict(resumed_model.state_dict()))
    for file in ("last.safetensors", "best.safetensors"):
        (one, its), (other, others) = (read_checkpoint(run / file) for run in (through, parts))
        assert same_bits(one, other)
        assert its["step"] == others["step"]
    assert scores(through) == scores(parts)
    steps = [record["step"] for record in read_log(parts / "metrics.jsonl")]
    assert steps == sorted(set(steps))
    assert resumed.evaluations == straight.evaluations
    assert (resumed.best_step, resumed.best_score) == (straight.best_step, straight.best_score)
    assert {"model", "ema", "optimizer", "rng"} == {
        key.split(".")[0] for key in read_checkpoint(parts / "last.safetensors")[0]
    }


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewpairs.train import engine

    through, parts, original = tmp_path / "through", tmp_path / "parts", engine.train_step

    def killed_at_8(*arguments: Any) -> None:
        if arguments[-1] == 8:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(engine, "train_step", killed_at_8)
    with pytest.raises(KeyboardInterrupt):
        toy_fit(parts, toy_model(0.3), **FULL)
    monkeypatch.setattr(engine, "train_step", original)
    assert [record["step"] for record in read_log(parts / "metrics.jsonl")] == [3, 5, 6]
    resumed = toy_fit(parts, toy_model(0.3, seed=8), resume=True, **FULL)
    straight = toy_fit(through, toy_model(0.3), **FULL)
    assert same_bits(read_checkpoint(parts / "last.safetensors")[0], read_checkpoint(through / "last.safetensors")[0])
    assert resumed.losses == straight.losses
    assert read_history(RunFolder(parts)) == resumed


def test_more_steps_may_be_asked_for_and_none_is_no_work(run_path: Path) -> None:
    options = {"optimizer": OptimizerConfig(lr=0.02)}
    toy_fit(run_path, toy_model(), steps=6, **options)
    same = toy_fit(run_path, toy_model(seed=5), steps=6, resume=True, **options)
    assert same.steps == 6
    assert toy_fit(run_path, toy_model(seed=5), steps=9, resume=True, **options).steps == 9
    assert [record["step"] for record in read_log(run_path / "metrics.jsonl")] == [3, 6, 9]


def test_other_settings_are_named(run_path: Path) -> None:
    toy_fit(run_path, toy_model(), steps=4)
    with pytest.raises(
        CheckpointError, match=r"under other settings: data.batch_size was 4, now 2; ema was None, now 0.9"
    ):
        toy_fit(run_path, toy_model(), steps=8, batch_size=2, ema=0.9, resume=True)
    with pytest.raises(CheckpointError, match=r"optimizer\.lr was 0\.02, now 0\.5"):
        toy_fit(run_path, toy_model(), steps=8, optimizer=OptimizerConfig(lr=0.5), resume=True)


def test_another_model_is_refused(run_path: Path) -> None:
    toy_fit(run_path, toy_model(), steps=4)
    with pytest.raises(CheckpointError, match="does not belong to this ToyModel"):
        toy_fit(run_path, ToyModel(width=4), steps=8, resume=True)


def test_weights_alone_cannot_be_resumed(run_path: Path) -> None:
    toy_fit(run_path, toy_model(), steps=4, scans=make_scans(1))
    (run_path / "best.safetensors").replace(run_path / "last.safetensors")
    with pytest.raises(CheckpointError, match="holds only weights"):
        toy_fit(run_path, toy_model(), steps=8, resume=True)


def test_all_random_states_come_back() -> None:
    def drawn() -> tuple[Any, ...]:
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()

    seed_everything(3, rank=1)
    random.gauss(0, 1)
    np.random.randn()
    states = capture_rng(torch.device("cpu"))
    first = drawn()
    assert drawn() != first
    restore_rng(states)
    assert drawn() == first
    seed_everything(3, rank=0)
    assert drawn() != first
