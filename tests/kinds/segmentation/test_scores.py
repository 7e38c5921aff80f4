"""Scores against torchmetrics, by hand, and for every rule about empty masks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional.classification import binary_jaccard_index, multiclass_jaccard_index
from torchmetrics.functional.segmentation import dice_score

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.record import SegmentationRecord, segmentation_record
from fewpairs.kinds.segmentation.scores import scores_by_case, segmentation_scores
from fewpairs.scoring.score_table import SEGMENTATION_SCORES, find_score

MakeRecord = Callable[..., SegmentationRecord]
UNIT = (1.0, 1.0, 1.0)
labels = arrays(np.int64, (3, 5, 4), elements=st.integers(0, 3))


def one_hot(label: np.ndarray) -> np.ndarray:
    return np.stack([label == j for j in (1, 2, 3)], axis=1)


def pooled(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of label maps, with each slice a scan of its own, so that pooling has something to do."""
    records = [
        segmentation_record(one_hot(p[None]), one_hot(t[None]), UNIT, scan=str(i), case=str(i), surface=False)
        for i, (p, t) in enumerate(zip(prediction, truth, strict=True))
    ]
    return segmentation_scores(records)


@given(labels, labels)
def test_exclusive_classes_score_as_in_torchmetrics(prediction: np.ndarray, truth: np.ndarray) -> None:
    scores = pooled(prediction, truth)
    p, t = torch.from_numpy(prediction), torch.from_numpy(truth)
    each = multiclass_jaccard_index(p, t, num_classes=4, average="none")
    macro = multiclass_jaccard_index(p, t, num_classes=4, average="macro")
    weighted = multiclass_jaccard_index(p, t, num_classes=4, average="weighted")
    assert scores["jaccard_with_background"] == pytest.approx(macro.item(), abs=1e-5)
    assert scores["jaccard_weighted_with_background"] == pytest.approx(weighted.item(), abs=1e-5)
    present = [j for j in (1, 2, 3) if ((prediction == j) | (truth == j)).any()]
    for j in (1, 2, 3):
        if j in present:
            assert scores[f"jaccard/{j - 1}"] == pytest.approx(each[j].item(), abs=1e-5)
        else:
            assert math.isnan(scores[f"jaccard/{j - 1}"])
    if present:
        assert scores["jaccard"] == pytest.approx(each[present].mean().item(), abs=1e-5)
    pixels = np.array([(truth == j).sum() for j in (1, 2, 3)])
    if pixels.any():
        expected = (each[1:].numpy() * pixels).sum() / pixels.sum()
        assert scores["jaccard_weighted"] == pytest.approx(expected, abs=1e-5)


@given(arrays(bool, (3, 2, 5, 4)), arrays(bool, (3, 2, 5, 4)))
def test_overlapping_classes_are_binary_questions_each(prediction: np.ndarray, truth: np.ndarray) -> None:
    scores = segmentation_scores([segmentation_record(prediction, truth, UNIT, scan="s", case="c", surface=False)])
    for j in range(2):
        p, t = torch.from_numpy(prediction[:, j]), torch.from_numpy(truth[:, j])
        if not (p | t).any():
            continue
        assert scores[f"jaccard/{j}"] == pytest.approx(binary_jaccard_index(p.int(), t.int()).item(), abs=1e-5)
        dice = dice_score(p.int().reshape(1, 1, -1), t.int().reshape(1, 1, -1), num_classes=1, input_format="one-hot")
        assert scores[f"dice/{j}"] == pytest.approx(dice.item(), abs=1e-5)
    p, t = torch.from_numpy(~prediction.any(axis=1)), torch.from_numpy(~truth.any(axis=1))
    background = binary_jaccard_index(p.int(), t.int()).item() if (p | t).any() else math.nan
    defined = [x for x in (scores["jaccard/0"], scores["jaccard/1"], background) if not math.isnan(x)]
    if defined:
        assert scores["jaccard_with_background"] == pytest.approx(np.mean(defined), abs=1e-5)


