"""Key-only attention: what the reconstruction promises, whichever kernel runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from second_derivatives import compare_second_derivatives
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops import global_key_attention, key_only_attention
from fewpairs.ops.key_only import passes, saliency_weights

KERNELS = ("streaming", "reference")


def heads(n: int = 37, d: int = 8, *, b: int = 2, h: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(b, h, n, d, dtype=dtype), torch.randn(b, h, n, d, dtype=dtype), torch.randn(h, d, dtype=dtype)]


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many stretches even of a short sequence."""
    monkeypatch.setitem(passes.NUMBERS_AT_ONCE, "cpu", 2 * 3 * 8 * 5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.usefixtures("short_stretches")
def test_the_equation_written_as_a_loop(kernel: str) -> None:
    k, v, w = heads(7)
    got = key_only_attention(k, v, w, kernel=kernel)
    for b in range(2):
        for h in range(3):
            raised = [torch.exp(k[b, h, n] @ w[h]) for n in range(7)]
            pooled = sum(e * v[b, h, n] for n, e in enumerate(raised)) / sum(raised)
            for n in range(7):
                torch.testing.assert_close(got[b, h, n], pooled / (1 + torch.exp(-k[b, h, n])))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.usefixtures("short_stretches")
def test_the_pooled_key_written_as_a_loop(kernel: str) -> None:
    k, v, w = heads(7)
    got = global_key_attention(k, v, w, kernel=kernel)
    for b in range(2):
        for h in range(3):
            weights = torch.softmax(k[b, h] @ w[h], 0)
            pooled = weights @ k[b, h]
            for n in range(7):
                torch.testing.assert_close(got[b, h, n], torch.sigmoid(k[b, h, n] @ pooled / 8**0.5) * v[b, h, n])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("operator", [key_only_attention, global_key_attention])
@pytest.mark.usefixtures("short_stretches")
def test_permuted_positions_permute_the_output(operator, kernel: str) -> None:
    k, v, w = heads()
    order = torch.randperm(37)
    torch.testing.assert_close(
        operator(k[:, :, order], v[:, :, order], w, kernel=kernel), operator(k, v, w, kernel=kernel)[:, :, order]
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.usefixtures("short_stretches")
def test_gradients_are_those_of_differences(kernel: str) -> None:
    mask = torch.rand(2, 1, 9) > 0.3
    mask[..., 0] = True
    tensors = [t.requires_grad_() for t in heads(9)]

    def run(k: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return key_only_attention(k, v, w, mask=mask, kernel=kernel) + global_key_attention(k, v, w, kernel=kernel)

    assert torch.autograd.gradcheck(run, tensors)
    k, v, _ = tensors
    assert torch.autograd.gradcheck(lambda k, v: key_only_attention(k, v, k, kernel=kernel), [k, v])


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_a_mask_is_as_if_the_positions_were_not_there(n: int, left: int, b: int, by_head: bool) -> None:
    k, v, w = heads(n, 4, b=b)
    mask = torch.zeros(b, 3 if by_head else 1, n, dtype=torch.bool)
    mask[..., : min(left, n)] = True
    got = key_only_attention(k, v, w, mask=mask)[:, :, : min(left, n)]
    few = slice(0, min(left, n))
    torch.testing.assert_close(got, key_only_attention(k[:, :, few], v[:, :, few], w))


@pytest.mark.parametrize("kernel", KERNELS)
def test_where_no_position_counts_the_output_and_its_gradients_are_zero(kernel: str) -> None:
    tensors = [t.requires_grad_() for t in heads(6)]
    mask = torch.ones(2, 1, 6, dtype=torch.bool)
    mask[1] = False
    out = key_only_attention(*tensors, mask=mask, kernel=kernel)
    assert not out[1].any()
    assert out[0].all()
    out.sum().backward()
    assert all(t.grad.isfinite().all() for t in tensors)
    assert not tensors[0].grad[1].any()


@pytest.mark.parametrize("form", ["vector", "logits", "channels"])
def test_weights_sum_to_one(form: str) -> None:
    k, _, w = heads(500, dtype=torch.float32)
    saliency = {"vector": w, "logits": torch.randn(2, 3, 500), "channels": k}[form]
    weights = saliency_weights(k, saliency)
    assert weights.shape == (2, 3, 500)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_million_positions_neither_overflow_nor_lose_the_mean(dtype: torch.dtype) -> None:
    n = 2**20
    k = torch.full((1, 1, n, 1), 60.0, dtype=dtype)
    v = torch.full((1, 1, n, 1), 3.0, dtype=dtype)
    k[:, :, ::2] = -60.0
    out = key_only_attention(k, v, torch.full((1, 1), 10.0))
    torch.testing.assert_close(out[0, 0, 1, 0].float(), torch.tensor(3.0), rtol=1e-5, atol=0)
    v[:, :, ::2] = 1000.0  # these weigh nothing
    assert key_only_attention(k, v, torch.full((1, 1), 10.0))[0, 0, 1, 0].item() == 3.0


def test_not_a_number_spoils_its_own_head_alone() -> None:
    k, v, w = heads()
    k[1, 2, 5, 0] = torch.nan
    out = key_only_attention(k, v, w)
    assert out[1, 2].isnan().all()
    out[1, 2] = 0
    assert out.isfinite().all()


def test_saved_tensors_are_no_longer_than_the_inputs() -> None:
    """What is kept for the backward pass: the inputs themselves, and one vector and one number a head."""
    k, v, w = [t.requires_grad_() for t in heads(1000)]
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = key_only_attention(k, v, w)
    own = {t.untyped_storage().data_ptr() for t in (k, v, w)}
    assert sum(size for storage, size in kept.items() if storage not in own) <= 2 * 3 * (8 + 8 + 1)
    assert out.shape == k.shape


def test_one_graph_under_compile(unchecked: None) -> None:
    tensors = [t.requires_grad_() for t in heads(dtype=torch.float32)]
    torch.compiler.reset()
    compiled = torch.compile(key_only_attention, fullgraph=True, backend="aot_eager")
    wanted = torch.autograd.grad(key_only_attention(*tensors).square().sum(), tensors)
    got = torch.autograd.grad(compiled(*tensors).square().sum(), tensors)
    torch.testing.assert_close(got, wanted)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
@pytest.mark.parametrize("saliency", ["vector", "logits", "channels"])
def test_the_operators_are_what_pytorch_expects(saliency: str, unchecked: None) -> None:
    k, v, w = heads(5, dtype=torch.float32)
    keys = k if saliency == "vector" else None
    logits = {"vector": w, "logits": k[..., 0].clone(), "channels": k.clone()}[saliency]
    given_ = [t.requires_grad_() if t is not None else None for t in (keys, v, logits)]
    torch.library.opcheck(torch.ops.fewpairs.saliency_pool.default, (*given_, None))
    gate = (k.detach().requires_grad_(), torch.randn(2, 3, 8, requires_grad=True))
    torch.library.opcheck(torch.ops.fewpairs.saliency_gate.default, gate)


@pytest.mark.parametrize("operator", [key_only_attention, global_key_attention])
def test_a_second_derivative_is_the_references(operator: Callable[..., Tensor]) -> None:
    by_parts, written_out = (partial(operator, kernel=kernel) for kernel in ("streaming", "reference"))
    compare_second_derivatives(by_parts, written_out, *heads(5))


def test_autocast_sums_in_single_precision(unchecked: None) -> None:
    k, v, w = heads(300, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = key_only_attention(k, v, w)
        agreeing = global_key_attention(k, v, w)
    torch.testing.assert_close(got, key_only_attention(k, v, w))
    torch.testing.assert_close(agreeing, global_key_attention(k, v, w))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k, v, w: (k, v[:, :, :-1], w), r"k \[b h n d\] and v \[b h n d\] must agree in b, h, n and d"),
        (lambda k, v, w: (k[0], v, w), r"k must have the four dimensions \[b h n d\]"),
        (lambda k, v, w: (k, v.float(), w), "share one dtype, not torch.float64 and torch.float32"),
        (lambda k, v, w: (k[:, :, :0], v[:, :, :0], w), "no positions"),
        (lambda k, v, w: (k, v, w[:-1]), r"saliency must be a vector per head \[h d\] = \[3 8\]"),
        (lambda k, v, w: (k, v, w.long()), "floating-point numbers"),
    ],
)
def test_what_does_not_fit_is_named(change, message: str, unchecked: None) -> None:
    with pytest.raises(InputError, match=message):
        key_only_attention(*change(*heads()))


def test_masks_that_do_not_fit_are_named(unchecked: None) -> None:
    for mask in (torch.ones(2, 1, 36, dtype=torch.bool), torch.ones(2, 1, 37), torch.ones(2, 37, dtype=torch.bool)):
        with pytest.raises(InputError, match=r"mask must be boolean \[b h n\] = \[2 3 37\]"):
            key_only_attention(*heads(), mask=mask)
