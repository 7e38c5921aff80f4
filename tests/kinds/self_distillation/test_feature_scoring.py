"""Scores of features as comparisons ask for them: the metric's own numbers, with intervals over the queries."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_features import fed, made, names

from fewpairs.errors import InputError
from fewpairs.kinds.self_distillation.features import FeatureRecord, NeighbourMetric
from fewpairs.kinds.self_distillation.scoring import FeatureScoring

SCORING = FeatureScoring(neighbours=7)


def evaluated(noise: float = 2.0, classes: int = 8, seed: int = 1) -> NeighbourMetric:
    bank, query = made(60, classes, noise=noise), made(50, classes, noise=noise, seed=seed)
    return fed(NeighbourMetric(names(classes), neighbours=7), bank, query, size=20)


def test_the_same_scores_from_features_and_from_the_file(tmp_path: Path) -> None:
    metric = evaluated()
    expected = {name: value for name, value in metric.compute().items() if name != "spread"}
    assert 0.1 < expected["knn_top1"] < expected["knn_top5"]
    assert SCORING.scores(metric.records) == pytest.approx(expected)
    SCORING.save(metric.records, tmp_path / "records.jsonl")
    stored = SCORING.load(tmp_path / "records.jsonl")
    assert SCORING.scores(stored) == pytest.approx(expected)
    assert SCORING.count(stored) == SCORING.count(metric.records) == 50
    assert (tmp_path / "records.jsonl").stat().st_size < 20_000


def test_intervals_hold_the_score() -> None:
    runs = [evaluated(seed=1).records]
    intervals = SCORING.intervals(runs, samples=200)
    assert intervals.keys() == SCORING.scores(runs[0]).keys()
    one = intervals["knn_top1"]
    assert one.low is not None
    assert one.high is not None
    assert one.low < SCORING.scores(runs[0])["knn_top1"] < one.high


def test_better_features_are_found_better() -> None:
    noisy, clear = evaluated(noise=3.0), evaluated(noise=0.3)
    told = SCORING.paired([noisy.records], [clear.records], metric="knn_top1", margin=0.01, samples=200)
    assert told.metric == "knn_top1"
    difference = SCORING.scores(clear.records)["knn_top1"] - SCORING.scores(noisy.records)["knn_top1"]
    assert told.value == pytest.approx(difference)
    assert told.low is not None
    assert told.low > 0


def test_which_scores_there_are() -> None:
    SCORING.check("knn_top1", names(3))
    SCORING.check("knn_top5", names(8))
    assert SCORING.higher_is_better("knn_top1") is True
    assert SCORING.higher_is_better("dice") is None
    for name, classes in (("top1", 8), ("spread", 8), ("knn_top5", 3)):
        with pytest.raises(InputError, match=f"unknown score '{name}'"):
            SCORING.check(name, names(classes))
    with pytest.raises(InputError, match="unknown score 'dice'"):
        SCORING.paired([evaluated().records], [evaluated().records], metric="dice", margin=0.0, samples=50)
    assert "7 training images" in SCORING.rule


def test_without_a_bank_there_is_nothing_to_score() -> None:
    alone: list[FeatureRecord] = [record for record in evaluated().records if record.part == "query"]
    with pytest.raises(InputError, match="nothing to score"):
        SCORING.scores(alone)
