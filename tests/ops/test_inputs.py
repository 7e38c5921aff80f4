"""Arguments of the operators: what fits is computed alike by all of them, what does not is one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from operator_calls import ALL, PAIRS, B, Call, D, H, N, each, global_key, heads, key_only, kv
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fewpairs import KNN
from fewpairs.errors import InputError
from fewpairs.ops import (
    global_key_attention,
    inputs,
    key_only_attention,
    knn_attention,
    kv_attention,
)


def pytorch(op: Call, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """PyTorch's own attention over all keys."""
    return F.scaled_dot_product_attention(k if op is kv else q, k, v, **options)


@each("op", PAIRS)
@pytest.mark.parametrize(("keys", "values"), [(2, 2), (1, 1), (4, 1), (2, 4)])
def test_shared_heads_as_in_pytorch(op: Call, keys: int, values: int) -> None:
    """`enable_gqa` repeats the heads that there are fewer of; gradients are summed over those that share."""
    keys = H if op is kv else keys
    q, k, v = torch.randn(B, H, N, D), torch.randn(B, keys, N, D), torch.randn(B, values, N, D)
    ours, theirs = ([x.double().requires_grad_() for x in (q, k, v)] for _ in range(2))
    out = op(*ours)
    expected = pytorch(op, *theirs, enable_gqa=True)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(out)
    for x in (out, expected):
        (x * weights).sum().backward()
    for mine, peer in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, peer.grad)
    single = op(q, k, v)
    torch.testing.assert_close(single.double(), expected, atol=1e-5, rtol=1e-5)


@each("op", [key_only, global_key])
def test_values_shared_by_heads_of_key_only_attention(op: Call) -> None:
    _, k, v = heads(torch.float64)
    few = v[:, ::2]
    torch.testing.assert_close(op(k, k, few), op(k, k, few.repeat_interleave(2, dim=1)))


@each("op", PAIRS)
@pytest.mark.parametrize("shape", [(B, 1, 1, N), (1, 1, 1, N), (B, H, 1, N), (1, H, N, N), (1, 1, N, N)])
@pytest.mark.parametrize("kind", ["boolean", "number"])
def test_biases_as_in_pytorch(op: Call, shape: tuple[int, ...], kind: str) -> None:
    q, k, v = heads(torch.float64)
    bias = torch.rand(shape) > 0.3 if kind == "boolean" else torch.randn(shape, dtype=torch.float64)
    ours, theirs = (bias if kind == "boolean" else bias.clone().requires_grad_() for _ in range(2))
    expected = pytorch(op, q, k, v, attn_mask=theirs)
    out = op(q, k, v, bias=ours)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(op(*(x.float() for x in (q, k, v)), bias=ours).double(), expected, atol=1e-5, rtol=1e-5)
    if kind == "number":
        torch.testing.assert_close(
            *(torch.autograd.grad(y.square().sum(), x)[0] for x, y in ((ours, out), (theirs, expected)))
        )


@each("op", [key_only, global_key])
def test_padding_masks_of_key_only_attention(op: Call) -> None:
    _, k, v = heads()
    mask = torch.rand(B, 1, 1, N) > 0.3
    expected = op(k, k, v, mask=mask.expand(B, H, 1, N).reshape(B, H, N))
    torch.testing.assert_close(op(k, k, v, mask=mask), expected)


@pytest.mark.parametrize("shape", [(N,), (1, N), (H, N), (1, H, N), (B, 1, N), (B, H, N)])
@pytest.mark.parametrize("kind", ["none", "boolean", "number"])
def test_key_biases_by_image_and_by_head(shape: tuple[int, ...], kind: str) -> None:
    _, k, v = heads(torch.float64)
    key_bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    keep = torch.rand(B, 1, N, N) > 0.2
    bias = {"none": None, "boolean": keep, "number": torch.randn(1, H, N, N, dtype=torch.float64)}[kind]
    row = key_bias.reshape((1,) * (3 - key_bias.ndim) + shape).unsqueeze(-2)
    mask = row if bias is None else torch.where(keep, row, -torch.inf) if kind == "boolean" else row + bias
    expected = F.scaled_dot_product_attention(k, k, v, attn_mask=mask.expand(B, H, N, N))
    out = kv_attention(k, v, key_bias=key_bias, bias=bias)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(x.square().sum(), key_bias, retain_graph=True) for x in (out, expected))
    )


@pytest.mark.parametrize(
    ("shape", "row"), [((N,), (N,)), ((1, N), (N,)), ((1, 1, N), (N,)), ((H, N), (H, N)), ((1, H, N), (H, N))]
)
def test_a_shared_key_bias_reaches_kernels_as_one_row(shape: tuple[int, ...], row: tuple[int, ...]) -> None:
    """A kernel steps from head to head where there are two dimensions."""
    found, bias = inputs.key_bias(torch.zeros(shape), None, torch.zeros(B, H, N, D))
    assert found is not None
    assert found.shape == row
    assert bias is None


def test_a_key_bias_that_could_be_of_images_or_heads_is_refused() -> None:
    k, v = torch.randn(2, 3, 3, N, D)
    with pytest.raises(InputError, match=r"\[3, 6\] could be one per image or one per head.*\[1 h n\].*\[b 1 n\]"):
        kv_attention(k, v, key_bias=torch.randn(3, N))
    single = torch.randn(2, 1, 1, N, D)
    kv_attention(*single, key_bias=torch.randn(1, N))


