"""The page about detection data against the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from detection_files import make_voc

import fewpairs
from fewpairs.kinds.detection.annotation_issues import ISSUES
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.view import DetectionAugment, DetectionView

PAGE = Path(fewpairs.__file__).parents[2] / "docs" / "detection-data.md"
SECTIONS = {"view": DetectionView(), "augment": DetectionAugment(), "data.source": DetectionOptions()}


def test_every_setting_has_its_default() -> None:
    rows = re.findall(r"^\| `((?:view|augment|data\.source)\.[\w.]+)` \| ([^|]+) \|", PAGE.read_text(), re.M)
    written = {name: yaml.safe_load(default.strip("` ")) for name, default in rows}
    assert len(written) == len(rows)
    expected = {}
    for section, settings in SECTIONS.items():
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            expected[f"{section}.{field.name}"] = list(value) if isinstance(value, tuple) else value
    assert written == expected


def test_every_finding_is_listed_in_order() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| ([^|]+) \|", PAGE.read_text(), re.M)
    assert [name for name, _, _ in rows] == list(ISSUES)
    for name, _, happens in rows:
        assert (happens.strip() == "stop") == (ISSUES[name].severity == "error")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make_voc(tmp_path / "cells")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S), start=1):
        exec(compile(code, f"{PAGE.name}, block {number}", "exec", dont_inherit=True), names)
    shown = capsys.readouterr().out
    assert "('cat', 'dog') ('train', 'validation', 'test')" in shown
    assert "1.0 Interval(value=1.0" in shown
