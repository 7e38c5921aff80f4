from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import yaml

import fewpairs
from fewpairs.data.pictures import SUFFIXES
from fewpairs.kinds.classification.augment import LabelledAugment, Mixing
from fewpairs.kinds.classification.layouts.open import LabelledOptions
from fewpairs.kinds.classification.layouts.torchvision_sets import SETS
from fewpairs.kinds.classification.view import LabelledView

PAGE = Path(fewpairs.__file__).parents[2] / "docs" / "classification.md"
SECTIONS = {
    "view": LabelledView(),
    "augment": LabelledAugment(),
    "augment.mixing": Mixing(),
    "data.source": LabelledOptions(),
}


def test_every_setting_of_the_data_has_its_default() -> None:
    rows = re.findall(r"^\| `((?:view|augment|data\.source)\.[\w.]+)` \| ([^|]+) \|", PAGE.read_text(), re.M)
    written = {name: yaml.safe_load(default.strip("` ")) for name, default in rows}
    assert len(written) == len(rows)
    expected = {}
    for section, settings in SECTIONS.items():
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            expected[f"{section}.{field.name}"] = list(value) if isinstance(value, tuple) else value
    assert written == expected


def test_names_of_data_sets_and_endings_are_all_listed() -> None:
    text = PAGE.read_text()
    assert not [name for name in SETS if name not in text]
    assert not [suffix for suffix in SUFFIXES if not re.search(rf"\b{suffix[1:]}\b", text)]
