"""Numbers of attention against their definitions, computed another way."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.inspection.measures import (
    QUANTILES,
    dropped_mass,
    entropy,
    joint_norm,
    mean_distance,
    summary,
    token_similarity,
    truncate,
    update_ratio,
)
from fewpairs.ops.knn import kept


def rows(seed: int, n: int, m: int, sharpness: float) -> torch.Tensor:
    scores = sharpness * torch.randn(n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return scores.softmax(-1)


SIZES = {
    "seed": st.integers(0, 1000),
    "n": st.integers(1, 7),
    "m": st.integers(1, 20),
    "sharpness": st.floats(0, 30),
    "share": st.floats(0.01, 1),
}


@given(**SIZES)
def test_dropped_mass_is_what_the_kept_weights_lack(seed: int, n: int, m: int, sharpness: float, share: float) -> None:
    weights = rows(seed, n, m, sharpness)
    keeping = kept(weights, max(1, int(share * m)))
    lacking = 1 - (weights * keeping).sum(-1)
    torch.testing.assert_close(dropped_mass(weights, keeping), lacking, rtol=0, atol=1e-12)


@given(**SIZES)
def test_dropped_mass_is_total_variation_and_its_logarithm_relative_entropy(
    seed: int, n: int, m: int, sharpness: float, share: float
) -> None:
    weights = rows(seed, n, m, sharpness)
    keeping = kept(weights, max(1, int(share * m)))
    after, tau = truncate(weights, keeping), dropped_mass(weights, keeping)
    torch.testing.assert_close((after - weights).abs().sum(-1) / 2, tau, rtol=0, atol=1e-12)
    relative = torch.where(after > 0, after * (after / weights).log(), 0.0).sum(-1)
    torch.testing.assert_close(relative, -torch.log1p(-tau), rtol=1e-9, atol=1e-12)


@given(**SIZES)
def test_entropies_are_bounded_by_the_keys_that_there_are(
    seed: int, n: int, m: int, sharpness: float, share: float
) -> None:
    weights, k = rows(seed, n, m, sharpness), max(1, int(share * m))
    before, after = entropy(weights), entropy(truncate(weights, kept(weights, k)))
    assert (before >= 0).all()
    assert (before <= math.log(m) + 1e-12).all()
    assert (after >= 0).all()
    assert (after <= math.log(k) + 1e-12).all()


def test_a_small_dropped_mass_does_not_round_away() -> None:
    weights = torch.tensor([[1.0, 1e-12]])
    assert dropped_mass(weights, torch.tensor([[True, False]])).item() == pytest.approx(1e-12)


def test_entropy_of_equal_weights_and_of_a_single_one() -> None:
    assert entropy(torch.full((4,), 0.25)).item() == pytest.approx(math.log(4))
    assert entropy(torch.tensor([0.0, 1.0, 0.0])).item() == 0


def test_truncated_weights_sum_to_one() -> None:
    weights = rows(0, 5, 9, 2.0)
    after = truncate(weights, kept(weights, 3))
    torch.testing.assert_close(after.sum(-1), torch.ones(5, dtype=torch.float64))
    assert ((after > 0).sum(-1) == 3).all()


def test_mean_distance_leaves_out_tokens_without_a_place() -> None:
    nowhere = (math.nan, math.nan)
    queries, keys = torch.tensor([nowhere, (0.0, 0.0)]), torch.tensor([nowhere, (3.0, 4.0), (0.0, 1.0)])
    weights = torch.tensor([[0.2, 0.4, 0.4], [0.6, 0.1, 0.3]])
    distance = mean_distance(weights, queries, keys)
    assert math.isnan(distance[0])
    assert distance[1].item() == pytest.approx((0.1 * 5 + 0.3 * 1) / 0.4)


def test_similarity_of_identical_orthogonal_and_opposite_tokens() -> None:
    assert token_similarity(torch.ones(5, 3)) == pytest.approx(1)
    assert token_similarity(torch.eye(4)) == pytest.approx(0)
    assert token_similarity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-1)
    assert math.isnan(token_similarity(torch.ones(1, 3)))


def test_similarity_is_the_mean_over_pairs() -> None:
    tokens = torch.randn(6, 4, dtype=torch.float64)
    pairs = [torch.cosine_similarity(tokens[i], tokens[j], dim=0) for i in range(6) for j in range(6) if i != j]
    assert token_similarity(tokens) == pytest.approx(float(torch.stack(pairs).mean()))


def test_update_ratio_of_a_block_that_adds_half() -> None:
    tokens = torch.randn(5, 3)
    assert update_ratio(tokens, 1.5 * tokens) == pytest.approx(0.5, rel=1e-6)
    tokens[0] = 0
    assert update_ratio(tokens, 1.5 * tokens + 1 * (tokens == 0)) == pytest.approx(0.5, rel=1e-6)
    assert math.isnan(update_ratio(torch.zeros(2, 3), tokens[:2]))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_summary_has_pytorchs_quantiles(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float64)
    found = summary(tensor)
    quantiles = torch.quantile(tensor, torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    shown = [found.low, found.quarter, found.median, found.three_quarters, found.high]
    assert shown == pytest.approx(quantiles, abs=1e-9)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_summary_of_what_is_not_finite_is_nan(values: list[float]) -> None:
    assert math.isnan(summary(torch.tensor(values)).median)


def test_joint_norm_counts_what_took_no_part_as_zeros() -> None:
    assert joint_norm([torch.tensor([3.0]), None, torch.tensor([[4.0]])]) == pytest.approx(5)
    assert joint_norm([None]) == 0
