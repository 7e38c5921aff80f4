"""The same command alone, under torchrun and under `accelerate launch`, stopped and resumed: the same training."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fewpairs.train import read_log

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "fewpairs")
# On a CPU `accelerate launch` starts several processes through MPI only, so here it starts one.
ACCELERATE = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes=1", "--num_machines=1",
              "--mixed_precision=no", "--dynamo_backend=no", "-m", "fewpairs")  # fmt: skip


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "500"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment)


def run(*arguments: str) -> str:
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-4000:]
    return out


def weights(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    return {name: t for name, t in load_file(folder / "last.safetensors").items() if name.startswith(prefix)}


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "batch_size"), [(TORCHRUN, 2), (ACCELERATE, 4)], ids=["torchrun", "accelerate"])
def test_a_launcher_trains_as_one_process_with_the_same_global_batch(
    launcher: tuple[str, ...], batch_size: int, tiny: list[str], tmp_path: Path
) -> None:
    command = ["train", "setr_kvpos_small", *tiny, "--quiet"]
    run("-m", "fewpairs", *command, "fit.batch_size=4", "--out", str(tmp_path / "one"))
    run(*launcher, *command, f"fit.batch_size={batch_size}", "--out", str(tmp_path / "launched"))
    one, launched = weights(tmp_path / "one", "model."), weights(tmp_path / "launched", "model.")
    assert one.keys() == launched.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(launched[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    losses = [[r["loss"] for r in read_log(tmp_path / name / "metrics.jsonl")] for name in ("one", "launched")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert (tmp_path / "launched" / "report.html").is_file()


@pytest.mark.slow
def test_ctrl_c_saves_prints_the_command_and_resumes_to_the_same_bits(tiny: list[str], tmp_path: Path) -> None:
    command = ["train", "setr_kvpos_small", *tiny, "fit.steps=40", "fit.evaluate_every=20", "fit.checkpoint_every=20"]
    run("-m", "fewpairs", *command, "--out", str(tmp_path / "whole"), "--quiet")
    stopped = tmp_path / "stopped"
    process = start("-m", "fewpairs", *command, "--out", str(stopped))
    log = stopped / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in err
    said = re.search(r"fewpairs train --resume (\S+)", err)
    assert said
    assert Path(said.group(1)) == stopped
    assert len(read_log(log)) < 40
    run("-m", "fewpairs", "train", "--resume", str(stopped), "--quiet")
    whole, resumed = (load_file(folder / "last.safetensors") for folder in (tmp_path / "whole", stopped))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    steps = [record["step"] for record in read_log(log)]
    assert steps == sorted(set(steps)) == list(range(1, 41))
