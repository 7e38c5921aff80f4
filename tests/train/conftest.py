from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState

from fewpairs.train.recorder import RunRecorder

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    yield
    GradientState._reset_state()
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes a training stop itself by a real SIGINT once that many steps are done."""
    original = RunRecorder.step

    def arm(step: int) -> None:
        def counted(recorder: RunRecorder) -> None:
            original(recorder)
            if recorder.position.step == step:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(RunRecorder, "step", counted)

    return arm
