from __future__ import annotations

import pytest
import torch

from fewpairs.ops import softmax_attention


@pytest.mark.parametrize("kernel", ["fused", "reference"])
def test_a_row_without_keys_gives_zeros(kernel: str) -> None:
    q, k, v = torch.randn(3, 1, 2, 6, 8).unbind(0)
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    mask[..., 2, :] = False
    out = softmax_attention(q, k, v, bias=mask, kernel=kernel)
    assert out[..., 2, :].abs().max() == 0
    assert out.isfinite().all()


@pytest.mark.parametrize("kernel", ["fused", "reference"])
def test_one_key_left_copies_its_value(kernel: str) -> None:
    q, k, v = torch.randn(3, 1, 2, 6, 8).unbind(0)
    bias = torch.full((1, 1, 6, 6), -torch.inf)
    bias[..., 4] = 0
    out = softmax_attention(q, k, v, bias=bias, kernel=kernel)
    torch.testing.assert_close(out, v[:, :, 4:5].expand_as(out))


def test_permuting_keys_changes_nothing_and_permuting_queries_permutes() -> None:
    q, k, v = torch.randn(3, 2, 2, 9, 8, dtype=torch.float64).unbind(0)
    order = torch.randperm(9)
    out = softmax_attention(q, k, v)
    torch.testing.assert_close(softmax_attention(q, k[:, :, order], v[:, :, order]), out)
    torch.testing.assert_close(softmax_attention(q[:, :, order], k, v), out[:, :, order])


def test_reference_gradients() -> None:
    q, k, v = (torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    bias = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *t: softmax_attention(*t[:3], bias=t[3], scale=0.7, kernel="reference"), (q, k, v, bias)
    )


def test_large_logits_do_not_overflow() -> None:
    q = torch.full((1, 1, 3, 4), 300.0)
    out = softmax_attention(q, q, torch.eye(4)[None, None, :3], kernel="reference")
    torch.testing.assert_close(out.sum(-1), torch.ones(1, 1, 3))
