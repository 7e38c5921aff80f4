"""What ends a training from outside is one message with the command that goes on."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from fewpairs.errors import DataError, TrainingError
from fewpairs.train.checkpoint import write_checkpoint
from fewpairs.train.dataloader import load_items
from fewpairs.train.failures import explained
from fewpairs.train.interruption import Interrupted
from fewpairs.train.metrics_log import MetricsLog
from fewpairs.train.run_folder import RunFolder


class Killed:
    """Items of which the second kills the process that reads it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "last.safetensors").write_bytes(b"")
    return RunFolder(tmp_path)


def test_a_killed_loading_process(run: RunFolder) -> None:
    told = rf"a process that loads data died \(DataLoader worker .*\nResume with: fewpairs train --resume {run.path}"
    with pytest.raises(TrainingError, match=told), explained(run):
        list(load_items(Killed(), range(4), 1))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(run.metrics)
    monkeypatch.setattr("fewpairs.writing.os.fsync", full)
    for write in (
        lambda: write_checkpoint(run.last, {}, {}),
        lambda: MetricsLog(run.metrics),
        lambda: full(),
    ):
        told = r"No space left on device[^\n]*\nResume with: fewpairs train --resume"
        with pytest.raises(TrainingError, match=told), explained(run):
            write()
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(TrainingError, match=r"could not write the log .*\nResume with:"), explained(run):
        log.append({"step": 1})


def test_damaged_data_and_the_first_checkpoint(run: RunFolder) -> None:
    with pytest.raises(DataError, match="cut off\nResume with: "), explained(run):
        raise DataError("cut off")
    told = r"the system refused.*\nThe run's weights are kept.*: again"
    with pytest.raises(TrainingError, match=told), explained(run, again="again"):
        full()
    run.last.unlink()
    with pytest.raises(TrainingError, match="No checkpoint was written yet; start the run again"), explained(run):
        full()
    with pytest.raises(DataError, match=r"^cut off$"), explained(run):
        raise DataError("cut off")


@pytest.mark.parametrize("error", [Interrupted("stopped"), TrainingError("not finite"), RuntimeError("a mistake")])
def test_other_ends_stay_as_they_are(run: RunFolder, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, explained(run):
        raise error
    assert caught.value is error
