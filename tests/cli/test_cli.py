"""Every command from outside: help, the right call, the wrong call."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMANDS = (
    *("demo", "train", "evaluate", "predict", "compare", "cost", "models", "inspect", "data"),
    *("kernels", "bench", "doctor"),
)
Call = Callable[..., Any]


def test_help_names_every_command(call: Call) -> None:
    answer = call("--help")
    assert answer.status == 0
    assert all(f" {command} " in answer.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, call: Call) -> None:
    answer = call(command, "--help")
    assert answer.status == 0
    assert command == "data" or "Example" in answer.out


def test_version(call: Call) -> None:
    from fewpairs import __version__

    assert call("--version").out.strip() == f"fewpairs {__version__}"


def test_help_and_the_package_import_nothing_heavy() -> None:
    code = (
        "import sys, fewpairs, fewpairs.cli; "
        "print([m for m in ('torch', 'numpy', 'monai', 'timm', 'matplotlib', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_unknown_command_and_option_are_wrong_calls(call: Call) -> None:
    assert call("trian").status == 2
    assert call("train", "--fast").status == 2


def test_train_lists_recipes_and_prints_settings(call: Call) -> None:
    listed = call("train", "--list")
    assert "setr_kv_small" in listed.out
    printed = call("train", "setr_kv_small", "fit.steps=7", "schedule.warmup=1", "--print-config")
    assert printed.status == 0
    assert "steps: 7" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "name a recipe or a YAML file"),
        (["compare", "setr_qkv_small", "setr_kv_small", "view.fit=crop"], "\nsetr_kv_small: view.fit='crop'"),
        (["train", "setr_kv_smol"], "did you mean 'setr_kv_small'"),
        (["train", "setr_kv_small", "fit.stepz=3"], "did you mean 'steps'"),
        (["train", "setr_kv_small", "data.root=nowhere"], "nowhere is not a folder"),
        (["train", "--resume", "nowhere"], "nowhere holds no run"),
        (["train", "setr_kv_small", "--resume", "nowhere"], "--resume takes its settings from the run folder"),
        (["evaluate", "nowhere"], "nowhere has no best.safetensors"),
        (["predict", "nowhere", "x.png", "--out", "masks"], "nowhere holds no run"),
        (["compare", "setr_kv_small", "setr_kv_small"], "a recipe is named twice"),
        (["compare", "fit.steps=3"], "nothing to compare"),
        (["compare", "a/x.yaml", "b/x.yaml"], "two configuration files have the same name"),
        (["cost", "setr_pup_smal"], "did you mean"),
        (["cost", "setr_pup_small", "--attention", "kw"], "did you mean 'kv'"),
        (["data", "check", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_call_gives_one_message_and_status_2(arguments: list[str], message: str, call: Call) -> None:
    answer = call(*arguments)
    assert answer.status == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_train_evaluate_predict_from_files_to_masks(call: Call, tiny: list[str], phantom: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = call("train", "setr_kv_small", *tiny, "--out", str(run), "--quiet")
    assert trained.status == 0, trained.err
    assert {p.name for p in run.iterdir()} >= {
        "config.yaml",
        "data.json",
        "environment.json",
        "metrics.jsonl",
        "best.safetensors",
        "last.safetensors",
        "report.html",
        "records-best.jsonl",
    }
    again = call("train", "setr_kv_small", *tiny, "--out", str(run), "--quiet")
    assert again.status == 2
    assert "already holds a finished run" in again.err

    scored = call("evaluate", str(run), "--json", "--quiet", "--weights", "last")
    assert scored.status == 0, scored.err
    assert set(json.loads(scored.out)["dice"]) >= {"value", "low", "high"}

    image = next(phantom.glob("train/*/*/scans/*.png"))
    predicted = call("predict", str(run), str(image), "--out", str(tmp_path / "masks"), "--quiet")
    assert predicted.status == 0, predicted.err
    assert any((tmp_path / "masks").iterdir())


def test_compare_writes_its_report_and_goes_on_where_it_was(call: Call, tiny: list[str], tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    arguments = ["compare", "setr_qkv_small", "setr_kv_small", *tiny, "--seeds", "2", "--out", str(out), "--quiet"]
    first = call(*arguments)
    assert first.status == 0, first.err
    found = json.loads((out / "comparison.json").read_text())
    assert [row["recipe"] for row in found["rows"]] == ["setr_qkv_small", "setr_kv_small"]
    assert found["rows"][0]["parameters"] > found["rows"][1]["parameters"]
    assert found["rows"][0]["differences"] is None
    assert set(found["rows"][1]["differences"]["dice"]) >= {"value", "low", "high", "margin", "verdict"}
    assert all(len(row["per_seed"]["dice"]) == 2 and len(row["curves"]) == 2 for row in found["rows"])
    assert all(row["step_ms"]["median"] > 0 and row["peak_mib"] > 0 for row in found["rows"])
    assert "non-inferior" in (out / "comparison.md").read_text()
    assert "<svg" in (out / "comparison.html").read_text()

    weights = out / "runs" / "setr_kv_small" / "seed-1" / "last.safetensors"
    before = weights.stat().st_mtime_ns
    assert call(*arguments).status == 0
    assert weights.stat().st_mtime_ns == before
    other = call(*arguments, "fit.steps=6")
    assert other.status == 2
    assert "holds a run with other settings" in other.err

    note = weights.with_name("data.json")
    kept = json.loads(note.read_text())
    kept["identity"]["train"]["labels"] = "0"
    note.write_text(json.dumps(kept))
    changed = call(*arguments)
    assert changed.status == 2
    assert "other labels of the training images" in changed.err


def test_recipes_on_different_data_are_not_compared(call: Call, tiny: list[str], tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("recipe: setr_kv_small\ndata: {split: {folds: 4}}\n")
    answer = call("compare", "setr_qkv_small", str(other), "--out", str(tmp_path / "out"))
    assert answer.status == 2
    assert "differ in data.*, so their scores cannot be compared" in answer.err


def test_doctor_finds_this_installation_well(call: Call) -> None:
    answer = call("doctor", "--json")
    findings = {finding["subject"]: finding["state"] for finding in json.loads(answer.out)}
    assert answer.status == 0
    assert findings["attention kv"] == findings["torch"] == "good"


def test_no_write_permission_is_one_message(call: Call, tiny: list[str], tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    answer = call("train", "setr_kv_small", *tiny, "--out", str(blocked / "run"), "--quiet")
    assert answer.status == 2
    assert "cannot write to the run folder" in answer.err
