"""Scores of label maps: a matrix counted by hand, ignored pixels, batches, intervals, paired differences, files."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.semantic.record import SemanticRecord, semantic_record
from fewpairs.kinds.semantic.scores import semantic_scores
from fewpairs.kinds.semantic.scoring import SemanticMetric, SemanticScoring
from fewpairs.scoring.records import merge_records
from fewpairs.types import IGNORE, Scene

CLASSES = ("sky", "sea", "sand")


def record(prediction, label, name="a", case=None):
    return semantic_record(
        torch.tensor(prediction, dtype=torch.uint8),
        torch.tensor(label, dtype=torch.uint8),
        id=name,
        case=case or name,
        classes=CLASSES,
    )


def made(seed, count=6, right=0.8):
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = np.random.default_rng([9, number]).choice([0, 1, 2, IGNORE], (8, 9))
        wrong = generator.random((8, 9)) > right
        guess = np.where(wrong | (label == IGNORE), generator.integers(0, 3, (8, 9)), label)
        found.append(record(guess.tolist(), label.tolist(), f"image-{number}"))
    return found


def test_a_confusion_matrix_counted_by_hand():
    """Two images; rows are the truth:

        sky   5 1 0        IoU sky  = 5 / (6 + 6 - 5) = 5/7      accuracy 5/6
        sea   1 2 0        IoU sea  = 2 / (3 + 3 - 2) = 1/2      accuracy 2/3
        sand  0 0 0        IoU sand = not defined                not defined
    """  # fmt: skip
    first = record([[0, 0, 0], [0, 1, 2]], [[0, 0, 0], [0, 1, IGNORE]])
    second = record([[0, 1, 0], [1, 2, 2]], [[0, 0, 1], [1, IGNORE, IGNORE]], "b")
    assert first.pairs == ((0, 0, 4), (1, 1, 1))
    assert second.pairs == ((0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1))
    scores = semantic_scores([first, second])
    assert scores["iou/sky"] == pytest.approx(5 / 7)
    assert scores["iou/sea"] == pytest.approx(2 / 4)
    assert math.isnan(scores["iou/sand"])
    assert scores["miou"] == pytest.approx((5 / 7 + 1 / 2) / 2)
    assert scores["macc"] == pytest.approx((5 / 6 + 2 / 3) / 2)
    assert scores["aacc"] == pytest.approx(7 / 9)
    assert SemanticScoring().confusions([first, second]) == ((0, 0, 5), (0, 1, 1), (1, 0, 1), (1, 1, 2))


def test_a_class_that_is_only_predicted_counts_as_0():
    scores = semantic_scores([record([[0, 2]], [[0, 0]])])
    assert scores["iou/sand"] == 0
    assert math.isnan(scores["acc/sand"])
    assert scores["miou"] == pytest.approx((1 / 2 + 0) / 2)


def test_outputs_that_are_not_finite_are_missed_pixels_and_no_other_class():
    found = record([[0, IGNORE]], [[0, 0]])
    assert found.pairs == ((0, 0, 1), (0, 3, 1))
    scores = semantic_scores([found])
    assert (scores["iou/sky"], scores["aacc"]) == (0.5, 0.5)
    assert SemanticScoring().confusions([found]) == ((0, 0, 1),)


def test_an_image_without_scored_pixels_changes_nothing():
    empty = record([[0, 1]], [[IGNORE, IGNORE]], "z")
    assert empty.pairs == ()
    alone = semantic_scores([empty])
    assert all(math.isnan(value) for value in alone.values())
    some = made(1)
    assert semantic_scores([*some, empty]) == pytest.approx(semantic_scores(some), nan_ok=True)


@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_order_and_division_change_no_bit(seed, order):
    records = made(seed, 5)
    whole = semantic_scores(records)
    metric = SemanticMetric(CLASSES)
    for number in order:
        metric.merge([records[number]])
    metric.merge(records[:2])
    assert metric.records == records
    assert metric.compute() == whole


@given(st.integers(0, 10_000))
def test_scores_are_those_of_one_matrix_of_all_pixels(seed):
    generator = np.random.default_rng(seed)
    label = generator.choice([0, 1, 2, IGNORE], (3, 5, 4))
    guess = generator.integers(0, 3, (3, 5, 4))
    matrix = np.zeros((3, 3))
    np.add.at(matrix, (label[label != IGNORE], guess[label != IGNORE]), 1)
    scores = semantic_scores(
        record(g.tolist(), t.tolist(), str(i)) for i, (g, t) in enumerate(zip(guess, label, strict=True))
    )
    for index, name in enumerate(CLASSES):
        union = matrix[index].sum() + matrix[:, index].sum() - matrix[index, index]
        expected = matrix[index, index] / union if union else math.nan
        assert scores[f"iou/{name}"] == pytest.approx(expected, nan_ok=True)


def test_the_metric_takes_one_image_at_a_time():
    metric = SemanticMetric(CLASSES)
    item = Scene("x", "x", torch.zeros(1, 3, 4, 4), torch.tensor([[0, 1]], dtype=torch.uint8))
    metric.update(torch.tensor([[[0, 1]]]), item)
    assert metric.compute()["miou"] == 1.0
    with pytest.raises(InputError, match=r"expected one label map \[1 H W\]"):
        metric.update(torch.tensor([[0, 1]]), item)
    with pytest.raises(InputError, match="predicted labels"):
        metric.update(torch.zeros(1, 2, 2), item)
    with pytest.raises(InputError, match="a predicted label is 7, but the 3 classes"):
        metric.update(torch.tensor([[[0, 7]]]), item)
    with pytest.raises(InputError, match="evaluated twice"):
        metric.merge([record([[1, 1]], [[0, 1]], "x")])
    with pytest.raises(InputError, match="'b' has the classes p, q but image 'a' has sky"):
        merge_records([record([[0]], [[0]]), SemanticRecord("b", "b", (), ("p", "q"))])


def test_nothing_to_score_and_bad_classes_are_refused():
    with pytest.raises(InputError, match="nothing to score"):
        SemanticMetric(CLASSES).compute()
    with pytest.raises(InputError, match="at least two"):
        SemanticMetric(("one",))


def test_intervals_hold_the_score_of_the_whole_set():
    scoring = SemanticScoring()
    records = made(3, 12)
    found = scoring.intervals([records], samples=300)
    assert found["miou"].value == pytest.approx(scoring.scores(records)["miou"])
    assert found["miou"].low < found["miou"].value < found["miou"].high
    assert found["miou"].over == "images"
    assert found == scoring.intervals([records], samples=300)
    one = scoring.intervals([records[:1]], samples=100)["miou"]
    assert one.low is None
    assert "only one image" in one.reason


def test_intervals_of_patients_are_wider_than_those_of_their_alike_images():
    records = [
        SemanticRecord(f"{case}-{copy}", str(case), one.pairs, CLASSES)
        for case, one in enumerate(made(5, 6))
        for copy in range(5)
    ]
    cases = SemanticScoring("cases").intervals([records], samples=400)["miou"]
    images = SemanticScoring().intervals(
        [[SemanticRecord(r.id, r.id, r.pairs, CLASSES) for r in records]], samples=400
    )["miou"]
    assert cases.high - cases.low > 1.5 * (images.high - images.low)
    assert SemanticScoring("cases").count(records) == 6


def test_differences_are_paired_and_judged():
    scoring = SemanticScoring()
    worse, better = [made(1, 10, 0.7), made(2, 10, 0.7)], [made(3, 10, 0.9), made(4, 10, 0.9)]
    said = scoring.paired(worse, better, metric="miou", margin=0.02, samples=300)
    assert said.reading == "superior"
    assert said.value == pytest.approx(
        np.mean([scoring.scores(r)["miou"] for r in better]) - np.mean([scoring.scores(r)["miou"] for r in worse])
    )
    assert scoring.paired(better, worse, metric="miou", margin=0.02, samples=300).reading == "inferior"
    same = scoring.paired(worse, worse, metric="iou/sea", margin=0.02, samples=100, over="images")
    assert (same.value, same.verdict) == (0.0, "no variation")
    with pytest.raises(InputError, match="not evaluated on the images of the baseline: images missing: image-9;"):
        scoring.paired(worse, [made(3, 9)], metric="miou", margin=0.02, samples=100)
    with pytest.raises(InputError, match="did you mean 'miou'"):
        scoring.check("mIoU", CLASSES)
    assert scoring.higher_is_better("iou/sea")
    assert scoring.higher_is_better("dice") is None


def test_records_survive_their_file(tmp_path):
    scoring, file = SemanticScoring(), tmp_path / "records.jsonl"
    records = made(6)
    scoring.save(records, file)
    assert scoring.load(file) == records
    for line, message in (
        ('{"id": "a", "case": "a"}', "wrong fields: pairs"),
        ('{"id": "a", "case": "a", "pairs": [[0, 4, 1]]}', "wrong type or size"),
        ('{"id": "a", "case": "a", "pairs": [[0, 1, 0]]}', "wrong type or size"),
        ('{"id": "a", "case": 3, "pairs": []}', "wrong type or size"),
    ):
        file.write_text('{"classes": ["sky", "sea", "sand"]}\n' + line + "\n")
        with pytest.raises(DataError, match=rf"records\.jsonl, line 2.*{message}"):
            scoring.load(file)
