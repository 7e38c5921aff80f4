"""The page about semantic segmentation against the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from fewpairs.kinds.semantic.experiment import SemanticExperiment
from fewpairs.recipes import RECIPES
from fewpairs.runs.config import to_dict

PAGE = (Path(__file__).parents[3] / "docs" / "semantic.md").read_text(encoding="utf-8")


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in content.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result


def test_every_setting_is_listed_with_its_default() -> None:
    rows = re.findall(r"^\| `((?:model|data|view|augment|task|inference)\.[\w.]+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    written = {name: yaml.safe_load(default) for name, default in rows}
    ours = re.compile(r"(model|data(?!\.split)|view|augment|task|inference)\..*")
    assert written == {name: value for name, value in flat(to_dict(SemanticExperiment())).items() if ours.match(name)}
    assert len(rows) == len(written)


def test_the_recipes_of_the_page_exist() -> None:
    told = {f"fpn_{encoder}_b{size}_ade20k" for encoder in ("linglo", "pvt_v2") for size in range(3)} | {
        f"fpn_{encoder}_b{size}_{data}"
        for encoder in ("linglo", "pvt_v2")
        for size, data in ((1, "cityscapes"), (0, "nuclei"), (0, "heart"))
    }
    told.add("upernet_swin_tiny_ade20k")
    assert told == {name for name, recipe in RECIPES.items() if name.startswith(("fpn_", "upernet_"))}
    assert "fpn_{linglo,pvt_v2}_b{0,1,2}_ade20k" in PAGE
