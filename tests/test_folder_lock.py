"""One process at a time works in a folder: the second is told of the first, and takes over from a dead one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fewpairs import folder_lock
from fewpairs.errors import InputError
from fewpairs.folder_lock import HOLDER, lock_folder
from fewpairs.writing import TEMPORARY

HOLD = """
import sys, time
from pathlib import Path
from fewpairs.folder_lock import lock_folder
with lock_folder(Path(sys.argv[1]), "training"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_second_process_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as process:
        told = rf"run is in use: process {process.pid} on .* has been training there since 20.*wait for it, stop it, or"
        with pytest.raises(InputError, match=told), lock_folder(folder, "training"):
            pass
        assert json.loads((folder / HOLDER).read_text())["pid"] == process.pid, "a refusal leaves the first one's note"


def test_the_lock_of_a_killed_process_is_taken_over_and_its_temporary_files_go(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        for place in (tmp_path, tmp_path / "overlays"):
            place.mkdir(exist_ok=True)
            (place / f"{TEMPORARY}abc.png").write_text("half")
        (tmp_path / "mine.tmp").write_text("x")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / HOLDER).exists()
    with lock_folder(tmp_path, "predicting"):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
        left = {path.name for path in tmp_path.rglob("*") if not path.name.startswith(".in-use")}
    assert left == {"mine.tmp", "overlays"}
    assert {path.name for path in tmp_path.iterdir()} == {"mine.tmp", "overlays"}, "the lock leaves nothing behind"


def test_a_loading_process_that_outlives_its_killed_parent_is_waited_for(tmp_path: Path) -> None:
    code = HOLD.replace("time.sleep(60)", "os._exit(0) if os.fork() else time.sleep(2)")
    code = code.replace("import sys", "import os, sys")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    started = time.monotonic()
    with lock_folder(tmp_path, "training"):
        assert time.monotonic() - started < folder_lock._ENDING_SECONDS


def test_one_process_may_hold_a_folder_twice(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "comparing"):
        with lock_folder(tmp_path / ".", "training"):
            pass
        assert json.loads((tmp_path / HOLDER).read_text())["doing"] == "comparing"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "null", "[" * 5000, '{"pid": "x", "host": 3}', "\udc80"])
def test_a_damaged_note_of_the_holder_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / HOLDER).write_bytes(text.encode("utf-8", "surrogateescape"))
    with lock_folder(tmp_path, "training"):
        pass
    with holder(tmp_path):
        (tmp_path / HOLDER).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(InputError, match="is in use"), lock_folder(tmp_path, "training"):
            pass


def test_a_folder_that_was_made_and_stays_empty_goes_again(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "out", "predicting"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"), lock_folder(tmp_path / "file", "training"):
        pass
