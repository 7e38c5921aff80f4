"""What is fuzzed: readers of files and settings, each with good inputs to start from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from fewpairs.data.pictures import check_file, read_header, read_image, read_indices, read_picture
from fewpairs.errors import InputError
from fewpairs.kinds.classification.record import ClassificationRecord
from fewpairs.kinds.detection.layouts.open import open_detection
from fewpairs.kinds.detection.layouts.voc import read_voc
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.record import DetectionRecord
from fewpairs.kinds.segmentation.layouts.nifti import msd
from fewpairs.kinds.segmentation.readers import find_inputs
from fewpairs.kinds.segmentation.record import SegmentationRecord
from fewpairs.kinds.segmentation.rle import rle_decode
from fewpairs.kinds.segmentation.volumes import Volume
from fewpairs.kinds.semantic.record import SemanticRecord
from fewpairs.recipes import RECIPES
from fewpairs.report import Comparison
from fewpairs.runs.config import load_experiment, parse_override, to_yaml
from fewpairs.runs.run import run_settings
from fewpairs.runs.same_data import read_data_note
from fewpairs.safe_text import csv_cell, file_name, markdown, one_line
from fewpairs.scoring.records import load_records
from fewpairs.train.checkpoint import load_weights, read_checkpoint, read_metadata
from fewpairs.train.metrics_log import read_log
from fewpairs.train.recorder import read_history
from fewpairs.train.run_folder import RunFolder

Call = Callable[[bytes], Any]


@dataclass(frozen=True)
class Target:
    """One reader."""

    inputs: int
    seeds: Callable[[], list[bytes]]
    """Good inputs."""
    prepare: Callable[[Path], Call]
    """Make the function that reads an input, in an empty folder."""
    text: bool = True


def in_file(name: str, read: Callable[[Path], Any]) -> Callable[[Path], Call]:
    """Give the input to `read` as a file of a name."""

    def prepare(folder: Path) -> Call:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def call(data: bytes) -> None:
            path.write_bytes(data)
            read(path)

        return call

    return prepare


def all_of(*calls: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Call each, also after the refusal of an earlier one."""

    def call(path: Path) -> None:
        for one in calls:
            try:
                one(path)
            except (InputError, OSError):
                continue

    return call


@cache
def volumes() -> list[bytes]:
    voxels = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    first = nibabel.Nifti1Image(voxels, np.diag([0.8, 0.9, 2.5, 1.0]))
    first.set_qform(first.affine, code=1)
    second = nibabel.Nifti2Image(voxels.astype(np.float32)[..., None], np.eye(4))
    plain = [image.to_bytes() for image in (first, second)]
    scaled = nibabel.Nifti1Image(voxels, None)
    scaled.header.set_slope_inter(0.5, 3)
    return [*plain, scaled.to_bytes()]


def read_volume(path: Path) -> None:
    for axis in (0, 2):
        volume = Volume.open(path, axis)
        assert all(0 < length < 1e6 for length in volume.spacing)
        assert volume.slices > 0
        volume.read()


@cache
def settings() -> list[bytes]:
    names = ("setr_kv_small", "vit_pico_fashion", "mask_rcnn_linglo_b0_nuclei", "fpn_pvt_v2_b0_nuclei")
    whole = [to_yaml(load_experiment(name)).encode() for name in names]
    short = b"kind: classification\nfit: {steps: 7, batch_size: 2}\nmodel:\n  attention: {name: knn, topk: 0.5}\n"
    return [*whole, b"recipe: setr_kv_small\nfit: {steps: 7}\ndata: {kind: msd, root: x}\n", short, short]


@cache
def overrides() -> list[bytes]:
    texts = ("fit.steps=200", "model.attention={name: knn, topk: 0.25}", "model.attention=[knn, kv]", "data.root=a")
    more = ("kind=detection", "recipe=setr_kv_small", "view.size=[64, 64]", "optimizer.lr=1e-3", "fit=3", "name=x")
    return [text.encode() for text in (*texts, *more)]


