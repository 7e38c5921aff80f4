"""Rows without a key: zeros with zero gradients in every kernel, eager and compiled, or an error if asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops import (
    global_key_attention,
    key_only,
    key_only_attention,
    knn,
    knn_attention,
    kv,
    kv_attention,
    softmax,
    softmax_attention,
)

N = 6
PAIRS: dict[str, tuple[Any, Callable[..., Tensor]]] = {
    "softmax": (softmax.KERNELS, softmax_attention),
    "knn": (knn.KERNELS, lambda q, k, v, **options: knn_attention(q, k, v, topk=N, **options)),
    "kv": (kv.KERNELS, lambda _q, k, v, **options: kv_attention(k, v, **options)),
}
GRID = [(op, kernel.name) for op, (kernels, _) in PAIRS.items() for kernel in kernels]
HEADS = [("key_only", kernel.name) for kernel in key_only.KERNELS] + [
    ("global", kernel.name) for kernel in key_only.GLOBAL_KERNELS
]


def able(op: str, name: str, *tensors: Tensor, **options: Any) -> None:
    """Skip where the kernel cannot run here."""
    try:
        PAIRS[op][1](*tensors, kernel=name, **options)
    except InputError as error:
        pytest.skip(str(error))


def bias_of(kind: str) -> Tensor:
    """A bias that leaves the pairs but those of row 4."""
    keep = torch.ones(1, 1, N, N, dtype=torch.bool)
    keep[..., 4, :] = False
    if kind == "boolean":
        return keep
    return torch.where(keep, torch.randn(N, N), -torch.inf).requires_grad_(kind == "learned")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["boolean", "number", "learned"])
@pytest.mark.parametrize(("op", "name"), GRID)
def test_zeros_and_zero_gradients(op: str, name: str, kind: str, dtype: torch.dtype) -> None:
    """The rows that have keys are PyTorch's own in float64."""
    q, k, v = (torch.randn(2, 2, N, 8).to(dtype).requires_grad_() for _ in range(3))
    options = {"bias": bias_of(kind), "key_bias": torch.zeros(N)} if name == "folded" else {"bias": bias_of(kind)}
    able(op, name, q, k, v, **options)
    out = PAIRS[op][1](q, k, v, kernel=name, **options)
    assert (out[..., 4, :] == 0).all()
    mask = options["bias"].detach()
    mask = mask if kind == "boolean" else mask.double()
    first = (k if op == "kv" else q).double()
    expected = F.scaled_dot_product_attention(first, k.double(), v.double(), attn_mask=mask)
    torch.testing.assert_close(out.double(), expected, atol=0.03 if dtype == torch.bfloat16 else 1e-5, rtol=0)
    out.sum().backward()
    learned = [x for x in (q, k, v, options["bias"]) if x.grad is not None]
    assert all(x.grad.isfinite().all() for x in learned)
    if op != "kv":
        assert (q.grad[..., 4, :] == 0).all()
    if kind == "learned":
        assert (options["bias"].grad[..., 4, :] == 0).all()


@pytest.mark.parametrize("op", PAIRS)
@pytest.mark.parametrize("kind", ["boolean", "learned"])
@pytest.mark.usefixtures("unchecked")
def test_compiled_as_eager(op: str, kind: str) -> None:
    torch.compiler.reset()
    q, k, v = (torch.randn(2, 2, N, 8, requires_grad=True) for _ in range(3))
    bias = bias_of(kind)
    call = PAIRS[op][1]
    eager = call(q, k, v, bias=bias)
    gradients = torch.autograd.grad(eager.sum(), (k, v))
    compiled = torch.compile(lambda *x, bias: call(*x, bias=bias), backend="aot_eager", fullgraph=True)(
        q, k, v, bias=bias
    )
    assert (compiled[..., 4, :] == 0).all()
    torch.testing.assert_close(compiled, eager)
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), (k, v)), gradients)


@pytest.mark.parametrize("name", [kernel.name for kernel in kv.KERNELS])
def test_a_key_bias_that_leaves_no_key(name: str) -> None:
    _, k, v = (torch.randn(2, 2, N, 8, requires_grad=True) for _ in range(3))
    key_bias = torch.full((N,), -torch.inf, requires_grad=name != "fused")
    able("kv", name, k, k, v, key_bias=key_bias)
    out = kv_attention(k, v, key_bias=key_bias, kernel=name)
    assert (out == 0).all()
    out.sum().backward()
    assert (k.grad == 0).all()
    assert (v.grad == 0).all()


@pytest.mark.parametrize("saliency", [(2, 8), (2, 2, N), (2, 2, N, 8)])
@pytest.mark.parametrize(("op", "name"), HEADS)
def test_a_head_without_positions(op: str, name: str, saliency: tuple[int, ...]) -> None:
    if op == "global" and len(saliency) == 4:
        pytest.skip("it has no logits per channel")
    k, v, logits = (torch.randn(shape, requires_grad=True) for shape in ((2, 2, N, 8), (2, 2, N, 8), saliency))
    mask = torch.ones(2, 2, N, dtype=torch.bool)
    mask[0, 1] = False
    call = key_only_attention if op == "key_only" else global_key_attention
    try:
        out = call(k, v, logits, mask=mask, kernel=name)
    except InputError as error:
        pytest.skip(str(error))
    assert (out[0, 1] == 0).all()
    assert (out[0, 0] != 0).all()
    out.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in (k, v, logits))
    assert (k.grad[0, 1] == 0).all()
    assert (v.grad[0, 1] == 0).all()


@pytest.mark.parametrize("kind", ["boolean", "number"])
@pytest.mark.parametrize("op", PAIRS)
def test_strict_names_the_row(op: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.randn(2, 2, N, 8) for _ in range(3)]
    call, bias = PAIRS[op][1], bias_of(kind)
    monkeypatch.setenv("FEWPAIRS_STRICT", "0")
    call(*tensors, bias=bias)
    monkeypatch.setenv("FEWPAIRS_STRICT", "1")
    with pytest.raises(InputError, match=r"no key to query n=4 \(b=0, h=0 of the bias\), and 1 such rows"):
        call(*tensors, bias=bias)
    call(*tensors, bias=bias[..., :4, :].expand(-1, -1, 4, -1)[..., [0] * N, :])


def test_strict_sees_what_bias_and_key_bias_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWPAIRS_STRICT", "1")
    k = torch.randn(2, 2, N, 8)
    keep = torch.eye(N, dtype=torch.bool)[None, None]
    kv_attention(k, k, bias=keep)
    closed = torch.zeros(N)
    closed[3] = -torch.inf
    kv_attention(k, k, key_bias=closed)
    with pytest.raises(InputError, match="no key to query n=3"):
        kv_attention(k, k, bias=keep, key_bias=closed)


def test_strict_names_the_head_without_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWPAIRS_STRICT", "1")
    k, mask = torch.randn(2, 2, N, 8), torch.ones(2, 1, N, dtype=torch.bool)
    key_only_attention(k, k, torch.randn(2, 8), mask=mask)
    mask[1] = False
    with pytest.raises(InputError, match="no position of image b=1, head h=0, and of 2 heads in all"):
        key_only_attention(k, k, torch.randn(2, 8), mask=mask)
