"""Class names of dataset.json are shown as they are."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from made_files import save_volume

from fewpairs.cli import data
from fewpairs.console import Console


def test_the_table_of_classes_shows_markup_and_escape_codes_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    save_volume(tmp_path / "imagesTr" / "a.nii.gz", labels * 9)
    save_volume(tmp_path / "labelsTr" / "a.nii.gz", labels)
    names = {"0": "background", "1": "[/x]", "2": "\x1b[31mred", "3": "[bold]"}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": names}))
    stream = io.StringIO()
    monkeypatch.setattr("fewpairs.console.Console", lambda: Console(file=stream, width=120, color_system=None))
    data.check(str(tmp_path), kind="msd", quiet=True)
    firsts = [line.split()[0] for line in stream.getvalue().splitlines() if line.startswith(" ")]
    assert firsts[-3:] == ["[/x]", "\\x1b[31mred", "[bold]"]