def override(folder: Path) -> Call:
    def call(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        parse_override(text)
        load_experiment("setr_kv_small", [text])

    return call


@cache
def model() -> torch.nn.Module:
    return torch.nn.Linear(2, 3)


@cache
def checkpoints() -> list[bytes]:
    state = {f"model.{name}": value for name, value in model().state_dict().items()}
    position = {"step": 3, "best_step": 2, "best_score": 0.5, "misses": 0, "seconds": 1.0, "training_seconds": 1.0}
    note = {"format": 1, "kind": "last", "step": 3, "steps": 4, "scored": "model", "monitor": "dice", "finished": True}
    entry = json.dumps({**note, "identity": {"data": {"seed": 0}}, "position": position})
    deep = '{"format": 1, "a": ' + "[" * 100_000
    return [
        save(state, metadata={"format": "pt", "fewpairs": entry}),
        save(state, metadata={"fewpairs": deep}),
        save(dict(model().state_dict())),
    ]


def run_folder(path: Path) -> None:
    (path.parent / "config.yaml").touch()
    run = RunFolder(path.parent)
    all_of(
        lambda _: run.finished,
        lambda _: read_history(run),
        read_metadata,
        read_checkpoint,
        lambda file: load_weights(file, model()),
        lambda _: run.open(resume=False, settings={}),
    )(path)


@cache
def logs() -> list[bytes]:
    lines = [{"step": step, "epoch": 0.5, "loss": 0.5, "scores": {"dice": 0.1}} for step in (1, 2, 3)]
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


def history(folder: Path) -> Call:
    (folder / "last.safetensors").write_bytes(checkpoints()[0])

    def call(data: bytes) -> None:
        (folder / "metrics.jsonl").write_bytes(data)
        all_of(lambda path: read_log(path / "metrics.jsonl"), lambda path: read_history(RunFolder(path)))(folder)

    return call


@cache
def records() -> list[bytes]:
    first = [
        {"classes": ["a", "b"]},
        {"id": "x", "label": 1, "rank": 1, "predicted": 1, "confidence": 0.9, "nll": 0.1},
        {"id": "y", "case": "c", "pairs": [[0, 1, 5], [1, 1, 3]]},
        {
            "id": "z",
            "size": [4, 5],
            "boxes": [[0, 0, 2, 2]],
            "labels": [1],
            "crowd": [False],
            "area": [4.0],
            "masks": None,
            "found_boxes": [[0, 0, 2, 2]],
            "found_scores": [0.5],
            "found_labels": [0],
            "found_masks": None,
            "not_finite": 0,
        },
    ]
    head, *rest = (json.dumps(line) + "\n" for line in first)
    return [f"{head}{line}".encode() for line in rest] + [b'{"case": "c", "scan": "s", "classes": ["a"]}\n']


def read_records(path: Path) -> None:
    kinds = (ClassificationRecord, SemanticRecord, DetectionRecord, SegmentationRecord)
    all_of(*(lambda file, kind=kind: load_records(file, kind) for kind in kinds))(path)


@cache
def coco() -> list[bytes]:
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    outline = {**box, "id": 2, "segmentation": [[1, 1, 6, 1, 6, 6]]}
    runs = {**box, "id": 3, "segmentation": {"size": [12, 12], "counts": [10, 5, 129]}, "iscrowd": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 12, "width": 12}],
        "annotations": [box, outline, runs],
        "categories": [{"id": 1, "name": "thing"}],
    }
    return [json.dumps(content).encode()]


def open_coco(folder: Path) -> Call:
    (folder / "images").mkdir()
    Image.new("RGB", (12, 12)).save(folder / "images" / "a.png")

    def call(data: bytes) -> None:
        (folder / "instances_train.json").write_bytes(data)
        options = DetectionOptions(on_error="skip", images="images")
        open_detection("coco", folder, options, look="header").check.sentences()

    return call


@cache
def voc() -> list[bytes]:
    thing = "<object><name>a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"
    whole = f"<annotation><filename>a.jpg</filename><size><width>9</width><height>9</height></size>{thing}</annotation>"
    levels = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    bomb = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{levels}]>' + whole.replace("<name>a", "<name>&i;")
    return [whole.encode(), bomb.encode(), ("<a>" * 2_000).encode()]


