"""Arguments that do not fit are one sentence; checks break no graph; any are refused or as in the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import ALL, PAIRS, B, Call, D, H, N, each, heads, key_only, kv
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.ops import (
    global_key_attention,
    key_only_attention,
    kv_attention,
)

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
