from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from train_toy import same_bits, toy_fit, toy_model

from fewpairs.train import Interrupted, RunFolder, read_metadata
from fewpairs.train.checkpoint import read_checkpoint
from fewpairs.train.interruption import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_the_second_aborts_and_handlers_return(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest(announce=False) as stop:
        os.kill(os.getpid(), number)
        assert stop.signal == number.name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_one_ctrl_c_delivered_twice_counts_once() -> None:
    with StopRequest(announce=False, debounce=0.3) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == "SIGINT"
        time.sleep(0.35)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_outside_the_main_thread_nothing_is_installed() -> None:
    handlers = []

    def enter() -> None:
        with StopRequest():
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [before]


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from train_toy import ToyData, toy_fit, toy_model
from fewpairs.errors import FewpairsError

class Steady(ToyData):
    def __getitem__(self, key):
        import time
        time.sleep(0.002)
        return super().__getitem__(key)

try:
    toy_fit(Path({run!r}), toy_model(0.3), data=Steady(), steps=100_000, log_every=5, workers=1, accumulate=2)
except FewpairsError as error:
    print(type(error).__name__, error)
    sys.exit(1)
"""


def test_ctrl_c_on_a_terminal_saves_the_state_and_prints_how_to_go_on(run_path: Path) -> None:
    program = PROGRAM.format(tests=str(Path(__file__).parent), run=str(run_path))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if (run_path / "metrics.jsonl").exists() and (run_path / "metrics.jsonl").read_text().count("\n") > 1:
                break
            time.sleep(0.05)
        # As a terminal does: the whole process group is told, the loading process too.
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1, errors
    assert output.startswith("Interrupted stopped by SIGINT after step"), errors
    assert f"fewpairs train --resume {run_path}" in output
    assert "Stopping: the step is finished" in errors
    assert "Traceback" not in errors
    step = read_metadata(run_path / "last.safetensors")["step"]
    last_line = json.loads((run_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert step == last_line["step"] >= 10
    assert not RunFolder(run_path).finished


def test_sigterm_stops_at_the_end_of_its_step(run_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewpairs.train import engine

    original, calls = engine.train_step, []

    def step(*arguments: object) -> None:
        calls.append(None)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "train_step", step)
    model, through = toy_model(), toy_model()
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 5 of 12"):
        toy_fit(run_path, model)
    monkeypatch.setattr(engine, "train_step", original)
    toy_fit(run_path, toy_model(), resume=True)
    toy_fit(run_path.with_name("through"), through)
    resumed, _ = read_checkpoint(run_path / "last.safetensors")
    straight, _ = read_checkpoint(run_path.with_name("through") / "last.safetensors")
    assert same_bits(resumed, straight)
