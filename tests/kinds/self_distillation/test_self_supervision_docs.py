"""The page on self-supervision has every setting with its default."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import fewpairs
from fewpairs.kinds.self_distillation.experiment import SelfDistillationExperiment
from fewpairs.recipes import RECIPES
from fewpairs.runs.config import to_dict

PAGE = (Path(fewpairs.__file__).parents[2] / "docs" / "self-supervision.md").read_text(encoding="utf-8")


def test_every_setting_has_its_default() -> None:
    rows = re.findall(r"^\| `([a-z]+\.\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    written = {name: yaml.safe_load(default) for name, default in rows}
    assert len(written) == len(rows)
    assert written.pop("model.attention") == "softmax"
    settings = to_dict(SelfDistillationExperiment())
    expected = {
        f"{section}.{name}": value
        for section in ("model", "crops", "teacher", "task")
        for name, value in settings[section].items()
        if name != "attention"
    }
    assert written == expected
    assert (settings["fit"]["monitor"], settings["fit"]["clip"]) == ("knn_top1", 3.0)


def test_every_recipe_is_named() -> None:
    assert {name for name in RECIPES if name.startswith("dino_")} == set(re.findall(r"`(dino_\w+)`", PAGE))