@given(labels, labels)
def test_dice_follows_from_jaccard(prediction: np.ndarray, truth: np.ndarray) -> None:
    scores = pooled(prediction, truth)
    for j in range(3):
        jaccard = scores[f"jaccard/{j}"]
        assert scores[f"dice/{j}"] == pytest.approx(2 * jaccard / (1 + jaccard), nan_ok=True)


@given(st.permutations(range(8)))
def test_the_order_of_scans_changes_no_bit(record: MakeRecord, order: list[int]) -> None:
    records = [record(seed, case=f"case{seed % 3}", surface=True) for seed in range(8)]
    assert segmentation_scores([records[i] for i in order]) == segmentation_scores(records)


def test_pooling_two_scans_is_scoring_their_union() -> None:
    generator = np.random.default_rng(1)
    truth, prediction = generator.random((2, 6, 2, 5, 4)) < 0.4
    parts = [
        segmentation_record(prediction[i : i + 2], truth[i : i + 2], UNIT, scan=str(i), case=str(i), surface=False)
        for i in (0, 2, 4)
    ]
    whole = segmentation_record(prediction, truth, UNIT, scan="all", case="all", surface=False)
    expected = segmentation_scores([whole])
    scores = segmentation_scores(parts)
    for name in scores:
        if not name.startswith("dice_per_scan"):
            assert scores[name] == expected[name]


def test_scores_by_case_are_those_of_the_case_alone(record: MakeRecord) -> None:
    records = [record(seed, case=f"case{seed % 3}", surface=True) for seed in range(7)]
    by_case = scores_by_case(records)
    assert list(by_case) == ["case0", "case1", "case2"]
    for case, scores in by_case.items():
        assert scores == pytest.approx(segmentation_scores([r for r in records if r.case == case]), nan_ok=True)


def test_a_better_prediction_scores_better(record: MakeRecord) -> None:
    good, bad = (segmentation_scores([record(s, error=e, surface=True) for s in range(5)]) for e in (0.02, 0.4))
    for name in good:
        assert (good[name] > bad[name]) == find_score(name, ("stomach", "bowel")).higher_is_better, name


def test_every_named_score_is_computed(record: MakeRecord) -> None:
    scores = segmentation_scores([record(0, surface=True)])
    expected = set(SEGMENTATION_SCORES) | {
        f"{name}/{label}"
        for name, score in SEGMENTATION_SCORES.items()
        if score.per_class
        for label in ("stomach", "bowel")
    }
    assert set(scores) == expected
    without = segmentation_scores([record(0)])
    assert set(without) == {name for name in expected if not SEGMENTATION_SCORES[name.partition("/")[0]].surface}


