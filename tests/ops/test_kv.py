from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewpairs.ops import kv_attention, softmax_attention


def test_kv_is_softmax_attention_with_tied_queries() -> None:
    k, v = torch.randn(2, 2, 3, 11, 8, dtype=torch.float64).unbind(0)
    torch.testing.assert_close(kv_attention(k, v), softmax_attention(k, k, v))


def test_gain_and_bias_move_the_logits() -> None:
    k, v = torch.randn(2, 2, 3, 11, 8, dtype=torch.float64).unbind(0)
    gain, bias = torch.tensor(-0.3, dtype=torch.float64), torch.randn(11, dtype=torch.float64)
    scores = -0.3 * 8**-0.5 * k @ k.transpose(-1, -2) + bias
    torch.testing.assert_close(kv_attention(k, v, gain=gain, key_bias=bias), scores.softmax(-1) @ v)


@pytest.mark.parametrize("kernel", ["fused", "folded", "reference"])
def test_a_bias_of_each_pair_joins_gain_and_key_bias(kernel: str) -> None:
    k, v = torch.randn(2, 2, 3, 11, 8, dtype=torch.float64).unbind(0)
    gain, key_bias = torch.tensor(-0.3, dtype=torch.float64), torch.randn(11, dtype=torch.float64)
    bias = torch.randn(1, 3, 11, 11, dtype=torch.float64)
    scores = -0.3 * 8**-0.5 * k @ k.transpose(-1, -2) + key_bias + bias
    mixed = kv_attention(k, v, gain=gain, key_bias=key_bias, bias=bias, kernel=kernel)
    torch.testing.assert_close(mixed, scores.softmax(-1) @ v)


@pytest.mark.parametrize("kernel", ["fused", "folded", "reference"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_mask_keeps_its_pairs_and_an_empty_row_is_zeros(kernel: str, moved: bool) -> None:
    k, v = torch.randn(2, 2, 3, 11, 8, dtype=torch.float64).unbind(0)
    if kernel == "folded" and not moved:
        pytest.skip("there is no key bias to fold")
    key_bias = torch.randn(11, dtype=torch.float64) if moved else None
    mask = (torch.rand(2, 1, 11, 11) > 0.4) & (torch.arange(11) != 4)[:, None]
    mask[..., 0, 0] = True
    scores = 8**-0.5 * k @ k.transpose(-1, -2) + (0 if key_bias is None else key_bias)
    expected = scores.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num() @ v
    assert not expected[:, :, 4].any()
    torch.testing.assert_close(kv_attention(k, v, key_bias=key_bias, bias=mask, kernel=kernel), expected)


def test_equal_keys_average_the_values() -> None:
    k, v = torch.ones(1, 1, 5, 4), torch.randn(1, 1, 5, 4)
    torch.testing.assert_close(kv_attention(k, v), v.mean(2, keepdim=True).expand_as(v))


@pytest.mark.parametrize("kernel", ["fused", "folded", "reference"])
def test_values_may_be_wider_or_narrower_than_keys(kernel: str) -> None:
    k, bias = torch.randn(1, 2, 7, 8, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    for width in (3, 8, 21):
        v = torch.randn(1, 2, 7, width, dtype=torch.float64)
        expected = (8**-0.5 * k @ k.transpose(-1, -2) + bias).softmax(-1) @ v
        torch.testing.assert_close(kv_attention(k, v, key_bias=bias, kernel=kernel), expected)


def test_reference_gradients() -> None:
    k, v = (torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    gain = torch.randn(2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def run(k: Tensor, v: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return kv_attention(k, v, gain=gain, key_bias=bias, scale=0.7, kernel="reference")

    assert torch.autograd.gradcheck(run, (k, v, gain, bias))
