"""Scores of a run of each kind equal those that other libraries compute from the files that the run left or predicted.

The right values are those of pycocotools, torchmetrics, scikit-learn and MONAI; masks of scans are read by SimpleITK.
Truth is read from the files of the data set, by code that is not under test.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from fewpairs.kinds.predictor import OutputFolder
from fewpairs.runs.config import load_experiment, validate
from fewpairs.runs.predict import predict_files
from fewpairs.runs.run import evaluate_run, load_run, train_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of pycocotools
]

SHORT = ["fit.evaluate_every=30", "fit.checkpoint_every=30", "fit.log_every=10", "schedule.warmup=2", "fit.workers=0"]


def trained(experiment: Any, folder: Path) -> dict[str, float]:
    """Train a run, and return the scores of its records as they are read back from their file."""
    train_run(experiment, folder, resume=False, overwrite=False, progress=False)
    evaluate_run(folder, progress=False)
    scoring = experiment.scoring
    return scoring.scores(scoring.load(folder / "records-best.jsonl"))


def predicted(folder: Path, inputs: list[Path], out: Path, **flags: Any) -> None:
    predict_files(load_run(folder).predictor(device="cpu", **flags), inputs, OutputFolder(out, False), progress=False)


def test_detection_is_scored_as_by_cocoeval(tmp_path: Path) -> None:
    from pycocotools import mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    root, rng, rows = tmp_path / "nuclei", np.random.default_rng(3), [("id", "split")]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(20):
        part, labels = ("train", "val")[number % 5 == 0], np.zeros((48, 64), np.uint16)
        for place in range(number % 4):
            top, side = int(rng.integers(1, 20)), int(rng.integers(9, 18))
            labels[top : top + side, 2 + 20 * place : 2 + 20 * place + side] = place + 1
        pixels = np.where(labels > 0, 220, 30)[..., None] + rng.normal(0, 5, (48, 64, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(labels).save(root / "masks" / f"{number}.png")
        rows.append((str(number), part))
    with (root / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    experiment = load_experiment(
        "mask_rcnn_linglo_b0_nuclei",
        [
            "data.kind=nuclei-masks",
            f"data.root={root}",
            "data.split.train=[train]",
            "data.split.validation=validation",
            "model.encoder=linglo_pico",
            "model.width=32",
            "model.hidden=32",
            "model.anchor_sizes=null",
            "model.score_threshold=0.0",
            "view.short=48",
            "view.long=64",
            "augment=null",
            "fit.steps=60",
            "fit.batch_size=4",
            *SHORT,
        ],
    )
    found = trained(experiment, tmp_path / "run")
    held = [name for name, part in rows[1:] if part == "val"]
    predicted(tmp_path / "run", [root / "images" / f"{name}.png" for name in held], tmp_path / "out", threshold=0.0)

    truth: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "nucleus"}]}
    for name in held:
        labels = np.asarray(Image.open(root / "masks" / f"{name}.png"))
        truth["images"].append({"id": f"{name}.png", "height": 48, "width": 64, "file_name": f"{name}.png"})
        for number in np.unique(labels[labels > 0]):
            runs = mask.encode(np.asfortranarray(labels == number).astype(np.uint8))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": f"{name}.png",
                    "category_id": 1,
                    "bbox": [float(value) for value in mask.toBbox(runs)],
                    "area": float(mask.area(runs)),
                    "iscrowd": 0,
                    "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
                }
            )
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert results
    names = ("ap", "ap50", "ap75", "aps", "apm", "apl")
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        given = [{key: one[key] for key in one if kind == "bbox" or key != "bbox"} for one in results]
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = truth
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes(given), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        for name, value in zip(names, evaluation.stats, strict=False):
            mine = found[f"{prefix}{name}"]
            assert (-1 if np.isnan(mine) else mine) == pytest.approx(value, abs=1e-6), (kind, name)
    assert found["ap50"] > 0.1, "a detector that finds nothing shows nothing"


CLASSES = ("ground", "disc", "bar")


def test_label_maps_are_scored_as_by_torchmetrics(tmp_path: Path) -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    root, rng = tmp_path / "scenes", np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4)):
        for number in range(count):
            labels = np.zeros((40, 44 + number), np.uint8)
            row, column, place = (int(value) for value in rng.integers(9, 30, 3))
            rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]
            labels[(rows - row) ** 2 + (columns - column) ** 2 < 81] = 1
            labels[:, place : place + 7] = 2
            labels[:2] = 255
            colours = np.zeros((256, 3), int)
            colours[:3] = (60, 70, 60), (220, 60, 50), (40, 90, 230)
            pixels = (colours[labels] + rng.integers(-12, 13, (*labels.shape, 3))).clip(0, 255).astype(np.uint8)
            for folder, what in (("images", pixels), ("masks", labels)):
                (root / folder / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(what).save(root / folder / part / f"{number}.png")
    experiment = load_experiment(
        "fpn_pvt_v2_b0_nuclei",
        [
            "model.encoder=linglo_nano",
            f"data.root={root}",
            "data.source={classes: [ground, disc, bar], nonzero: false, split_file: null}",
            "view.size=[32, 32]",
            "fit.steps=60",
            "fit.batch_size=4",
            *SHORT,
        ],
    )
    found = trained(experiment, tmp_path / "run")
    predicted(tmp_path / "run", [root / "images" / "val"], tmp_path / "out")
    pairs = [
        (np.asarray(Image.open(tmp_path / "out" / path.name)), np.asarray(Image.open(path)))
        for path in sorted((root / "masks" / "val").iterdir())
    ]
    prediction, truth = (
        torch.from_numpy(np.concatenate([one.ravel() for one in side])).long() for side in zip(*pairs, strict=True)
    )
    options: dict[str, Any] = {"num_classes": 3, "ignore_index": 255}
    with warnings.catch_warnings(action="ignore"):
        iou = MulticlassJaccardIndex(average="none", **options)(prediction, truth)
        expected = {
            "miou": MulticlassJaccardIndex(average="macro", **options)(prediction, truth),
            "macc": MulticlassAccuracy(average="macro", **options)(prediction, truth),
            "aacc": MulticlassAccuracy(average="micro", **options)(prediction, truth),
        } | {f"iou/{name}": value for name, value in zip(CLASSES, iou, strict=True)}
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-6), name
    assert 0.2 < found["miou"] < 1


def textures(root: Path, training: int, validation: int) -> list[str]:
    """Draw patterns of cells of six sizes and brightnesses, a class each, and return the names of the classes."""
    rng, sizes = np.random.default_rng(5), {"a": 1, "b": 2, "c": 4, "d": 8, "e": 16, "f": 3}
    for part, count in (("train", training), ("val", validation)):
        for place, (name, cells) in enumerate(sizes.items()):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pattern = rng.integers(0, 2, (cells, cells)) * 40 + 30 * place + rng.normal(20, 15)
                grown = np.kron(pattern, np.ones((16 // cells + 1, 16 // cells + 1)))[:16, :16]
                pixels = (grown + rng.normal(0, 30, (16, 16))).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return list(sizes)


def test_classes_are_scored_as_by_scikit_learn(tmp_path: Path) -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

    classes = sorted(textures(tmp_path / "textures", 8, 6))
    experiment = load_experiment(
        "vit_pico_fashion",
        [
            "data.kind=folder",
            f"data.root={tmp_path / 'textures'}",
            f"data.cache={tmp_path / 'cache'}",
            "data.split.validation=validation",
            "view.size=[16, 16]",
            "fit.steps=60",
            "fit.batch_size=8",
            *SHORT,
        ],
    )
    found = trained(experiment, tmp_path / "run")
    predicted(tmp_path / "run", [tmp_path / "textures" / "val"], tmp_path / "out", top=6, batch_size=3)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = [classes.index(Path(row["path"]).parent.name) for row in rows]
    first = [classes.index(row["class_1"]) for row in rows]
    scores = np.zeros((len(rows), 6))
    for line, row in enumerate(rows):
        for rank in range(1, 7):
            scores[line, classes.index(row[f"class_{rank}"])] = -rank
    stored = json.loads((tmp_path / "out" / "predictions.json").read_text())["classified"]
    likely = [{guess["name"]: guess["probability"] for guess in one["guesses"]} for one in stored]
    assert found["top1"] == pytest.approx(accuracy_score(truth, first), abs=1e-9)
    assert found["top5"] == pytest.approx(top_k_accuracy_score(truth, scores, k=5, labels=range(6)), abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, first), abs=1e-9)
    table = np.array([[one[name] for name in classes] for one in likely])
    loss = log_loss(truth, table / table.sum(1, keepdims=True), labels=range(6))
    assert found["nll"] == pytest.approx(loss, abs=1e-5)  # probabilities are stored in float32
    assert 1 / 6 < found["top1"] < found["top5"]


def test_masks_of_scans_are_scored_as_by_monai(tmp_path: Path) -> None:
    import SimpleITK
    from monai.metrics import compute_dice, compute_hausdorff_distance

    root, rng = tmp_path / "scans", np.random.default_rng(1)
    affine = np.array([[0, -1.5, 0, 3], [-0.8, 0, 0, 5], [0, 0, 2.5, -7], [0, 0, 0, 1]])  # axes turned and mirrored
    for number in range(6):
        grid = np.stack(np.mgrid[:24, :20, :5], -1)
        labels = np.zeros((24, 20, 5), np.uint8)
        for value, radius in ((1, 6), (2, 4)):
            middle = [*rng.integers(6, [18, 14]).tolist(), 2]
            labels[((grid - middle) ** 2 * [1, 1, 4]).sum(-1) < radius**2] = value
        image = np.array([20, 120, 200])[labels] + rng.normal(0, 15, labels.shape)
        for folder, voxels in (("images", image.astype(np.int16)), ("labels", labels)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(voxels, affine), root / folder / f"p{number}.nii.gz")
    experiment = load_experiment(
        "setr_kv_small",
        [
            "data.kind=nifti",
            f"data.root={root}",
            f"data.cache={tmp_path / 'cache'}",
            "data.source.classes=[big, small]",
            "data.split.folds=2",
            "view.size=[32, 32]",
            "fit.steps=90",
            "fit.batch_size=4",
            *SHORT,
        ],
    )
    found = trained(experiment, tmp_path / "run")
    records = experiment.scoring.load(tmp_path / "run" / "records-best.jsonl")
    names = [record.scan for record in records]
    inputs = [root / "images" / f"{name}.nii.gz" for name in names]
    predicted(tmp_path / "run", inputs, tmp_path / "out", separate=True)

    def voxels(path: Path, values: tuple[int, ...]) -> tuple[torch.Tensor, list[float]]:
        """Masks `[1 k z y x]` of the numbers, and mm along z, y, x."""
        image = SimpleITK.ReadImage(str(path))
        array = SimpleITK.GetArrayFromImage(image)
        return torch.from_numpy(np.stack([array == value for value in values]))[None], list(image.GetSpacing())[::-1]

    overlaps, dices = np.zeros((2, 2)), []
    for name, record in zip(names, records, strict=True):
        truth, spacing = voxels(root / "labels" / f"{name}.nii.gz", (1, 2))
        single = [voxels(tmp_path / "out" / f"{name}_{label}.nii.gz", (1,)) for label in ("big", "small")]
        assert all(mm == pytest.approx(spacing) for _, mm in single)
        prediction = torch.cat([one for one, _ in single], 1)
        dices.append(compute_dice(prediction, truth, ignore_empty=False)[0].numpy())
        sums = [one.sum((0, 2, 3, 4)).numpy() for one in (prediction & truth, prediction, truth)]
        overlaps += [sums[0], sums[1] + sums[2]]
        with warnings.catch_warnings(action="ignore"):  # MONAI's, of its own arguments and of empty masks
            distance = compute_hausdorff_distance(
                prediction.float(), truth.float(), include_background=True, percentile=95, spacing=spacing
            )[0]
        assert record.hd95_mm is not None
        for mine, theirs in zip(record.hd95_mm, distance.tolist(), strict=True):
            assert (mine is None) == (not np.isfinite(theirs)), name  # MONAI's of an empty mask
            assert mine is None or mine == pytest.approx(theirs, abs=1e-4), name  # float32 in MONAI
    assert found["dice"] == pytest.approx(float((2 * overlaps[0] / overlaps[1]).mean()), abs=1e-9)
    assert found["dice_per_scan"] == pytest.approx(float(np.mean(dices)), abs=1e-6)
    assert 0.2 < found["dice"] < 1
    assert any(mm is not None and mm > 0 for record in records for mm in record.hd95_mm or ())


def test_features_are_scored_as_by_scikit_learns_neighbours(tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    classes = sorted(textures(tmp_path / "textures", 8, 6))
    settings = {
        "kind": "self-distillation",
        "model": {"outputs": 64, "hidden": 64, "bottleneck": 32},
        "data": {"root": str(tmp_path / "textures"), "cache": str(tmp_path / "cache")},
        "view": {"size": [16, 16], "channels": 1, "crop_pct": 1.0},
        "crops": {"local_size": [8, 8], "local_crops": 2, "blur": 0.0, "solarise": 0.0},
        "teacher": {"warmup": 4, "freeze": 1},
        "task": {"neighbours": 7},
        "fit": {"steps": 12, "batch_size": 8, "evaluate_every": 6, "checkpoint_every": 6, "clip": 3.0, "device": "cpu"},
        "schedule": {"warmup": 1},
    }
    settings["fit"] |= {"monitor": "knn_top1"}  # type: ignore[operator]
    found = trained(validate(settings), tmp_path / "run")
    run = load_run(tmp_path / "run")
    sides = {}
    for part in ("train", "val"):
        paths = sorted((tmp_path / "textures" / part).glob("*/*.png"))
        view = run.experiment.view.with_channels(1)  # type: ignore[attr-defined]
        with torch.inference_mode():
            features = run.model(torch.stack([view.apply(Image.open(path)) for path in paths]))
        unit = torch.nn.functional.normalize(features, dim=-1).half().float()  # features are kept in 16 bits
        sides[part] = unit.double().numpy(), [classes.index(path.parent.name) for path in paths]
    vote = KNeighborsClassifier(7, metric="cosine", weights=lambda away: np.exp((1 - away) / 0.07), algorithm="brute")
    vote.fit(*sides["train"])
    assert found["knn_top1"] == pytest.approx(vote.score(*sides["val"]), abs=1e-9)
    assert 1 / 6 < found["knn_top1"] < 1