class TestEmptyMasks:
    """Two scans of one class; in the first it is present and found, in the second `truth` and `prediction` decide."""

    shape = (4, 1, 6, 8)
    spacing = (3.0, 2.0, 1.0)
    diagonal = math.sqrt(12**2 + 12**2 + 8**2)

    def scores(self, rule: EmptyRule, *, truth: bool, prediction: bool) -> dict[str, float]:
        found = np.zeros(self.shape, dtype=bool)
        found[1:3, :, 2:4, 2:4] = True
        second = [np.zeros(self.shape, dtype=bool) for _ in range(2)]
        for mask, present in zip(second, (truth, prediction), strict=True):
            mask[1:3, :, 2:4, 2:4] = present
        records = [
            segmentation_record(found, found, self.spacing, scan="found", case="a"),
            segmentation_record(second[1], second[0], self.spacing, scan="other", case="b"),
        ]
        return segmentation_scores(records, rule=rule)

    @pytest.mark.parametrize("rule", EmptyRule)
    @pytest.mark.parametrize(("truth", "prediction"), [(True, False), (False, True)])
    def test_a_missed_or_invented_organ_counts_in_full(self, rule: EmptyRule, truth: bool, prediction: bool) -> None:
        scores = self.scores(rule, truth=truth, prediction=prediction)
        assert scores["dice_per_scan"] == 0.5
        assert scores["hd95_mm"] == pytest.approx(self.diagonal / 2)
        assert scores["jaccard"] == 0.5
        assert scores["dice"] == pytest.approx(2 / 3)
        assert scores["kaggle"] == pytest.approx(0.4 * 0.5 + 0.6 * 0.5)

    @pytest.mark.parametrize(
        ("rule", "dice", "distances"), [(EmptyRule.STRICT, 1, 1), (EmptyRule.CREDIT, 2, 2), (EmptyRule.KAGGLE, 1, 2)]
    )
    def test_agreed_absence_counts_as_the_rule_says(self, rule: EmptyRule, dice: int, distances: int) -> None:
        found = np.zeros(self.shape, dtype=bool)
        found[1:3, :, 2:4, 2:4] = True
        missed, empty = np.zeros_like(found), np.zeros_like(found)
        records = [
            segmentation_record(missed, found, self.spacing, scan="missed", case="a"),
            segmentation_record(empty, empty, self.spacing, scan="absent", case="b"),
        ]
        scores = segmentation_scores(records, rule=rule)
        assert scores["dice_per_scan"] == (dice - 1) / dice
        assert scores["hd95_mm"] == pytest.approx(self.diagonal / distances)
        assert scores["jaccard"] == 0.0

    @pytest.mark.parametrize("rule", EmptyRule)
    def test_pooled_scores_do_not_see_agreed_absence(self, rule: EmptyRule) -> None:
        scores = self.scores(rule, truth=False, prediction=False)
        assert (scores["jaccard"], scores["dice"], scores["hd95_mm"]) == (1.0, 1.0, 0.0)

    def test_a_class_that_is_nowhere_is_left_out_of_the_macro_mean(self) -> None:
        truth = np.zeros((1, 2, 4, 4), dtype=bool)
        truth[0, 0, :2] = True
        prediction = truth.copy()
        prediction[0, 0, 0] = False
        scores = segmentation_scores([segmentation_record(prediction, truth, UNIT, scan="s", case="c")])
        assert math.isnan(scores["jaccard/1"])
        assert scores["jaccard"] == 0.5

    def test_a_class_that_is_only_predicted_stays_in_the_macro_mean(self) -> None:
        truth = np.zeros((1, 2, 4, 4), dtype=bool)
        truth[0, 0, :2] = True
        prediction = truth.copy()
        prediction[0, 1, 3, 3] = True
        scores = segmentation_scores([segmentation_record(prediction, truth, UNIT, scan="s", case="c")])
        assert (scores["jaccard/1"], scores["jaccard"], scores["jaccard_weighted"]) == (0.0, 0.5, 1.0)

    def test_missing_more_never_helps(self) -> None:
        """A model that drops a badly drawn organ must not overtake the one that drew it."""
        truth = np.zeros((3, 1, 8, 8), dtype=bool)
        truth[1, 0, 1:4, 1:4] = True
        drawn = np.roll(truth, 3, axis=3)
        for rule in EmptyRule:
            bad = segmentation_scores([segmentation_record(drawn, truth, UNIT, scan="s", case="c")], rule=rule)
            none = segmentation_scores(
                [segmentation_record(np.zeros_like(truth), truth, UNIT, scan="s", case="c")], rule=rule
            )
            assert none["hd95_mm"] > bad["hd95_mm"]
            assert none["kaggle"] < bad["kaggle"]


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(InputError, match="no scan was evaluated"):
        segmentation_scores([])


def test_half_measured_surfaces_are_refused(record: MakeRecord) -> None:
    with pytest.raises(
        InputError, match="'scan1' of case 'case1' was evaluated without surface distances but scan 'scan0'"
    ):
        segmentation_scores([record(0, surface=True), record(1)])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("jacard", "did you mean 'jaccard'"),
        ("dice/stomac", "did you mean 'dice/stomach'"),
        ("kaggle/stomach", "unknown score"),
        ("dice/", "unknown score"),
    ],
)
def test_an_unknown_score_offers_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        find_score(name, ("stomach", "bowel"))
