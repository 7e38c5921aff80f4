from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from train_toy import toy_fit, toy_model

from fewpairs.errors import InputError
from fewpairs.train import RunFolder


@pytest.fixture
def _no_superuser() -> Iterator[None]:
    """Permissions bind everybody but the superuser."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_new_run_says_what_and_where(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "first run")
    run.create("model: toy\n")
    assert run.config.read_text() == "model: toy\n"
    environment = json.loads(run.environment.read_text())
    assert environment["packages"]["torch"]
    assert environment["cores"] == os.cpu_count()
    assert run.resume_command == f"fewpairs train --resume '{run.path}'"
    assert not run.finished
    run.create("model: other\n")
    assert run.config.read_text() == "model: other\n"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="not empty and holds no run"):
        RunFolder(tmp_path).create("")
    with pytest.raises(InputError, match="not empty and holds no run"):
        RunFolder(tmp_path).create("", overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex").create("")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_existing_run_is_resumed_or_overwritten_on_purpose_only(run_path: Path) -> None:
    toy_fit(run_path, toy_model(), steps=4)
    run, before = RunFolder(run_path), (run_path / "last.safetensors").read_bytes()
    assert run.finished
    for again in (lambda: run.create("new: 1\n"), lambda: toy_fit(run_path, toy_model(), steps=4)):
        with pytest.raises(InputError, match=r"already holds a finished run; resume it with `fewpairs train --resume"):
            again()
    assert run.last.read_bytes() == before
    (run_path / "notes.txt").write_text("mine")
    run.create("new: 1\n", overwrite=True)
    assert sorted(entry.name for entry in run_path.iterdir()) == ["config.yaml", "environment.json", "notes.txt"]


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run to resume"):
        toy_fit(tmp_path / "none", toy_model(), resume=True)
    RunFolder(tmp_path / "begun").create("")
    with pytest.raises(InputError, match="stopped before the first checkpoint"):
        toy_fit(tmp_path / "begun", toy_model(), resume=True)


@pytest.mark.usefixtures("_no_superuser")
def test_no_permission_is_one_message() -> None:
    with pytest.raises(InputError, match=r"cannot write to the run folder .*Permission denied; choose a folder"):
        RunFolder(Path("/usr/fewpairs-run")).create("")
    with pytest.raises(InputError, match="Permission denied"):
        RunFolder(Path("/usr/lib/fewpairs/run")).create("")