@each("op", PAIRS)
@pytest.mark.parametrize("shape", [(), (H,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_learned_scale_gets_its_gradient(op: Call, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = heads(torch.float64)
    factor = torch.rand(shape, dtype=torch.float64) + 0.2
    ours, theirs = factor.to(dtype).requires_grad_(), factor.clone().requires_grad_()
    first = k if op is kv else q
    scores = (first @ k.mT) * theirs.reshape(-1, 1, 1)
    expected = scores.softmax(-1) @ v
    out = op(*(x.to(dtype) for x in (q, k, v)), scale=ours)
    allowed = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {}
    torch.testing.assert_close(out.double(), expected, **allowed)
    grads = [torch.autograd.grad(y.square().sum(), x)[0].double() for x, y in ((ours, out), (theirs, expected))]
    torch.testing.assert_close(*grads, **allowed)


def test_a_learned_scale_joins_the_gain() -> None:
    _, k, v = heads(torch.float64)
    gain, scale = (torch.rand(H, dtype=torch.float64, requires_grad=True) for _ in range(2))
    out = kv_attention(k, v, gain=gain, scale=scale)
    torch.testing.assert_close(out, ((k @ k.mT) * (gain * scale)[:, None, None]).softmax(-1) @ v)


def test_a_learned_scale_of_the_pooled_key() -> None:
    _, k, v = heads(torch.float64)
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    out = global_key(k, k, v, scale=scale)
    torch.testing.assert_close(out, global_key(k, k, v, scale=0.3))
    assert torch.autograd.gradcheck(lambda x: global_key(k.detach(), k.detach(), v.detach(), scale=x), (scale,))


def test_a_learned_scale_is_refused_where_keys_are_chosen_by_distance() -> None:
    with pytest.raises(InputError, match="scale is a tensor, which metric='euclidean' does not take"):
        knn_attention(*heads(), topk=2, scale=torch.tensor(1.0), metric="euclidean")


@each("op", PAIRS)
def test_autocast_casts_as_in_pytorch(op: Call) -> None:
    q, k, v = heads()
    with torch.autocast("cpu", torch.bfloat16):
        out = op(q, k, v.bfloat16())
        wide = op(*(x.double() for x in (q, k, v)))
    assert out.dtype == torch.bfloat16
    assert wide.dtype == torch.float64
    torch.testing.assert_close(out, op(q.bfloat16(), k.bfloat16(), v.bfloat16()))


@each("op", [key_only, global_key])
def test_autocast_takes_the_widest_where_no_matrices_are_multiplied(op: Call) -> None:
    _, k, v = heads()
    with torch.autocast("cpu", torch.bfloat16):
        out, narrow = op(k, k, v.bfloat16()), op(k, k.bfloat16(), v.bfloat16())
    torch.testing.assert_close(out, op(k, k, v.bfloat16().float()))
    assert narrow.dtype == torch.bfloat16


@each("op", ALL)
def test_sizes_of_zero(op: Call) -> None:
    q, k, v = heads()
    assert op(q[:0], k[:0], v[:0]).shape == (0, H, N, D)
    assert op(q[:, :0], k[:, :0], v[:, :0]).shape == (B, 0, N, D)
    with pytest.raises(InputError, match=r"no keys \([nm] = 0\)"):
        op(q[:, :, :0], k[:, :, :0], v[:, :, :0])
    if op in PAIRS:
        assert op(q, k, v[..., :0]).shape == (B, H, N, 0)
        with pytest.raises(InputError, match="heads of width d = 0"):
            op(q[..., :0], k[..., :0], v)
    else:
        with pytest.raises(InputError, match="heads of width d = 0"):
            (key_only_attention if op is key_only else global_key_attention)(k[..., :0], v[..., :0], torch.zeros(H, 0))


@each("op", ALL)
def test_without_values(op: Call) -> None:
    """The meta device, and fake tensors."""
    assert op(*(x.to("meta") for x in heads())).shape == (B, H, N, D)
    with FakeTensorMode():
        made = [torch.randn(B, H, N, D) for _ in range(3)]
        masks = {"bias": torch.ones(B, 1, 1, N, dtype=torch.bool)} if op in PAIRS else {}
        assert op(*made, **masks).shape == (B, H, N, D)


@pytest.mark.parametrize("kernel", ["masked", "bounded", "reference", "gathered"])
def test_fake_tensors_in_every_kernel(kernel: str) -> None:
    with FakeTensorMode():
        q, k, v = (torch.randn(B, H, N, D) for _ in range(3))
        assert knn_attention(q, k, v, topk=3, kernel=kernel).shape == (B, H, N, D)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("topk", "same"), [(np.int64(3), 3), (np.float32(0.5), 0.5), (np.float64(0.5), 0.5)])
def test_topk_may_be_a_number_of_numpy(topk: Any, same: float) -> None:
    q, k, v = heads()
    torch.testing.assert_close(knn_attention(q, k, v, topk=topk), knn_attention(q, k, v, topk=same))
    assert repr(KNN(topk=topk)) == repr(KNN(topk=same))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("topk", "message"),
    [
        (True, "of type bool"),
        (np.True_, "of type bool"),
        (torch.tensor(3), r"of type Tensor.*topk.item\(\) is the number"),
        (np.array(3), "of type ndarray"),
        (None, "of type NoneType"),
        (np.int32(0), "topk=0 is out of range"),
        (np.float32("nan"), "out of range"),
    ],
)
def test_other_topk_are_refused(topk: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        knn_attention(*heads(), topk=topk)
