"""Scores against COCOeval, which is run here by itself, on JSON files, as a user would run it."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.detection.masks import as_rle, encode_masks
from fewpairs.kinds.detection.record import DetectionRecord
from fewpairs.kinds.detection.scores import match_detections
from fewpairs.kinds.detection.scoring import DetectionMetric
from fewpairs.scoring.records import load_records, merge_records, save_records
from fewpairs.types import DetectionItem, Detections, Objects

CLASSES = ("cat", "dog", "bird")
SIZE = (150, 180)
NAMES = ("ap", "ap50", "ap75", "aps", "apm", "apl")


def picture(rng: np.random.Generator, name: str, objects: int, detections: int) -> tuple[DetectionItem, Detections]:
    """Objects of all three ranges of area, one in five a crowd, and detections near some of them."""

    def box(side: float) -> list[float]:
        left, top = rng.uniform(0, SIZE[1] - side), rng.uniform(0, SIZE[0] - side)
        return [left, top, left + side * rng.uniform(0.5, 1), top + side]

    truth = np.array([box(side) for side in rng.choice([18, 60, 130], objects)], np.float32).reshape(-1, 4)
    labels = rng.integers(0, 2, objects)
    source = rng.integers(0, max(objects, 1), detections)
    found = np.array(
        [truth[at] + rng.normal(0, 3, 4) if objects and rng.random() < 0.8 else box(60) for at in source], np.float32
    ).reshape(-1, 4)
    named = np.where(rng.random(detections) < 0.8, labels[source] if objects else 0, rng.integers(0, 3, detections))
    scores = rng.choice(np.linspace(0.1, 0.9, 9), detections).astype(np.float32)
    order = np.argsort(-scores, kind="mergesort")
    masks, found_masks = (
        np.stack([filled(one) for one in boxes]) if len(boxes) else np.zeros((0, *SIZE), bool)
        for boxes in (truth, found[order])
    )
    area = masks.sum(axis=(1, 2)).astype(np.float32) * 0.9
    item = DetectionItem(
        torch.zeros(1, 3, *SIZE),
        name,
        Objects(
            torch.from_numpy(truth),
            torch.from_numpy(labels),
            torch.from_numpy(masks),
            torch.from_numpy(rng.random(objects) < 0.2),
            torch.from_numpy(area),
        ),
    )
    judged = Detections(
        torch.from_numpy(found[order]),
        torch.from_numpy(scores[order]),
        torch.from_numpy(named[order].astype(np.int64)),
        torch.from_numpy(found_masks),
    )
    return item, judged


def filled(box: np.ndarray) -> np.ndarray:
    """An ellipse in a box."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    centre, half = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 1)
    return ((columns - centre[0]) / half[0]) ** 2 + ((rows - centre[1]) / half[1]) ** 2 <= 1


@pytest.fixture(scope="module")
def judged() -> list[tuple[DetectionItem, Detections]]:
    rng = np.random.default_rng(5)
    numbers = [(5, 9), (0, 3), (4, 0), (0, 0), (8, 14), (3, 5), (6, 20), (2, 2)]
    return [picture(rng, f"{i}.png", *each) for i, each in enumerate(numbers)]


def evaluated(judged: list[tuple[DetectionItem, Detections]], *, masks: bool) -> DetectionMetric:
    metric = DetectionMetric(CLASSES, masks=masks)
    for item, found in judged:
        metric.update([found], item)
    return metric


def by_cocoeval(
    judged: list[tuple[DetectionItem, Detections]], kind: str, folder: Path, label: int | None = None
) -> list:
    """The first six numbers of COCOeval's own summary."""
    annotations, results = [], []
    for number, (item, found) in enumerate(judged, start=1):
        objects = item.objects
        for place in range(len(objects)):
            left, top, right, bottom = objects.boxes[place].double().tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(objects.labels[place]) + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(objects.area[place]),
                    "iscrowd": int(objects.crowd[place]),
                    "segmentation": as_rle(encode_masks(objects.masks[[place]].numpy())[0], SIZE),
                }
            )
        for place in range(len(found)):
            left, top, right, bottom = found.boxes[place].double().tolist()
            entry = {
                "image_id": number,
                "category_id": int(found.labels[place]) + 1,
                "score": float(found.scores[place]),
            }
            if kind == "bbox":
                entry["bbox"] = [left, top, max(right - left, 0), max(bottom - top, 0)]
            else:
                entry["segmentation"] = as_rle(encode_masks(found.masks[[place]].numpy())[0], SIZE)
            results.append(entry)
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(1, len(judged) + 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    (folder / "truth.json").write_text(
        json.dumps({"info": {}, "images": images, "categories": categories, "annotations": annotations})
    )
    (folder / "found.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), kind)
        if label is not None:
            evaluation.params.catIds = [label + 1]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats[:6])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_scores_equal_cocoevals(judged: list, kind: str, tmp_path: Path) -> None:
    scores = evaluated(judged, masks=True).compute()
    prefix = "" if kind == "bbox" else "mask_"
    wanted = by_cocoeval(judged, kind, tmp_path)
    assert all(0 < value < 1 for value in wanted)
    np.testing.assert_allclose([scores[prefix + name] for name in NAMES], wanted, atol=1e-6, rtol=0)
    for label, name in enumerate(CLASSES[:2]):
        one = by_cocoeval(judged, kind, tmp_path, label)
        np.testing.assert_allclose(scores[f"{prefix}ap/{name}"], one[0], atol=1e-6, rtol=0)
        np.testing.assert_allclose(scores[f"{prefix}ap50/{name}"], one[1], atol=1e-6, rtol=0)


def test_a_class_without_truth_is_not_defined_and_counts_in_no_mean(judged: list, tmp_path: Path) -> None:
    assert by_cocoeval(judged, "bbox", tmp_path, 2)[0] == -1
    assert math.isnan(evaluated(judged, masks=False).compute()["ap/bird"])


def test_an_image_drawn_twice_counts_as_two_equal_images(judged: list, tmp_path: Path) -> None:
    times = [2, 0, 1, 3, 0, 1, 2, 1]
    # All scores must differ, for COCOeval orders equal ones by image, and copies here stay together.
    apart = [
        (item, Detections(found.boxes, found.scores - lower - 0.001 * place, found.labels, found.masks))
        for place, (item, found) in enumerate(judged)
        for lower in (1e-5 * torch.arange(len(found)),)
    ]
    drawn = [one for one, count in zip(apart, times, strict=True) for _ in range(count)]
    table = match_detections(evaluated(apart, masks=True).records)
    scores = table.scores(np.array([times], float), table.names)
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        wanted = by_cocoeval(drawn, kind, tmp_path)
        np.testing.assert_allclose([scores[prefix + name][0] for name in NAMES], wanted, atol=1e-6, rtol=0)


def test_resamples_at_once_equal_resamples_one_by_one(judged: list) -> None:
    table = match_detections(evaluated(judged, masks=False).records)
    weights = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), size=9).astype(float)
    together = table.scores(weights, table.names)
    for row in range(9):
        alone = table.scores(weights[row : row + 1], table.names)
        for name in table.names:
            np.testing.assert_allclose(together[name][row], alone[name][0], rtol=1e-12)


