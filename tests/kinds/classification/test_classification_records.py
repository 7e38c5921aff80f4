"""Records of images: ranks with ties, outputs that are not finite, files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.record import (
    ClassificationRecord,
    classification_records,
    confident_mistakes,
    confusions,
)
from fewpairs.kinds.classification.scoring import ClassificationMetric
from fewpairs.scoring.records import load_records, merge_records, save_records
from fewpairs.types import Labelled

CLASSES = ("cat", "dog", "fox")
values = st.sampled_from([-2.0, 0.0, 1.0, 1.5, 40.0, -3e38])
rows = st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=12)


def judged(logits: Tensor, labels: list[int]) -> list[ClassificationRecord]:
    names = [f"image-{index:03d}" for index in range(len(labels))]
    return classification_records(logits, torch.tensor(labels), ids=names, classes=CLASSES)


@given(rows, st.data())
def test_ranks_count_the_outputs_before_the_true_one(outputs: list[list[float]], data: st.DataObject) -> None:
    labels = [data.draw(st.integers(0, 2)) for _ in outputs]
    for record, row, label in zip(judged(torch.tensor(outputs), labels), outputs, labels, strict=True):
        order = sorted(range(3), key=lambda c: (-row[c], c))
        assert record.rank == order.index(label) + 1
        assert record.predicted == order[0]
        assert record.right == (record.predicted == label)
        softmax = torch.tensor(row, dtype=torch.float64).softmax(0)
        assert record.confidence == pytest.approx(softmax.max().item())
        assert record.nll == pytest.approx(F.cross_entropy(torch.tensor(row).double(), torch.tensor(label)).item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_equal_outputs_go_to_the_lower_class(dtype: torch.dtype) -> None:
    records = judged(torch.full((3, 3), 0.3, dtype=dtype), [0, 1, 2])
    assert [record.rank for record in records] == [1, 2, 3]
    assert [record.predicted for record in records] == [0, 0, 0]
    assert records[0].confidence == pytest.approx(1 / 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_output_that_is_not_finite_makes_its_image_wrong_and_no_other(bad: float) -> None:
    logits = torch.eye(3)
    logits[1, 1] = bad
    first, second, third = judged(logits, [0, 1, 2])
    assert second == ClassificationRecord("image-001", 1, None, None, None, None, CLASSES)
    assert not second.right
    assert first.right
    assert third.right


@given(rows, st.data())
def test_the_batch_changes_no_record(outputs: list[list[float]], data: st.DataObject) -> None:
    labels = [data.draw(st.integers(0, 2)) for _ in outputs]
    cut = data.draw(st.integers(0, len(outputs)))
    logits = torch.tensor(outputs)
    names = [f"{index}" for index in range(len(labels))]
    whole = classification_records(logits, torch.tensor(labels), ids=names, classes=CLASSES)
    parts = [
        record
        for piece in (slice(0, cut), slice(cut, None))
        for record in classification_records(
            logits[piece], torch.tensor(labels[piece], dtype=torch.int64), ids=names[piece], classes=CLASSES
        )
    ]
    assert parts == whole


@pytest.mark.parametrize(
    ("logits", "labels", "names", "message"),
    [
        (torch.zeros(2, 4), torch.zeros(2).long(), "ab", r"expected outputs \[s 3\], one a class, got \[2, 4\]"),
        (torch.zeros(6), torch.zeros(2).long(), "ab", "expected outputs"),
        (torch.zeros(2, 3), torch.zeros(3).long(), "ab", "2 images need as many class indices and names"),
        (torch.zeros(2, 3), torch.zeros(2).long(), "abc", "3 names"),
        (torch.zeros(2, 3), torch.zeros(2), "ab", "class indices .whole numbers., got torch.float32"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "ab", "image 'b' has label 3, but the classes are 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), "ab", "image 'a' has label -1"),
    ],
)
def test_what_does_not_fit_is_refused(logits: Tensor, labels: Tensor, names: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classification_records(logits, labels, ids=list(names), classes=CLASSES)


@given(rows, st.booleans())
def test_files_give_back_equal_records(tmp_path_factory: pytest.TempPathFactory, outputs: list, broken: bool) -> None:
    logits = torch.tensor(outputs)
    if broken:
        logits[0] = math.nan
    records = judged(logits, [index % 3 for index in range(len(outputs))])
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    save_records(records, path, ClassificationRecord)
    assert load_records(path, ClassificationRecord) == records
    first, *lines = path.read_text().splitlines()
    assert json.loads(first) == {"classes": list(CLASSES)}
    assert len(lines) == len(records)


def test_no_images_are_a_file_too(tmp_path: Path) -> None:
    save_records([], tmp_path / "none.jsonl", ClassificationRecord)
    assert load_records(tmp_path / "none.jsonl", ClassificationRecord) == []


GOOD = '{"id": "a", "label": 1, "rank": 1, "predicted": 1, "confidence": 0.5, "nll": 0.7}'


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"id": "a"}',
        GOOD.replace('"a"', "3"),
        GOOD.replace('"rank": 1', '"rank": 0'),
        GOOD.replace('"rank": 1', '"rank": 4'),
        GOOD.replace('"rank": 1', '"rank": null'),
        GOOD.replace('"label": 1', '"label": 3'),
        GOOD.replace('"label": 1', '"label": true'),
        GOOD.replace("0.7", "NaN"),
        GOOD.replace("0.7", "-1"),
        GOOD.replace("}", ', "more": 1}'),
    ],
)
def test_damage_is_named_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"classes": ["cat", "dog", "fox"]}\n' + GOOD + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"records\.jsonl, line 3: not a record of a classified image"):
        load_records(path, ClassificationRecord)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(GOOD + "\n")
    with pytest.raises(DataError, match=r"line 1: .*the first line must name the classes"):
        load_records(path, ClassificationRecord)
    with pytest.raises(DataError, match="cannot read"):
        load_records(tmp_path / "gone.jsonl", ClassificationRecord)


def test_repeated_images_count_once_and_contradictions_are_refused() -> None:
    records = judged(torch.eye(3), [0, 1, 0])
    assert merge_records([*records[::-1], *records]) == records
    with pytest.raises(InputError, match="'image-000' was evaluated twice with different results"):
        merge_records([*records, replace(records[0], rank=2, predicted=1)])
    with pytest.raises(InputError, match="has the classes a, b, c but image 'image-000' has cat, dog, fox"):
        merge_records([records[0], replace(records[1], classes=("a", "b", "c"))])


def test_confusions_and_the_surest_mistakes() -> None:
    logits = torch.tensor([[3.0, 0, 0], [0, 3, 0], [2, 0, 0], [0, 0, 5], [math.nan, 0, 0]])
    records = judged(logits, [0, 0, 1, 0, 2])
    assert confusions(records) == ((0, 0, 1), (0, 1, 1), (0, 2, 1), (1, 0, 1))
    assert [record.id for record in confident_mistakes(records, 2)] == ["image-003", "image-001"]
    assert len(confident_mistakes(records, 10)) == 3
    equal = [replace(records[2], id=name) for name in "cab"]
    assert [record.id for record in confident_mistakes(equal, 2)] == ["a", "b"]


@given(rows, st.permutations(range(4)), st.integers(1, 4))
def test_neither_order_nor_batches_nor_processes_change_a_score(
    outputs: list[list[float]], order: list[int], processes: int
) -> None:
    logits = torch.tensor(outputs)
    labels = torch.tensor([index % 3 for index in range(len(outputs))])
    ids = tuple(f"{index}" for index in range(len(outputs)))
    item = Labelled(torch.zeros(len(outputs), 1, 2, 2), labels, ids)
    whole = ClassificationMetric(CLASSES)
    whole.update(logits, item)
    pieces = [range(start, len(outputs), 4) for start in order]
    metrics = [ClassificationMetric(CLASSES) for _ in range(processes)]
    for number, piece in enumerate(pieces):
        if len(piece):
            part = Labelled(item.image[piece], labels[piece], tuple(ids[index] for index in piece))
            metrics[number % processes].update(logits[piece], part)
    together = ClassificationMetric(CLASSES)
    for metric in metrics:
        together.merge(metric.records)
    together.merge(metrics[0].records)
    assert together.records == whole.records
    assert repr(together.compute()) == repr(whole.compute())


@pytest.mark.parametrize("classes", [(), ("one",), ("a", "a"), "ab"])
def test_a_metric_needs_two_different_classes(classes: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="list of different names, at least two"):
        ClassificationMetric(classes)
