"""KV+Pos in its fused form equals the literal published form, in value and in every gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewpairs import KVPos
from fewpairs.attention.kv import KVPosMixing, row_channels
from fewpairs.errors import InputError


def literal_encoding(n: int, d_pos: int) -> Tensor:
    """`[n m d_pos]`: a 2-D sinusoid over (row, column) of the attention matrix, written loop by loop."""
    channels = 2 * math.ceil(d_pos / 4)
    table = torch.zeros(n, n, 2 * channels, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            for c in range(0, channels, 2):
                rate = 10000 ** (c / channels)
                table[i, j, c : c + 2] = torch.tensor([math.sin(i / rate), math.cos(i / rate)])
                table[i, j, channels + c : channels + c + 2] = torch.tensor([math.sin(j / rate), math.cos(j / rate)])
    return table[..., :d_pos]


def literal_kvpos(k: Tensor, v: Tensor, weight: Tensor, bias: Tensor, scale: float) -> Tensor:
    """The layer as published: logits spread over d_pos channels, encoding added, one linear map back to one channel."""
    logits = k @ k.transpose(-1, -2) * scale
    spread = logits[..., None] * torch.ones_like(weight) + literal_encoding(k.shape[-2], len(weight))
    return (spread @ weight + bias).softmax(-1) @ v


@pytest.mark.parametrize("d_pos", [3, 10, 20, 50])
def test_fused_form_equals_the_literal_form(d_pos: int) -> None:
    layer = KVPos(d_pos=d_pos, init="random").build(2, 4).double()
    assert isinstance(layer, KVPosMixing)
    k, v = (torch.randn(2, 2, 7, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = torch.randn((), dtype=torch.float64, requires_grad=True)
    weighting = torch.randn(2, 2, 7, 4, dtype=torch.float64)

    ours = layer(k, v)
    mine = torch.autograd.grad((ours * weighting).sum(), [k, v, layer.weight])
    theirs = literal_kvpos(k, v, layer.weight, bias, 4**-0.5)
    literal = torch.autograd.grad((theirs * weighting).sum(), [k, v, layer.weight, bias])

    # The encoding is computed in float32, as a table of sines need not be better than that.
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for got, expected in zip(mine, literal[:3], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert literal[3].abs() < 1e-12, "the published map's bias gets no gradient, which is why we leave it out"


def test_row_channels_share_one_gradient() -> None:
    layer = KVPos(d_pos=10, init="random").build(2, 4)
    k, v = torch.randn(2, 1, 2, 6, 4).unbind(0)
    layer(k, v).square().sum().backward()
    rows = layer.weight.grad[: row_channels(10)]
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))


def test_the_default_starts_as_plain_kv() -> None:
    from fewpairs import KV

    k, v = torch.randn(2, 1, 2, 6, 4).unbind(0)
    torch.testing.assert_close(KVPos().build(2, 4)(k, v), KV().build(2, 4)(k, v))


@given(st.integers(3, 200))
def test_channels_of_rows_and_columns_add_up(d_pos: int) -> None:
    rows = row_channels(d_pos)
    assert 0 < d_pos - rows <= rows
    assert {10: (6, 4), 20: (10, 10), 50: (26, 24)}.get(d_pos, (rows, d_pos - rows)) == (rows, d_pos - rows)


@pytest.mark.parametrize(("field", "value"), [("d_pos", 2), ("init", "xavier")])
def test_wrong_options_are_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{field}={value!r}"):
        KVPos(**{field: value})
