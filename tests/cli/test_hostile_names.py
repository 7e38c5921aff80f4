"""Class names and file names are data: no markup, escape codes, paths or formulas, whatever they hold."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from fewpairs.report import read_comparison

CLASSES = ("[bold]x", "\x1b]0;title\x07red", "=1+1", "a|b<script>alert(1)", "CON", os.fsdecode(b"caf\xe9"))
QUICK = ("fit.steps=2", "fit.batch_size=4", "fit.evaluate_every=2", "fit.checkpoint_every=2", "schedule.warmup=0")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for place, name in enumerate(CLASSES):
            folder = tmp_path / "pictures" / part / name
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = np.clip(40 * place + rng.normal(0, 5, (12, 12)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}[b]\x1b[2J.png")
    return tmp_path / "pictures"


@pytest.mark.slow
def test_hostile_class_names_of_pictures(pictures: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    told = []

    def run(*arguments: str) -> str:
        answer = call(*arguments)
        assert answer.status == 0, answer.err
        told.append(answer.out + answer.err)
        return answer.out

    assert "[bold]x" in run("data", "check", str(pictures), "--for", "classification")
    where = ("data.kind=folder", f"data.root={pictures}", f"data.cache={tmp_path / 'cache'}", "view.size=[12, 12]")
    settings = (*where, "data.split.validation=validation", *QUICK)
    folder, out = tmp_path / "run", tmp_path / "out"
    run("train", "vit_pico_knn50_fashion", *settings, "--out", str(folder))
    assert "[bold]x" in run("evaluate", str(folder))
    run("predict", str(folder), str(pictures / "val"), "--out", str(out))
    json.loads(run("evaluate", str(folder), "--json"))
    compared = tmp_path / "compared"
    run("compare", "vit_pico_knn50_fashion", *settings, "--seeds", "1", "--out", str(compared))
    assert not CONTROL.search("".join(told))
    for page in (folder / "report.html", compared / "comparison.html", compared / "comparison.md"):
        text = page.read_text(encoding="utf-8")
        assert "<script>" not in text
        assert not CONTROL.search(text)
    assert read_comparison(compared / "comparison.json").classes[0].startswith(("=", "[", "C", "a", "\\", "\x1b"))
    with (out / "predictions.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert "'=1+1" in cells


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A Decathlon task whose dataset.json names classes that would be paths, devices and one another."""
    root = tmp_path / "task"
    rng = np.random.default_rng(0)
    names = ("../../x", "/etc/x", "Tumour", "tumour", "[/x]\x1b[31m", "n" * 300)
    for number in range(4):
        labels = rng.integers(0, len(names) + 1, (16, 16, 2)).astype(np.uint8)
        for part, voxels in (("imagesTr", labels * 30), ("labelsTr", labels)):
            (root / part).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), root / part / f"s{number}.nii.gz")
    labels_by_number = {"0": "background", **{str(place + 1): name for place, name in enumerate(names)}}
    (root / "dataset.json").write_text(json.dumps({"labels": labels_by_number}))
    return root


@pytest.mark.slow
def test_masks_of_hostile_classes_stay_in_the_folder(scans: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    run, out = tmp_path / "deep" / "er" / "run", tmp_path / "deep" / "er" / "out"
    where = ("data.kind=msd", f"data.root={scans}", f"data.cache={tmp_path / 'cache'}", "data.split.folds=2")
    answer = call("train", "setr_kv_small", *where, "view.size=[16, 16]", *QUICK, "--out", str(run))
    assert answer.status == 0, answer.err
    assert call("data", "check", str(scans)).status == 0
    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    answer = call("predict", str(run), str(scans / "imagesTr" / "s0.nii.gz"), "--separate", "--out", str(out))
    assert answer.status == 0, answer.err
    assert not CONTROL.search(answer.out + answer.err)
    assert {path for path in tmp_path.rglob("*") if out not in path.parents} - before <= {out}
    masks = sorted(path.name for path in out.glob("*.nii.gz"))
    assert len(masks) == 7
    assert {"s0.nii.gz", "s0_Tumour.nii.gz", "s0_tumour-2.nii.gz"} < set(masks)
    assert max(len(os.fsencode(name)) for name in masks) <= 255
