"""A kind of experiment loads neither other kinds nor layouts and libraries that are not used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KINDS = ("segmentation", "classification", "semantic", "detection", "self_distillation")
ALONE = {"pycocotools": ["detection"], "nibabel": [], "monai": [], "datasets": [], "sklearn": []}
"""Libraries, and the kinds whose experiments may load them on import."""

OPENED = {
    "segmentation": ("open_source('folder', root, SourceOptions(classes=('a',)))", ["folder"]),
    "classification": ("open_labelled('folder', root)", ["folder"]),
    "semantic": ("open_semantic('label-maps', root, SemanticOptions(classes=('a', 'b')))", ["label_maps"]),
    "detection": ("open_detection('voc', root)", ["voc"]),
}
"""Of each kind a data set that is opened, and the modules of layouts that it takes."""


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has loaded after `code`."""
    script = f"import sys, json\n{code}\nprint(json.dumps(list(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


def layouts(modules: set[str], kind: str) -> set[str]:
    start = f"fewpairs.kinds.{kind}.layouts."
    return {name.removeprefix(start) for name in modules if name.startswith(start)}


@pytest.mark.parametrize("kind", KINDS)
def test_an_experiment_loads_its_own_kind_alone(kind: str) -> None:
    modules = loaded(f"import fewpairs.kinds.{kind}.experiment")
    seen = {kind, "classification"} if kind == "self_distillation" else {kind}
    others = [
        name
        for name in modules
        for other in set(KINDS) - seen
        if name.startswith(f"fewpairs.kinds.{other}.") and not name.endswith(".flags")
    ]
    assert others == []
    assert [name for name, kinds in ALONE.items() if name in modules and kind not in kinds] == []
    for one in seen:
        assert layouts(modules, one) <= {"open"}, "layouts are imported when a data set is opened"


def test_reading_pictures_loads_no_network() -> None:
    modules = loaded("import fewpairs.data.pictures, fewpairs.data.files, fewpairs.data.names, fewpairs.writing")
    known = ("fewpairs.data", "fewpairs.errors", "fewpairs.numbers", "fewpairs.types", "fewpairs.writing")
    assert [name for name in modules if name.startswith("fewpairs.") and not name.startswith(known)] == []


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """A tiny data set of each kind."""
    grey = Image.fromarray(np.zeros((4, 4), np.uint8))
    for file in (
        *("segmentation/images/a.png", "segmentation/masks/a.png", "semantic/images/a.png", "semantic/masks/a.png"),
        *("classification/cat/a.png", "classification/dog/a.png", "detection/JPEGImages/a.png"),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        grey.save(tmp_path / file)
    (tmp_path / "detection/Annotations").mkdir()
    edges = "".join(f"<{edge}>{place}</{edge}>" for edge, place in (("xmin", 0), ("ymin", 0), ("xmax", 3), ("ymax", 3)))
    found = f"<object><name>cat</name><bndbox>{edges}</bndbox></object>"
    (tmp_path / "detection/Annotations/a.xml").write_text(f"<annotation>{found}</annotation>")
    return {kind: tmp_path / kind for kind in OPENED}


@pytest.mark.parametrize("kind", OPENED)
def test_opening_a_data_set_loads_its_layout_alone(kind: str, roots: dict[str, Path]) -> None:
    call, wanted = OPENED[kind]
    options = "from fewpairs.kinds.detection.options import DetectionOptions" if kind == "detection" else ""
    code = f"from fewpairs.kinds.{kind}.layouts.open import *\n{options}\nroot = {str(roots[kind])!r}\n{call}"
    modules = loaded(code)
    assert layouts(modules, kind) == {"open", *wanted}
    assert not modules & {"nibabel", "monai", "datasets"}
    assert kind == "detection" or "pycocotools" not in modules
