"""Every kind says that a patient has files on both sides of its split; the pattern that it names joins them."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from fewpairs.cli.data import source_options
from fewpairs.data.files import CasePattern
from fewpairs.errors import InputError
from fewpairs.runs.config import load_experiment

PATIENTS, FRAMES = 8, ("frame01", "frame12")
BASE: dict[str, tuple[str, list[str]]] = {
    "segmentation": ("setr_kv_small", ["data.kind=msd", "view.size=[16, 16]"]),
    "classification": ("vit_pico_knn50_fashion", [
        "data.kind=folder", "view.size=[12, 12]", "data.split.validation=train",
    ]),
    "semantic": ("fpn_pvt_v2_b0_nuclei", [
        "data.kind=label-maps", "data.source.classes=[a, b]", "data.source.split_file=null", "view.size=[32, 32]",
        "view.short=32", "view.long=48",
    ]),
    "detection": ("retinanet_linglo_b0_bccd", [
        "data.kind=coco", "data.split.validation=train", "data.split.train=[train]",
    ]),
}  # fmt: skip


def write(kind: str, root: Path) -> None:
    rng = np.random.default_rng(0)
    stems = [f"patient{patient}_{frame}" for patient in range(PATIENTS) for frame in FRAMES]
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    for place, stem in enumerate(stems):
        pixels = rng.integers(0, 255, (24, 24), dtype=np.uint8)
        if kind == "segmentation":
            for folder, voxels in (("imagesTr", pixels[..., None]), ("labelsTr", pixels[..., None] // 128)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                image = nibabel.Nifti1Image(voxels, np.eye(4))
                image.header.set_xyzt_units("mm")
                nibabel.save(image, root / folder / f"{stem}.nii.gz")
            continue
        folder = {"classification": f"{'ab'[place // 2 % 2]}", "semantic": "images", "detection": "train"}[kind]
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"{stem}.png")
        if kind == "semantic":
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray(pixels // 128).save(root / "masks" / f"{stem}.png")
        content["images"].append({"id": place + 1, "file_name": f"{stem}.png", "height": 24, "width": 24})
        box = {"bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}
        content["annotations"].append({"id": place + 1, "image_id": place + 1, "category_id": 1, **box})
    if kind == "segmentation":
        (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1}}))
    if kind == "detection":
        (root / "annotations").mkdir()
        (root / "annotations" / "instances_train.json").write_text(json.dumps(content))


def ids(items: Any) -> list[str]:
    found: list[str] = []
    for item in items:
        found += [*getattr(item, "ids", ())] or [item.id]
    return [Path(name).stem for name in found]


@pytest.mark.parametrize("kind", BASE)
def test_a_patient_on_both_sides_is_said_and_the_pattern_joins(kind: str, tmp_path: Path) -> None:
    write(kind, tmp_path / "data")
    recipe, options = BASE[kind]
    options = [*options, f"data.root={tmp_path / 'data'}", "augment=null", "data.split.folds=4", "data.split.seed=1"]
    if kind in ("segmentation", "classification"):
        options.append(f"data.cache={tmp_path / 'cache'}")
    if kind == "detection":
        options += ["data.split.folds=4", "data.source.images=train"]
    built = load_experiment(recipe, options).build(progress=False)
    (said,) = [notice for notice in built.notices if "patients" in notice]
    assert f"{2 * PATIENTS} files are of {PATIENTS} patients" in said
    assert "in more than one of training, validation" in said
    found = re.search(r"join them with (\S+)='(.+)'$", said)
    assert found is not None
    setting, pattern = found.groups()

    joined = load_experiment(recipe, [*options, f"{setting}={pattern}"]).build(progress=False)
    assert not [notice for notice in joined.notices if "patients" in notice]
    case_of = CasePattern(pattern)
    held = [case_of(name) for name in ids(joined.validation)]
    assert len(held) == 2 * len(set(held)) == 4  # a fourth of the patients, each with both files
    assert len(joined.training) == 2 * PATIENTS - 4


@pytest.mark.parametrize("kind", BASE)
def test_data_check_says_it_too_with_files_that_are_equal_or_missing(kind: str, tmp_path: Path) -> None:
    write(kind, tmp_path)
    images = sorted(tmp_path.rglob("patient*_frame01.*"))
    images = [path for path in images if path.parent.name not in ("masks", "labelsTr")]
    images[1].write_bytes(images[0].read_bytes())
    if kind == "segmentation":
        table = json.loads((tmp_path / "dataset.json").read_text())
        names = [
            f"./{folder}/{name}.nii.gz" for name in ("patient0_frame01", "gone") for folder in ("imagesTr", "labelsTr")
        ]
        table["training"] = [{"image": names[0], "label": names[1]}, {"image": names[2], "label": names[3]}]
        (tmp_path / "dataset.json").write_text(json.dumps(table))
    settings = [option.removeprefix("data.source.") for option in BASE[kind][1] if option.startswith("data.source.")]
    layout = BASE[kind][1][0].removeprefix("data.kind=")
    options = source_options(kind, settings + (["images=train"] if kind == "detection" else []))
    shown = import_module(f"fewpairs.kinds.{kind}.overview").overview(
        layout, tmp_path, options, decode=False, progress=False
    )
    notes = "\n".join(shown.notes)
    assert f"{2 * PATIENTS} files are of {PATIENTS} patients" in notes
    assert "case_pattern='(.+?)[_-]frame[0-9]+'" in notes
    assert "are 1 in truth, because their content is equal" in notes
    assert json.loads(json.dumps(shown.content))["notes"]
    missing = (
        "2 of the 4 training files that dataset.json lists are missing: ./imagesTr/gone.nii.gz, ./labelsTr/gone.nii.gz"
    )
    assert (missing in notes) == (kind == "segmentation")


def test_folds_of_cases_hold_each_case_once_and_both_classes(tmp_path: Path) -> None:
    write("classification", tmp_path / "data")
    recipe, options = BASE["classification"]
    options = [
        *options,
        f"data.root={tmp_path / 'data'}",
        "data.split.case_pattern=(.+)_frame[0-9]+",
        "data.split.folds=4",
    ]
    options.append(f"data.cache={tmp_path / 'cache'}")
    seen: list[str] = []
    for fold in range(4):
        built = load_experiment(recipe, [*options, f"data.split.fold={fold}"]).build(progress=False)
        seen += ids(built.validation)
        classes = {int(label) for item in built.validation for label in item.label}
        assert classes == {0, 1}
    assert len(seen) == len(set(seen)) == 2 * PATIENTS
    with pytest.raises(InputError, match="finds a single case, 'patient'"):
        load_experiment(recipe, [*options, "data.split.case_pattern=(patient).*"]).build(progress=False)
