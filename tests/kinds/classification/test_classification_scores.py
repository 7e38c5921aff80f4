"""Scores of classifications by hand, and their intervals: determinism, coverage, seeds, what may be compared."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.classification.record import ClassificationRecord
from fewpairs.kinds.classification.scores import tabulate
from fewpairs.kinds.classification.scoring import ClassificationScoring
from fewpairs.scoring.bootstrap import _CELLS, _draws, _pool
from fewpairs.scoring.interval import Interval, PairedDifference
from fewpairs.scoring.score_table import CLASSIFICATION_SCORES, find_score

SEVEN = tuple("abcdefg")
TWO = ("cat", "dog")


def image_scores(records: list[ClassificationRecord]) -> dict[str, float]:
    return ClassificationScoring().scores(records)


def image_intervals(runs: Any, **options: Any) -> dict[str, Interval]:
    return ClassificationScoring().intervals(runs, **options)


def image_paired(baseline: Any, candidate: Any, *, metric: str = "top1", **options: Any) -> PairedDifference:
    return ClassificationScoring().paired(baseline, candidate, metric=metric, **options)


def image(
    number: int, label: int, rank: int | None, classes: tuple[str, ...] = SEVEN, nll: float = 1.0
) -> ClassificationRecord:
    if rank is None:
        return ClassificationRecord(f"{number:05d}", label, None, None, None, None, classes)
    predicted = label if rank == 1 else (label + 1) % len(classes)
    return ClassificationRecord(f"{number:05d}", label, rank, predicted, 0.5, nll, classes)


def model(
    rights: np.ndarray, labels: np.ndarray | None = None, classes: tuple[str, ...] = TWO
) -> list[ClassificationRecord]:
    """A run that is right on the images where `rights` holds."""
    labels = np.arange(len(rights)) % len(classes) if labels is None else labels
    pairs = enumerate(zip(rights, labels, strict=True))
    return [image(number, int(label), 1 if right else 2, classes) for number, (right, label) in pairs]


def test_scores_by_hand() -> None:
    ranks = [(0, 1), (0, 1), (0, 3), (0, 6), (1, 1), (1, 7), (3, 5)]
    records = [image(number, label, rank, nll=float(number)) for number, (label, rank) in enumerate(ranks)]
    scores = image_scores(records)
    assert list(scores) == ["top1", "top5", "balanced_accuracy", "nll", *(f"recall/{name}" for name in SEVEN)]
    assert scores["top1"] == 3 / 7
    assert scores["top5"] == 5 / 7
    assert scores["nll"] == 3.0
    assert [scores[f"recall/{name}"] for name in "abd"] == [0.5, 0.5, 0.0]
    assert scores["balanced_accuracy"] == pytest.approx(1 / 3)
    assert math.isnan(scores["recall/c"])


def test_top5_needs_more_than_five_classes() -> None:
    assert "top5" not in image_scores([image(0, 1, 2, SEVEN[:5])])
    assert "top5" in image_scores([image(0, 1, 2, SEVEN[:6])])


def test_outputs_that_are_not_finite_count_as_wrong_and_are_said() -> None:
    records = [image(0, 0, 1), image(1, 0, None), image(2, 1, None), image(3, 1, 1)]
    scores = image_scores(records)
    assert (scores["top1"], scores["top5"], scores["recall/a"], scores["not_finite"]) == (0.5, 0.5, 0.5, 0.5)
    assert math.isnan(scores["nll"])
    found = image_intervals(records, samples=100)["nll"]
    assert found == Interval(
        None, None, None, 0.95, "the outputs for 2 images are not finite, so it is not defined", "images"
    )
    assert "not_finite" not in image_scores(records[:1])


def test_nothing_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="no image was evaluated"):
        image_scores([])


def test_every_score_is_described_and_found() -> None:
    names = image_scores([image(0, 0, None)])
    assert {name.partition("/")[0] for name in names} == set(CLASSIFICATION_SCORES)
    for name in names:
        assert find_score(name, SEVEN, CLASSIFICATION_SCORES).meaning
    for name, hint in (
        ("top2", "did you mean 'top"),
        ("recall", "recall/a"),
        ("top1/a", "unknown score"),
        ("dice", "unknown score"),
    ):
        with pytest.raises(InputError, match=hint):
            find_score(name, SEVEN, CLASSIFICATION_SCORES)
    with pytest.raises(InputError, match="unknown score 'top5'; did you mean 'top1'"):
        find_score("top5", TWO, CLASSIFICATION_SCORES)
    with pytest.raises(InputError, match=r"known: .*recall/<class>$"):
        find_score("recall/x", [str(number) for number in range(1000)], CLASSIFICATION_SCORES)


@given(st.integers(0, 2**31), st.integers(1, 3))
def test_the_same_seed_gives_the_same_intervals(seed: int, runs: int) -> None:
    generator = np.random.default_rng(seed)
    records = [model(generator.random(30) < 0.7) for _ in range(runs)]
    first = image_intervals(records, samples=100, seed=seed)
    assert first == image_intervals([run[::-1] for run in records], samples=100, seed=seed)
    for name, found in first.items():
        assert found.value == pytest.approx(np.mean([image_scores(run)[name] for run in records]))
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.high


def test_another_seed_gives_other_intervals() -> None:
    run = model(np.random.default_rng(0).random(200) < 0.7)
    first, second = (image_intervals(run, seed=seed)["nll"] for seed in (0, 1))
    assert first.low == second.low == 1.0
    first, second = (image_intervals(run, samples=200, seed=seed)["balanced_accuracy"] for seed in (0, 1))
    assert first.low != second.low


def test_blocks_of_resamples_are_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    run = model(np.random.default_rng(0).random(50) < 0.7)
    whole = image_intervals([run, run], samples=300)
    monkeypatch.setattr("fewpairs.scoring.bootstrap._CELLS", 50 * 7)
    assert image_intervals([run, run], samples=300) == whole
    assert _CELLS * 8 < 2**26


@given(st.integers(0, 2**31), st.integers(1, 3), st.sampled_from(["top1", "balanced_accuracy", "nll", "recall/cat"]))
def test_images_that_are_alike_are_counted_and_no_score_is_lost(seed: int, runs: int, name: str) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 40)
    tables = [tabulate(model(generator.random(40) < 0.6, labels)) for _ in range(runs)]
    counts, pooled = _pool([tables], [name])
    assert counts is not None
    assert counts.sum() == 40
    assert len(counts) <= 2 * 2**runs
    for table, few in zip(tables, pooled[0], strict=True):
        (whole,), (counted,) = (
            table.scores(np.ones((1, 40)), [name])[name],
            few.scores(counts[None] * 1.0, [name])[name],
        )
        assert counted == pytest.approx(whole, nan_ok=True)
    for weights, _ in _draws(pooled, counts, 100, seed):
        assert (weights.sum(axis=1) == 40).all()


@pytest.mark.parametrize("few", [1, 10**9], ids=["kinds at once", "image by image"])
def test_both_ways_of_drawing_are_the_same_bootstrap(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewpairs.scoring.bootstrap._FEW", few)
    found = image_intervals(model(np.arange(400) < 300), samples=4000)["top1"]
    assert found.low == pytest.approx(0.75 - 1.96 * math.sqrt(0.75 * 0.25 / 400), abs=0.004)
    assert found.high == pytest.approx(0.75 + 1.96 * math.sqrt(0.75 * 0.25 / 400), abs=0.004)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(200):
        found = image_intervals(model(generator.random(100) < 0.8), samples=200)["top1"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.8 <= found.high
    assert 0.90 <= covered / 200 <= 0.98


def test_the_interval_over_images_is_the_binomial_one() -> None:
    found = image_intervals(model(np.arange(1000) < 900), samples=4000)["top1"]
    assert found.value == 0.9
    assert found.low == pytest.approx(0.9 - 1.96 * math.sqrt(0.09 / 1000), abs=0.002)
    assert found.high == pytest.approx(0.9 + 1.96 * math.sqrt(0.09 / 1000), abs=0.002)


def test_a_class_with_one_image_has_no_interval() -> None:
    records = model(np.ones(9, dtype=bool), np.array([0, 1, 1, 1, 1, 1, 1, 1, 1]))
    found = image_intervals(records, samples=100)
    assert found["recall/cat"].value == 1.0
    assert found["recall/cat"].low is None
    assert "only one image" in str(found["recall/cat"].reason)
    assert (found["recall/dog"].low, found["recall/dog"].high) == (1.0, 1.0)
    absent = image_intervals(model(np.ones(9, dtype=bool), np.ones(9, dtype=int)), samples=100)["recall/cat"]
    assert (absent.value, absent.reason) == (None, "no image defines this score")
    json.dumps(absent.to_dict(), allow_nan=False)


def test_seeds_are_drawn_where_there_are_several() -> None:
    generator = np.random.default_rng(1)
    runs = [model(generator.random(400) < share) for share in (0.7, 0.8, 0.9)]
    both, images = image_intervals(runs)["top1"], image_intervals(runs, over="images")["top1"]
    assert (both.over, images.over) == ("images and seeds", "images")
    assert both.value == images.value
    assert both.low < images.low < images.high < both.high  # type: ignore[operator]
    alone = image_intervals(runs[:1])["top1"]
    assert alone == image_intervals(runs[0], over="images")["top1"]
    with pytest.raises(InputError, match="the evaluation has a single training seed"):
        image_intervals(runs[0], over="images and seeds")
    with pytest.raises(InputError, match="over='cases'"):
        image_intervals(runs, over="cases")


def test_equal_seeds_add_nothing() -> None:
    run = model(np.random.default_rng(2).random(100) < 0.8)
    both, images = image_intervals([run] * 3)["top1"], image_intervals(run)["top1"]
    assert (both.low, both.high) == pytest.approx((images.low, images.high))


def noisy(
    generator: np.random.Generator, seeds: int, spread: float, images: int = 200
) -> list[list[ClassificationRecord]]:
    """Trainings whose accuracy differs by chance of the seed, with standard deviation `spread` around 0.7."""
    return [model(generator.random(images) < 0.7 + spread * generator.normal()) for _ in range(seeds)]


@pytest.mark.parametrize(
    ("spread", "least", "most"),
    [(0.0, 0.95, 1.0), (0.1, 0.70, 0.95)],
    ids=["chance on single images", "trainings that differ as a whole"],
)
def test_what_three_seeds_can_cover(spread: float, least: float, most: float) -> None:
    """Two models of equal expectation, three seeds each: how often the interval of their difference holds 0."""
    generator, covered, narrower = np.random.default_rng(3), 0, 0
    for _ in range(80):
        found = image_paired(noisy(generator, 3, spread), noisy(generator, 3, spread), margin=0.02, samples=100)
        covered += found.low <= 0 <= found.high  # type: ignore[operator]
        narrower += found.runs_low <= 0 <= found.runs_high  # type: ignore[operator]
    assert least <= covered / 80 <= most
    if spread:
        assert narrower / 80 < covered / 80 - 0.2


@pytest.mark.parametrize(
    ("shift", "margin", "said"),
    [(0.1, 0.02, "superior"), (-0.1, 0.02, "inferior"), (0.0, 0.03, "non-inferior"), (-0.01, 0.01, "inconclusive")],
)
def test_verdicts(shift: float, margin: float, said: str) -> None:
    draws = np.random.default_rng(4).random(2000)
    difference = image_paired(model(draws < 0.8), model(draws < 0.8 + shift), margin=margin)
    assert difference.reading == said, difference
    assert (difference.cases, difference.metric, difference.over) == (2000, "top1", "images")
    assert PairedDifference(**json.loads(json.dumps(difference.to_dict(), allow_nan=False))) == difference


def test_less_is_better_for_log_loss() -> None:
    generator = np.random.default_rng(5)
    before = [image(number, 0, 1, TWO, nll=float(value)) for number, value in enumerate(generator.random(100))]
    after = [replace(record, nll=record.nll + 0.1) for record in before]  # type: ignore[operator]
    assert image_paired(before, after, metric="nll", margin=0.05).reading == "inferior"
    assert image_paired(after, before, metric="nll", margin=0.05).reading == "superior"


def test_pairing_cancels_what_is_hard_for_both() -> None:
    hard = np.random.default_rng(6).random(500)
    before, after = model(hard < 0.7), model((hard < 0.7) | (hard > 0.98))
    difference, alone = image_paired(before, after, margin=0.01), image_intervals(before)["top1"]
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)  # type: ignore[operator]
    assert difference.reading == "superior"


def test_sides_may_have_different_numbers_of_seeds() -> None:
    generator = np.random.default_rng(7)
    old, new = noisy(generator, 2, 0.0), noisy(generator, 3, 0.0)
    found = image_paired(old, new, margin=0.01)
    means = [np.mean([image_scores(run)["top1"] for run in side]) for side in (old, new)]
    assert found.value == pytest.approx(means[1] - means[0])
    assert found.over == "images and seeds"
    assert found.low < found.runs_low < found.runs_high < found.high  # type: ignore[operator]
    fixed = image_paired(old, new, margin=0.01, over="images")
    assert (fixed.low, fixed.high, fixed.runs_low) == (found.runs_low, found.runs_high, None)
    assert image_paired(old, new[0], margin=0.01).over == "images"


@pytest.mark.parametrize("metric", ["balanced_accuracy", "recall/dog"])
def test_scores_by_class_are_compared_too(metric: str) -> None:
    draws = np.random.default_rng(8).random(300)
    labels = (np.arange(300) % 3 == 0).astype(int)
    before, after = model(draws < 0.5, labels), model(draws < 0.9, labels)
    found = image_paired(before, after, metric=metric, margin=0.01)
    assert found.value == pytest.approx(image_scores(after)[metric] - image_scores(before)[metric])
    assert found.reading == "superior"


def test_what_does_not_belong_together_is_named() -> None:
    run = model(np.ones(12, dtype=bool))
    with pytest.raises(InputError, match=r"the candidate was not evaluated.*images missing: 00000, 00001;"):
        image_paired(run, run[2:], margin=0.01)
    with pytest.raises(InputError, match=r"the candidate \(run 2\).*images only there: 00099"):
        image_paired(run, [run, [*run, image(99, 0, 1, TWO)]], margin=0.01)
    other = [replace(record, label=1 - record.label) for record in run]
    with pytest.raises(InputError, match=r"another truth than the baseline for the images 00000, .* \.\.\."):
        image_paired(run, other, margin=0.01)
    renamed = [replace(record, classes=("dog", "cat")) for record in run]
    with pytest.raises(InputError, match="has the classes dog, cat, the baseline cat, dog"):
        image_paired(run, renamed, margin=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -0.1}, "margin must be a number of at least 0"),
        ({"samples": 10}, "samples must be at least 100"),
        ({"level": 95}, "level must lie between 0 and 1"),
        ({"metric": "top5"}, "did you mean 'top1'"),
        ({"candidate": []}, "candidate has no records"),
        ({"candidate": [[]]}, "candidate has no records"),
    ],
)
def test_wrong_calls_are_refused(arguments: dict[str, object], message: str) -> None:
    run = model(np.ones(5, dtype=bool))
    good: dict[str, object] = {"baseline": run, "candidate": run, "margin": 0.01}
    with pytest.raises(InputError, match=message):
        image_paired(**(good | arguments))  # type: ignore[arg-type]


def test_a_comparison_finds_all_it_asks_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    scoring, run = ClassificationScoring(), model(np.arange(40) % 4 > 0)
    path = tmp_path_factory.mktemp("scoring") / "records.jsonl"
    scoring.save(run, path)
    assert scoring.load(path) == run
    assert scoring.count(run) == 40
    assert scoring.scores(run)["top1"] == 0.75
    assert scoring.higher_is_better("recall/cat")
    assert scoring.higher_is_better("nll") is False
    assert scoring.higher_is_better("dice") is None
    scoring.check(scoring.headline, TWO)
    assert set(scoring.compared) <= set(scoring.intervals([run], samples=100))
    assert scoring.paired([run], [run], metric="top1", margin=0.0, samples=100).value == 0.0
