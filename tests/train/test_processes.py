from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from train_toy import ToyTask, make_scans, toy_fit, toy_model

from fewpairs.errors import CheckpointError
from fewpairs.train import evaluate, read_log


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes, started by torchrun and joined by gloo, did their work."""
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("two_processes.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, str(script), str(folder)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def said(folder: Path, rank: int) -> dict[str, Any]:
    return json.loads((folder / f"rank-{rank}.json").read_text())


def both(folder: Path, key: str) -> Any:
    first, second = (said(folder, rank)[key] for rank in (0, 1))
    assert first == second
    return first


OPTIONS: dict[str, Any] = {"batch_size": 4, "accumulate": 2, "steps": 9, "evaluate_every": 4, "ema": 0.9}


def test_scores_do_not_depend_on_the_number_of_processes(two: Path) -> None:
    alone = evaluate(toy_model(), ToyTask(), make_scans(count=5), device="cpu", batch_size=4)
    assert [tuple(record) for record in both(two, "records")] == alone.records


def test_two_processes_train_as_one_with_the_same_global_batch(two: Path, tmp_path: Path) -> None:
    model = toy_model()
    history = toy_fit(tmp_path / "one", model, scans=make_scans(count=5), **OPTIONS)
    weights = both(two, "weights")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(torch.tensor(weights[name]), parameter.detach(), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(history.evaluations, said(two, 0)["scores"], strict=True):
        assert theirs["dice"] == pytest.approx(ours.scores["dice"], abs=1e-3)
    losses = [
        [(record["step"], record["loss"]) for record in read_log(folder / "metrics.jsonl")]
        for folder in (two / "two", tmp_path / "one")
    ]
    assert [step for step, _ in losses[0]] == [step for step, _ in losses[1]]
    assert [loss for _, loss in losses[0]] == pytest.approx([loss for _, loss in losses[1]], rel=1e-4)


def test_batch_statistics_that_cpus_cannot_share_are_refused(two: Path) -> None:
    message = both(two, "batch_norm")
    assert message.startswith("InputError: ToyModel normalises over the batch (in 1 layers, such as 'norm')")
    assert "group normalisation" in message


def test_a_loss_that_is_not_finite_in_one_stops_both_with_its_batch(two: Path) -> None:
    message = both(two, "not_finite")
    assert message.startswith("TrainingError: training stopped at step ")
    assert "the loss is not finite (bce nan, square nan) for batch " in message
    ids = message.split("for batch ")[1].split(".")[0].split(", ")
    assert "image-7" in ids
    assert len(ids) == 2


def test_what_the_first_finds_wrong_is_raised_in_both(two: Path) -> None:
    assert "already holds a finished run" in both(two, "exists")


@pytest.mark.slow
def test_a_signal_to_one_stops_both_and_they_resume_to_the_same_bits(two: Path) -> None:
    assert "after step 6 of 9" in both(two, "interrupted")
    assert both(two, "resumed") == both(two, "weights")


def test_another_number_of_processes_cannot_resume(two: Path) -> None:
    with pytest.raises(CheckpointError, match=r"data\.world was 2, now 1"):
        toy_fit(two / "two", toy_model(), resume=True, **(OPTIONS | {"batch_size": 2}))