def test_nothing_found_is_zero_and_nothing_to_find_is_not_defined(judged: list) -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    without = evaluated([(item, nothing) for item, _ in judged], masks=False).compute()
    assert without["ap"] == without["ap50"] == without["aps"] == 0
    empty = DetectionItem(torch.zeros(1, 3, *SIZE), "a", Objects.none())
    scores = evaluated([(empty, judged[0][1])], masks=False).compute()
    assert all(math.isnan(scores[name]) for name in NAMES)
    assert all(math.isnan(value) for value in evaluated([(empty, nothing)], masks=False).compute().values())


def test_neither_order_nor_processes_change_a_score(judged: list) -> None:
    whole = evaluated(judged, masks=True)
    parts = [evaluated(judged[5:], masks=True), evaluated(judged[:6], masks=True)]
    parts[0].merge(parts[1].records)
    np.testing.assert_equal(parts[0].compute(), whole.compute())
    assert parts[0].records == whole.records


def test_detections_that_are_not_finite_are_left_out_and_counted(judged: list) -> None:
    item, found = judged[0]
    scores = found.scores.clone()
    scores[0] = torch.nan
    metric = DetectionMetric(CLASSES)
    (record,) = metric.update([Detections(found.boxes, scores, found.labels)], item)
    assert len(record.found_scores) == len(found) - 1
    assert metric.compute()["detections_not_finite"] == 1
    assert "detections_not_finite" not in evaluated(judged, masks=False).compute()


def test_records_go_through_a_file(judged: list, tmp_path: Path) -> None:
    records = evaluated(judged, masks=True).records
    save_records(records, tmp_path / "records.jsonl", DetectionRecord)
    assert load_records(tmp_path / "records.jsonl", DetectionRecord) == records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [1]}, "wrong type"),
        ({"labels": [9] * 5}, "labels holds"),
        ({"labels": [0]}, "list of 5"),
        ({"masks": ["0"] * 5}, "cover"),
        ({"masks": None}, "only in the truth or only"),
        ({"extra": 1}, "wrong fields: extra"),
        ({"found_scores": ["x"] * 9}, "found_scores holds"),
    ],
)
def test_a_damaged_record_is_refused_with_its_line(judged: list, tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "records.jsonl"
    save_records(evaluated(judged[:1], masks=True).records, path, DetectionRecord)
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps(json.loads(second) | change)}\n")
    with pytest.raises(DataError, match=rf"line 2: .*{message}"):
        load_records(path, DetectionRecord)


def test_what_does_not_fit_is_refused(judged: list) -> None:
    item, found = judged[0]
    boxes_alone = Detections(found.boxes, found.scores, found.labels)
    with pytest.raises(InputError, match="the model has boxes alone"):
        DetectionMetric(CLASSES, masks=True).update([boxes_alone], item)
    with pytest.raises(InputError, match="class number"):
        DetectionMetric(CLASSES).update([Detections(found.boxes, found.scores, found.labels + 3)], item)
    with pytest.raises(InputError, match="one list"):
        DetectionMetric(CLASSES).update([found, found], item)
    with pytest.raises(InputError, match="different names"):
        DetectionMetric(("a", "a"))
    with pytest.raises(InputError, match="nothing to score"):
        DetectionMetric(CLASSES).compute()
    first, second = evaluated(judged[:1], masks=False), evaluated([(item, judged[0][1])], masks=True)
    with pytest.raises(InputError, match="evaluated twice"):
        merge_records([*first.records, *second.records])


def test_records_are_plain_data(judged: list) -> None:
    (record,) = evaluated(judged[:1], masks=True).records
    assert DetectionRecord.from_dict(json.loads(json.dumps(record.to_dict())), CLASSES) == record