@cache
def pictures() -> list[bytes]:
    pixels = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
    made = []
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "words"
    for mode, form in (("L", "PNG"), ("P", "PNG"), ("RGB", "JPEG"), ("L", "TIFF"), ("RGB", "BMP"), ("RGB", "WEBP")):
        stream = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(stream, form, **({"exif": exif} if form in ("JPEG", "TIFF") else {}))
        made.append(stream.getvalue())
    for array in (pixels.astype(np.uint16) * 200, pixels.astype(np.float32) / 255):
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "TIFF")
        made.append(stream.getvalue())
    return made


def read_pictures(path: Path) -> None:
    looks = (lambda file: check_file(file, decode=False), lambda file: check_file(file, decode=True))
    all_of(read_header, read_image, read_picture, read_indices, *looks)(path)


@cache
def labels() -> list[bytes]:
    decathlon = {"name": "x", "labels": {"0": "background", "1": "liver", "2": "tumour"}, "modality": {"0": "CT"}}
    nnunet = {"labels": {"background": 0, "whole": [1, 2], "ignore": 3}, "channel_names": {"0": "CT"}}
    return [json.dumps(content).encode() for content in (decathlon, nnunet)]


def open_task(path: Path) -> None:
    msd(path.parent, other_labels="background").scans()


def task(folder: Path) -> Call:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
        (folder / part / "a.nii").write_bytes(volumes()[0])
    return in_file("dataset.json", open_task)(folder)


@cache
def comparisons() -> list[bytes]:
    return [b'{"title": "a", "command": "b", "rows": [], "classes": ["x"], "seeds": [0], "data": {"description": "d"}}']


@cache
def notes() -> list[bytes]:
    identity = b'{"classes": ["a"], "images": "00"}'
    return [b'{"classes": ["a", "b"], "channels": 1, "identity": ' + identity + b', "cases": {"a": 1}}']


def note(path: Path) -> None:
    read_data_note(path.parent)


@cache
def names() -> list[bytes]:
    return [b"scan.nii.gz", b"a/b.png", b"case_1.yaml", b"x" * 240 + b".png", b"..", b"runs/x", b"CON.png"]


def name(folder: Path) -> Call:
    def call(data: bytes) -> None:
        text = data.replace(b"\x00", b"?").decode("utf-8", "surrogateescape").replace("..", "_").lstrip("/")
        for shown in (one_line(text), markdown(text), csv_cell(text), file_name(text), file_name(text, ".png")):
            shown.encode("utf-8", "surrogateescape")
        path = folder / text
        all_of(
            lambda one: find_inputs([one]), load_experiment, run_settings, read_metadata, read_image,
            lambda one: Volume.open(one), lambda one: load_records(one, SemanticRecord),
            lambda one: open_detection("coco", one, DetectionOptions(), look="none"),
        )(path)  # fmt: skip

    return call


def runs(folder: Path) -> Call:
    def call(data: bytes) -> None:
        rle_decode(data.decode("latin-1"), (8, 9))

    return call


TARGETS = {
    "nifti": Target(4000, volumes, in_file("a.nii", read_volume), text=False),
    "config": Target(3500, settings, in_file("config.yaml", load_experiment)),
    "override": Target(3500, overrides, override),
    "checkpoint": Target(1500, checkpoints, in_file("last.safetensors", run_folder), text=False),
    "metrics": Target(1000, logs, history),
    "records": Target(1500, records, in_file("records.jsonl", read_records)),
    "coco": Target(1000, coco, open_coco),
    "voc": Target(1000, voc, in_file("a.xml", read_voc)),
    "pictures": Target(1500, pictures, in_file("a.png", read_pictures), text=False),
    "labels": Target(500, labels, task),
    "comparison": Target(300, comparisons, lambda folder: Comparison.from_json),
    "note": Target(200, notes, in_file("data.json", note)),
    "names": Target(300, names, name),
    "rle": Target(200, lambda: [b"1 3 10 5", b""], runs),
}
assert sum(target.inputs for target in TARGETS.values()) == 20_000
assert RECIPES
