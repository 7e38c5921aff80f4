from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewpairs.errors import InputError
from fewpairs.runs import compare
from fewpairs.runs.config import load_experiment, to_yaml
from fewpairs.train import RunFolder

OLD_RUN = Path(__file__).resolve().parents[1] / "golden" / "runs" / "classification"


def test_a_finished_run_with_former_names_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the run is trained or scored again")

    monkeypatch.setattr(compare, "train", fail)
    monkeypatch.setattr(compare, "evaluate", fail)
    folder = Path(shutil.copytree(OLD_RUN, tmp_path / "run"))
    for place, name in enumerate(("last.safetensors", "records-last.jsonl")):
        os.utime(folder / name, (place, place))
    run = RunFolder(folder)
    experiment, built = load_experiment(run.config), None
    assert run.finished
    assert "shares:" in run.config.read_text()
    assert run.config.read_text() != to_yaml(experiment)
    records = compare._run(experiment, folder, "last", built, progress=False)  # type: ignore[arg-type]  # not built
    assert records == experiment.scoring.load(folder / "records-last.jsonl")
    other = replace(experiment, name="other")  # type: ignore[type-var]  # every kind is a dataclass
    with pytest.raises(InputError, match="holds a run with other settings"):
        compare._run(other, folder, "last", built, progress=False)  # type: ignore[arg-type]  # not built
