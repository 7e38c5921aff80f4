"""The rule of k-NN attention: exactly k keys, ties to the lower index, in every dtype and however it is computed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.knn import effective_topk, inside, kept, select, selection
from fewpairs.ops.knn.blocks import blocks

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SCORES = st.sampled_from([-math.inf, -2.0, -0.5, -0.0, 0.0, 0.25, 1.0, 1.0, 3.0])


def by_hand(row: list[float], topk: int) -> list[bool]:
    order = sorted(range(len(row)), key=lambda j: (-row[j], j))[:topk]
    return [j in order and row[j] != -math.inf for j in range(len(row))]


@pytest.fixture(params=["eager", "recorded"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with the look at the numbers that a CPU allows, once as in a graph or on a GPU."""
    if request.param == "recorded":
        monkeypatch.setattr(selection, "_cheap_to_read", lambda _scores: False)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exactly_k_of_a_constant_row_the_first_ones(dtype: torch.dtype) -> None:
    for value in (-1e4, 0.0, 0.1, 3.0):
        for m in (1, 7, 64, 1000):
            for topk in {1, (m + 1) // 2, m}:
                chosen = kept(torch.full((2, 3, m), value, dtype=dtype), topk)
                assert chosen[..., :topk].all()
                assert not chosen[..., topk:].any()


@given(st.data(), st.sampled_from(DTYPES), st.booleans())
def test_the_rule_is_the_one_by_hand(data: st.DataObject, dtype: torch.dtype, recorded: bool) -> None:
    m = data.draw(st.integers(1, 12))
    rows = data.draw(st.lists(st.lists(SCORES, min_size=m, max_size=m), min_size=1, max_size=4))
    topk = data.draw(st.integers(1, m))
    with pytest.MonkeyPatch.context() as patch:
        if recorded:
            patch.setattr(selection, "_cheap_to_read", lambda _scores: False)
        assert kept(torch.tensor(rows, dtype=dtype), topk).tolist() == [by_hand(row, topk) for row in rows]


@given(st.integers(1, 300), st.integers(0, 2**31), st.sampled_from([torch.bfloat16, torch.float16]))
def test_half_precision_keeps_what_its_rounded_scores_say(m: int, seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, m, generator=generator).to(dtype)  # many ties: 8 or 11 bits a number
    topk = int(torch.randint(1, m + 1, (), generator=generator))
    expected = [by_hand(row, topk) for row in scores.double().tolist()]
    assert kept(scores, topk).tolist() == expected
    assert kept(scores.double(), topk).tolist() == expected


@pytest.mark.usefixtures("way")
def test_a_row_with_few_scores_above_minus_infinity_keeps_those() -> None:
    scores = torch.tensor([[-math.inf, 1.0, -math.inf, -5.0], [-math.inf] * 4, [torch.finfo(torch.float32).min] * 4])
    assert kept(scores, 3).tolist() == [[False, True, False, True], [False] * 4, [True, True, True, False]]


@pytest.mark.usefixtures("way")
def test_a_nan_and_plus_infinity_are_always_kept() -> None:
    scores = torch.tensor([[1.0, 2.0, math.nan, 0.0], [1.0, math.inf, 5.0, math.inf], [4.0, 3.0, 2.0, 1.0]])
    chosen = kept(scores, 2)
    assert chosen[0, 2]
    assert chosen[1:].tolist() == [[False, True, False, True], [True, True, False, False]]


def test_a_cut_is_what_it_keeps() -> None:
    scores = torch.tensor([[5.0, 1.0, 3.0, 3.0, 3.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    where, stays = select(scores, 3)
    assert where.threshold.flatten().tolist() == [3.0, 4.0]
    assert where.last.flatten().tolist() == [3, 3]
    assert torch.equal(inside(scores, where), stays)
    assert stays.tolist() == [[True, False, True, True, False, False], [False] * 3 + [True] * 3]


@given(st.integers(1, 1000), st.integers(1, 2000))
def test_a_number_is_clamped_to_the_keys(m: int, topk: int) -> None:
    assert effective_topk(topk, m) == min(topk, m)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_min=True))
def test_a_share_is_rounded_and_at_least_one_key(m: int, share: float) -> None:
    count = effective_topk(share, m)
    assert 1 <= count <= m
    assert abs(count - share * m) <= 0.5 or (count == 1 and share * m < 0.5)


def test_shares_by_hand() -> None:
    wanted = {(0.5, 197): 99, (0.5, 196): 98, (0.5, 49): 25, (1.0, 49): 49, (0.001, 49): 1, (0.25, 50): 13}
    assert {case: effective_topk(*case) for case in wanted} == wanted


@pytest.mark.parametrize(
    ("topk", "message"),
    [
        (0, "topk=0 is out of range; allowed: an int of 1"),
        (-1, "topk=-1 is out of range; allowed: an int of 1"),
        (0.0, "topk=0.0 is out of range; allowed: an int of 1"),
        (-0.5, "topk=-0.5 is out of range; allowed: an int of 1"),
        (1.0001, "topk=1.0001 is out of range; allowed: an int of 1"),
        (math.nan, "topk=nan is out of range; allowed: an int of 1"),
        (math.inf, "topk=inf is out of range; allowed: an int of 1"),
        (-math.inf, "topk=-inf is out of range; allowed: an int of 1"),
        (True, "topk=True is of type bool; allowed"),
        (False, "topk=False is of type bool"),
        (None, "topk=None is of type NoneType"),
        ("3", "topk='3' is of type str"),
        (torch.tensor(3), r"topk=tensor\(3\) is of type Tensor"),
    ],
)
def test_other_numbers_of_keys_are_refused(topk: object, message: str) -> None:
    from fewpairs.ops.knn import check_topk

    with pytest.raises(InputError, match=message):
        check_topk(topk)


@given(*(st.integers(1, 9) for _ in range(4)), st.integers(1, 400))
def test_blocks_cover_every_row_once_within_their_size(b: int, h: int, n: int, m: int, scores: int) -> None:
    seen = torch.zeros(b, h, n, dtype=torch.int32)
    for block in blocks(b, h, n, m, scores):
        part: Tensor = seen[block]
        assert part.numel() * m <= max(scores, m)
        part += 1
    assert (seen == 1).all()
