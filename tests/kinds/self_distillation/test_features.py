"""The vote of nearest neighbours against a count by hand, and what must not change it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.self_distillation import features
from fewpairs.kinds.self_distillation.features import NeighbourMetric, count_votes, true_ranks
from fewpairs.types import Exemplars

Part = tuple[Tensor, Tensor]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"class-{number}" for number in range(count))


def made(count: int, classes: int, width: int = 6, noise: float = 1.0, seed: int = 0) -> Part:
    """Labels, and unit features around a direction for each class."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    label = torch.randint(classes, (count,), generator=generator)
    feature = centres[label] + noise * torch.randn(count, width, generator=generator)
    return label, torch.nn.functional.normalize(feature, dim=-1).half()


def item(part: str, label: Tensor, first: int = 0) -> Exemplars:
    ids = tuple(f"{part}-{first + i}" for i in range(len(label)))
    return Exemplars(torch.zeros(len(label), 1, 2, 2), label, ids, part)  # type: ignore[arg-type]


def fed(metric: NeighbourMetric, bank: Part, query: Part, size: int = 1000) -> NeighbourMetric:
    for part, (label, feature) in (("bank", bank), ("query", query)):
        for start in range(0, len(label), size):
            metric.update(feature[start : start + size], item(part, label[start : start + size], start))
    return metric


def by_hand(bank: Part, query: Part, classes: int, k: int, temperature: float) -> tuple[float, float]:
    """One query at a time, with Python's own sorting and sums."""
    first, fifth = 0, 0
    for label, feature in zip(query[0].tolist(), query[1].double(), strict=True):
        cosines = [(float(feature @ known), c) for known, c in zip(bank[1].double(), bank[0].tolist(), strict=True)]
        votes: dict[int, float] = {}
        for cosine, c in sorted(cosines, reverse=True)[:k]:
            votes[c] = votes.get(c, 0.0) + math.exp(cosine / temperature)
        order = sorted(votes, key=lambda c: (-votes[c], c))
        first += order[0] == label
        fifth += label in order[:5]
    return first / len(query[0]), fifth / len(query[0])


@given(st.integers(2, 12), st.integers(1, 25), st.floats(0.02, 1.0), st.integers(0, 999))
def test_it_counts_as_by_hand(classes: int, neighbours: int, temperature: float, seed: int) -> None:
    bank, query = made(12, classes, seed=seed), made(8, classes, seed=seed + 1)
    scores = fed(NeighbourMetric(names(classes), neighbours=neighbours, temperature=temperature), bank, query).compute()
    top1, top5 = by_hand(bank, query, classes, neighbours, temperature)
    assert scores["knn_top1"] == pytest.approx(top1)
    assert scores.get("knn_top5", top5) == pytest.approx(top5)
    assert ("knn_top5" in scores) == (classes > 5)


def test_similar_images_outvote_many_dissimilar_ones() -> None:
    feature = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.6, 0.8]]).half()
    query = torch.tensor([0]), torch.tensor([[1.0, 0.0]]).half()
    bank = torch.tensor([0, 1, 1, 1]), feature
    assert fed(NeighbourMetric(names(2)), bank, query).compute()["knn_top1"] == 1
    assert fed(NeighbourMetric(names(2), temperature=5.0), bank, query).compute()["knn_top1"] == 0


def test_order_chunks_and_processes_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, query = made(50, 8, noise=2.0), made(40, 8, noise=2.0, seed=1)
    expected = fed(NeighbourMetric(names(8)), bank, query).compute()
    assert 0.1 < expected["knn_top1"] < 1
    assert fed(NeighbourMetric(names(8)), bank, query, size=7).compute() == expected
    monkeypatch.setattr(features, "_PAIRS", 60)
    assert fed(NeighbourMetric(names(8)), bank, query).compute() == expected
    merged = NeighbourMetric(names(8))
    merged.merge(fed(NeighbourMetric(names(8)), bank, query, size=7).records)
    assert merged.compute() == expected


def test_before_both_parts_are_there_scores_are_not_numbers() -> None:
    label, feature = made(6, 3)
    bank_alone, queries_alone = NeighbourMetric(names(3)), NeighbourMetric(names(3))
    bank_alone.update(feature, item("bank", label))
    queries_alone.update(feature, item("query", label))
    for metric in (NeighbourMetric(names(3)), bank_alone):
        scores = metric.compute()
        assert scores.keys() == {"knn_top1", "spread"}
        assert all(map(math.isnan, scores.values()))
    assert math.isnan(queries_alone.compute()["knn_top1"])


def test_spread_tells_a_collapse() -> None:
    label, everywhere = made(400, 2, width=16, noise=50.0)
    point = everywhere[:1].expand(400, -1)
    for feature, expected in ((everywhere, 1.0), (point, 0.0)):
        scores = fed(NeighbourMetric(names(2)), (label, feature), (label, feature)).compute()
        assert scores["spread"] == pytest.approx(expected, abs=0.05)


def test_classes_without_votes_are_not_found() -> None:
    votes = count_votes(torch.tensor([[0.9, 0.2]]), torch.tensor([[2, 2]]), 4, 0.07)
    assert true_ranks(votes.expand(4, -1), torch.arange(4)).tolist() == [4, 4, 1, 4]
    tied = torch.tensor([[1.0, 1.0, 0.5]])
    assert true_ranks(tied.expand(3, -1), torch.arange(3)).tolist() == [1, 2, 3]


def test_queries_are_scored_like_outputs_of_a_classifier() -> None:
    feature = torch.tensor([[1.0, 0.0], [0.6, 0.8]]).half()
    metric = fed(
        NeighbourMetric(names(3), temperature=0.4), (torch.tensor([0, 2]), feature), (torch.tensor([2, 1]), feature)
    )
    first, second = metric.votes()
    weight = math.exp(-0.4 / 0.4)
    assert (first.id, first.label, first.rank, first.predicted) == ("query-0", 2, 2, 0)
    assert first.confidence == pytest.approx(1 / (1 + weight), abs=1e-3)
    assert first.nll == pytest.approx(-math.log(weight / (1 + weight)), abs=2e-3)
    assert (second.rank, second.predicted, second.classes) == (3, 2, names(3))
    metric.update(torch.full((1, 2), math.nan), item("query", torch.tensor([1]), 2))
    lost = metric.votes()[2]
    assert (lost.id, lost.rank, lost.predicted, lost.confidence, lost.nll) == ("query-2", None, None, None, None)
    assert metric.votes()[0] == first


def test_a_tiny_temperature_leaves_the_nearest_alone() -> None:
    bank, query = made(30, 5), made(20, 5, seed=1)
    scores = fed(NeighbourMetric(names(5), temperature=1e-5), bank, query).compute()
    assert scores["knn_top1"] == fed(NeighbourMetric(names(5), neighbours=1), bank, query).compute()["knn_top1"]


def test_mistakes() -> None:
    with pytest.raises(InputError, match="at least two classes"):
        NeighbourMetric(names(1))
    with pytest.raises(InputError, match="neighbours=0"):
        NeighbourMetric(names(3), neighbours=0)
    with pytest.raises(InputError, match="temperature=-1"):
        NeighbourMetric(names(3), temperature=-1)
    label, feature = made(4, 3)
    with pytest.raises(InputError, match=r"\[4 c\] of the item's images, got \[3, 6\]"):
        NeighbourMetric(names(3)).update(feature[:3], item("bank", label))
    with pytest.raises(InputError, match="image bank-2 has the label 7"):
        NeighbourMetric(names(3)).update(feature, item("bank", torch.tensor([0, 1, 7, 2])))
