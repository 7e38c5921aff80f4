"""The fuzzer of `make fuzz` finds nothing in a few inputs, and would find something if it was there."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from mutate import mutated

FOLDER = Path(__file__).parent

BROKEN = """
import os, sys, time
sys.path.insert(0, {folder!r})
import run
from targets import Target
def fail(data): raise KeyError("a mistake")
def hang(data): time.sleep(60)
def grow(data): bytearray(2 ** 33)
def die(data): os.kill(os.getpid(), 11)
run.SECONDS = 1
run.TARGETS = {{"broken": Target(3, lambda: [b"x"], lambda folder: {how})}}
sys.exit(run.main(["--target", "broken", "--out", {out!r}]))
"""


def test_an_input_depends_on_the_seed_alone() -> None:
    for text in (False, True):
        first, second, other = (mutated(random.Random(seed), b"fit: {steps: 3}" * 9, text=text) for seed in (1, 1, 2))
        assert first == second != other


@pytest.mark.slow
def test_nothing_is_found(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "--inputs", "20", "--seed", "5", "--out", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.endswith("0 findings\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fail", "hang", "grow", "die"])
def test_a_finding_is_saved_and_the_status_is_1(tmp_path: Path, how: str) -> None:
    code = BROKEN.format(folder=str(FOLDER), out=str(tmp_path), how=how)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert answer.stdout.endswith(f"3 findings in {tmp_path}\n")
    assert {path.name for path in tmp_path.iterdir()} >= {"broken-0", "broken-1", "broken-2"}
