"""Arguments of the operators: what fits is computed alike by all of them, what does not is one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fewpairs import KNN
from fewpairs.errors import InputError
from fewpairs.ops import (
    global_key_attention,
    inputs,
    key_only_attention,
    knn_attention,
    kv_attention,
    softmax_attention,
)

B, H, N, D = 2, 4, 6, 8
Call = Callable[..., Tensor]


def softmax(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return softmax_attention(q, k, v, **options)


def knn(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """All keys, so that it is softmax attention."""
    return knn_attention(q, k, v, topk=1.0, **options)


def kv(_q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return kv_attention(k, v, **options)


def key_only(_q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return key_only_attention(k, v, torch.linspace(-1, 1, k.shape[1] * D, device=k.device).reshape(-1, D), **options)


def global_key(_q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return global_key_attention(k, v, torch.linspace(-1, 1, k.shape[1] * D, device=k.device).reshape(-1, D), **options)


PAIRS: tuple[Call, ...] = (softmax, knn, kv)
ALL: tuple[Call, ...] = (*PAIRS, key_only, global_key)
each = partial(pytest.mark.parametrize, ids=lambda value: getattr(value, "__name__", None))


def heads(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(B, H, N, D, dtype=dtype, requires_grad=True) for _ in range(3)]


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


Change = Callable[[list[Tensor]], list[Any]]


def changed(**which: Callable[[Tensor], Any]) -> Change:
    return lambda tensors: [which.get(name, lambda x: x)(x) for name, x in zip("qkv", tensors, strict=True)]


@pytest.mark.usefixtures("unchecked")
@each("op", ALL)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed(v=lambda v: v[:, :, :3]),
            r"\] and v \[b h . .\] must agree in .*; their shapes are \[2, 4, 6, 8\] and \[2, 4, 3",
        ),
        (changed(v=lambda v: v[:1]), r"must agree in b.*\[1, 4, 6, 8\]"),
        (changed(v=lambda v: v[:, :3]), r"must agree in b.*fewer heads of v are allowed if they divide h"),
        (changed(k=lambda k: k[:, :, :3]), "must agree in"),
        (
            changed(q=lambda q: q[0], k=lambda k: k[0], v=lambda v: v[0]),
            r"must have the four dimensions \[b h n d\]; .* \[4, 6, 8\]",
        ),
        (changed(v=lambda v: v[None]), r"v must have the four dimensions"),
        (changed(v=lambda v: v.double()), "must share one dtype, not .*torch.float64; convert them first"),
        (changed(v=lambda v: v.to("meta")), "must lie on one device, not .* and meta"),
        (
            changed(q=lambda q: q.int(), k=lambda k: k.int(), v=lambda v: v.int()),
            "floating-point numbers, not torch.int32",
        ),
        (changed(q=lambda q: q > 0, k=lambda k: k > 0, v=lambda v: v > 0), "floating-point numbers, not torch.bool"),
        (
            changed(q=lambda q: q + 0j, k=lambda k: k + 0j, v=lambda v: v + 0j),
            "floating-point numbers, not torch.complex64",
        ),
        (changed(v=lambda v: v.tolist()), r"v must be a tensor \[b h . .\], not list"),
    ],
)
def test_heads_that_do_not_fit(op: Call, change: Change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        op(*change(heads()))


@pytest.mark.usefixtures("unchecked")
@each("op", PAIRS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": torch.zeros(B, H, N, N - 1)}, r"bias must be \[b h n m\] = \[2 4 6 6\], with 1 for b or h or n"),
        ({"bias": torch.zeros(B, 3, N, N)}, r"its shape is \[2, 3, 6, 6\]"),
        ({"bias": torch.zeros(4, 1, N, N)}, r"its shape is \[4, 1, 6, 6\]"),
        ({"bias": torch.zeros(N, N)}, r"its shape is \[6, 6\]"),
        ({"bias": torch.zeros(B, 1, N, 1)}, r"its shape is \[2, 1, 6, 1\]"),
        (
            {"bias": torch.ones(1, 1, N, N, dtype=torch.uint8)},
            r"not torch.uint8; convert a mask of 0 and 1 by .bool\(\)",
        ),
        (
            {"bias": torch.zeros(1, 1, N, N, device="meta")},
            "bias must lie on the device of q, k and v, cpu, not on meta",
        ),
        ({"bias": 0.5}, "bias must be a tensor"),
        ({"scale": math.nan}, "scale=nan must be a finite number"),
        ({"scale": -math.inf}, "scale=-inf must be a finite number"),
        ({"scale": "head"}, "scale='head' is of type str"),
        ({"scale": True}, "scale=True is of type bool"),
        ({"scale": torch.ones(3)}, r"scale must be a floating-point tensor \[\], or \[h\] = \[4\]"),
        ({"scale": torch.ones((), dtype=torch.int64)}, r"scale must be a floating-point tensor .*torch.int64"),
        ({"kernel": "nativ"}, "kernel='nativ' does not exist"),
    ],
)
def test_options_that_do_not_fit(op: Call, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        op(*heads(), **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gain": torch.ones(3)}, r"gain must be a floating-point tensor \[\], or \[h\] = \[4\].* \[3\]"),
        ({"gain": torch.ones(H, dtype=torch.int64)}, "torch.int64"),
        ({"gain": 2.0}, "not float"),
        ({"gain": torch.ones(H, device="meta")}, "gain must lie on the device"),
        ({"key_bias": torch.ones(2, N)}, r"key_bias must be \[n\], \[h n\] or \[b h n\] = \[2 4 6\]"),
        ({"key_bias": torch.ones(N - 1)}, r"its shape is \[5\]"),
        ({"key_bias": torch.ones(3, 1, N)}, r"its shape is \[3, 1, 6\]"),
        ({"key_bias": torch.ones(())}, r"its shape is \[\]"),
        ({"key_bias": torch.ones(N, dtype=torch.bool)}, r"torch.bool; a boolean mask of keys is a bias \[b 1 1 n\]"),
        ({"key_bias": torch.ones(N, device="meta")}, "key_bias must lie on the device"),
        ({"key_bias": [0.0] * N}, "key_bias must be a tensor"),
    ],
)
def test_terms_of_key_value_attention_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kv_attention(*heads()[:2], **options)


@each("op", PAIRS)
def test_checks_break_no_graph(op: Call, unchecked: None) -> None:
    torch.compiler.reset()
    q, k, v = heads()
    few, mask = v[:, ::2].detach(), torch.rand(B, 1, 1, N) > 0.3
    run = torch.compile(lambda q, k, v, mask: op(q, k, v, bias=mask), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run(q, k, few, mask), op(q, k, few, bias=mask))


@each("op", PAIRS)
def test_checks_leave_the_batch_free_in_an_exported_graph(op: Call, unchecked: None) -> None:
    class Layer(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
            return op(q, k, v, bias=mask)

    tensors = [x.detach() for x in heads()]
    dynamic = {name: {0: torch.export.Dim("b")} for name in ("q", "k", "v", "mask")}
    mask = torch.rand(B, 1, 1, N) > 0.3
    graph = torch.export.export(Layer(), (*tensors, mask), dynamic_shapes=dynamic)
    more = [torch.randn(5, H, N, D) for _ in range(3)]
    wide = torch.rand(5, 1, 1, N) > 0.3
    torch.testing.assert_close(graph.module()(*more, wide), op(*more, bias=wide))


SIZES = st.sampled_from((0, 1, 2, 3, 4))
DTYPES = st.sampled_from((torch.float32,) * 6 + (torch.float64, torch.bfloat16, torch.uint8, torch.bool))


@st.composite
def tensors(draw: st.DrawFn, *likely: int) -> Tensor:
    """A tensor, mostly of the shape `likely`, mostly float32."""
    shape = [size if draw(st.integers(0, 7)) else draw(SIZES) for size in likely]
    if not draw(st.integers(0, 11)):
        shape = shape[1:]
    x = torch.linspace(-1, 1, math.prod(shape)).reshape(shape).to(draw(DTYPES))
    return x.mT if x.ndim > 1 and x.shape[-1] == x.shape[-2] and draw(st.booleans()) else x


@pytest.mark.usefixtures("unchecked")
@each("op", ALL)
@given(data=st.data())
def test_any_arguments_are_refused_or_as_in_the_reference(op: Call, data: st.DataObject) -> None:
    """No other error, no other number than the reference's, and no memory of others."""
    b, h, n, d = (data.draw(st.integers(1, 3)) for _ in range(4))
    q, k, v = (data.draw(tensors(b, h, n, d)) for _ in range(3))
    options: dict[str, Any] = {}
    if data.draw(st.booleans()):
        name = "bias" if op in PAIRS else "mask"
        options[name] = data.draw(tensors(b, h, n, n) if op in PAIRS else tensors(b, h, n))
    if op is kv and data.draw(st.booleans()):
        options["key_bias"] = data.draw(tensors(h, n))
    if op is kv and data.draw(st.booleans()):
        options["gain"] = data.draw(tensors(h))
    if op not in PAIRS:
        saliency = data.draw(tensors(h, d))
        call: Call = key_only_attention if op is key_only else global_key_attention
        run = partial(call, k, v, saliency)
    else:
        run = partial(op, q, k, v)
    try:
        out = run(**options)
    except InputError:
        return
    expected = run(**options, kernel="reference")
    torch.testing.assert_close(
        out, expected, atol=0.05 if out.dtype == torch.bfloat16 else 1e-5, rtol=1e-2, equal_nan=True
    )
