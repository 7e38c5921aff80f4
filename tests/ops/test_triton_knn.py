"""k-NN attention by Triton: the same keys, the same output and gradients as the reference."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from second_derivatives import compare_second_derivatives
from torch import Tensor
from triton_cases import DEVICES, DTYPES, assert_as_exact_as_its_dtype, named

from fewpairs.ops import knn_attention
from fewpairs.ops.knn import KERNELS, kept, reference, triton
from fewpairs.ops.knn.selection import Cut, inside

pytestmark = pytest.mark.parametrize("device", DEVICES)

SCALE = 0.125


def whole_numbers(*shape: int, largest: int = 2) -> Tensor:
    """Whole numbers, whose scores every dtype holds exactly, with many ties."""
    return torch.randint(-largest, largest + 1, shape).double()


def case(n: int, m: int, d: int, topk: int, option: str, *, b: int = 2, h: int = 2) -> tuple[list[Tensor], Any]:
    tensors = [whole_numbers(b, h, n, d), whole_numbers(b, h, m, d), torch.randn(b, h, m, d, dtype=torch.float64)]
    bias = None
    if option == "bias":
        bias = whole_numbers(1, h, n, m, largest=8) / 8
    if option == "hidden":
        bias = torch.where(torch.rand(b, 1, n, m) > 0.5, 0.0, -torch.inf).double()
        bias[..., 0] = 0
    if option == "mask":
        bias = torch.rand(b, 1, n, m) > 0.6
        bias[..., 0, :] = False
    return tensors, {"topk": topk, "bias": bias, "scale": SCALE, "metric": "dot"}


CASES = [
    (1, 1, 24, 1, "plain", torch.float32),
    (17, 20, 24, 5, "bias", torch.bfloat16),
    (17, 17, 16, 8, "mask", torch.float32),
    (5, 49, 48, 20, "hidden", torch.float16),
    (49, 49, 32, 49, "plain", torch.bfloat16),
]
LONG = [
    *(
        (197, 197, d, 100, option, dtype)
        for d, option in ((64, "plain"), (96, "bias"), (128, "mask"))
        for dtype in DTYPES
    ),
    *((19, 2100, 16, 300, "plain", dtype) for dtype in DTYPES),
    (7, 2048, 16, 1024, "bias", torch.bfloat16),
]


@pytest.mark.parametrize(("n", "m", "d", "topk", "option", "dtype"), CASES)
def test_output_and_gradients(device: str, n: int, m: int, d: int, topk: int, option: str, dtype: torch.dtype) -> None:
    tensors, options = case(n, m, d, topk, option, b=1, h=1)
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, dtype, device, 4.0)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "d", "topk", "option", "dtype"), LONG)
def test_output_and_gradients_of_longer_rows(
    device: str, n: int, m: int, d: int, topk: int, option: str, dtype: torch.dtype
) -> None:
    tensors, options = case(n, m, d, topk, option, b=1, h=1)
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, dtype, device, 4.0)


@pytest.mark.slow
@pytest.mark.parametrize("m", [197, 2100])
def test_scores_without_ties(device: str, m: int) -> None:
    tensors, options = case(40, m, 64, m // 7, "plain", b=1, h=1)
    tensors = [torch.randn_like(t) for t in tensors]
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, torch.float32, device, 4.0)


def cut(q: Tensor, k: Tensor, topk: int, bias: Tensor | None, device: str) -> tuple[Tensor, Tensor]:
    """The keys that the kernel's cut keeps, and the scores, both on the CPU."""
    inputs = [t.float().to(device) for t in (q, k, k)]
    given = None if bias is None else bias.to(device)
    _, threshold, last, _ = torch.ops.fewpairs.knn_triton_forward(*inputs, given, topk, SCALE)
    scores = reference.logits(q.float(), k.float(), bias, SCALE)
    return inside(scores, Cut(threshold.unsqueeze(-1).cpu(), last.unsqueeze(-1).cpu())), scores


@pytest.mark.parametrize("chip", [64, 0], ids=["on_chip", "streaming"])
def test_the_cut_keeps_exactly_the_keys_of_the_rule(device: str, chip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties, constant rows, keys that are there twice, and rows of fewer keys than are wanted."""
    from fewpairs.ops.knn import triton_launch

    monkeypatch.setattr(triton_launch, "ON_CHIP", chip)
    monkeypatch.setattr(triton_launch, "tiles", lambda *_, **__: {"ROWS": 16, "KEYS": 32})
    q, k = whole_numbers(1, 1, 12, 16), whole_numbers(1, 1, 50, 16)
    q[:, :, ::4] = 0
    k[:, :, 1::2] = k[:, :, ::2]
    bias = torch.zeros(1, 1, 12, 50)
    bias[..., 3, 5:] = bias[..., 4, ::2] = -torch.inf
    stays, scores = cut(q, k, 9, bias, device)
    assert torch.equal(stays, kept(scores, 9))
    assert stays.sum(-1).tolist() == [[[9, 9, 9, 5, *[9] * 8]]]


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # NumPy's, which the interpreter calculates with
def test_a_row_that_is_not_a_number_spoils_no_other(device: str) -> None:
    q, k, v = (t.float() for t in case(6, 20, 16, 5, "plain", b=1, h=1)[0])
    q[0, 0, 1, 3], bias = torch.nan, torch.zeros(1, 1, 6, 20)
    bias[0, 0, 4, 2] = torch.inf
    expected = knn_attention(q, k, v, topk=5, bias=bias, scale=SCALE, kernel="reference")
    inputs = [t.to(device).requires_grad_() for t in (q, k, v)]
    out = knn_attention(*inputs, topk=5, bias=bias.to(device), scale=SCALE, kernel="triton")
    assert out.isnan().all(-1).cpu().squeeze().tolist() == [False, True, False, False, True, False]
    torch.testing.assert_close(out.detach().cpu(), expected, equal_nan=True)
    (dq,) = torch.autograd.grad(out.square().sum(), inputs[:1])
    assert dq.isnan().all(-1).cpu().squeeze().tolist() == [False, True, False, False, True, False]


def test_a_row_without_keys_is_zero(device: str) -> None:
    q, k, v = (t.float().to(device).requires_grad_() for t in case(3, 20, 16, 5, "plain", b=1, h=1)[0])
    mask = torch.ones(1, 1, 3, 20, dtype=torch.bool, device=device)
    mask[..., 1, :] = False
    out = triton.run_triton(q, k, v, topk=5, bias=mask, scale=SCALE, metric="dot")
    assert not out[:, :, 1].any()
    out.sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (q, k, v))


def test_strides_of_every_kind(device: str) -> None:
    """Heads beside one another, a key shared by all heads, a column-major bias, a width that is not contiguous."""
    q = whole_numbers(1, 9, 2, 16).float().to(device).transpose(1, 2)
    k = whole_numbers(1, 1, 20, 16).float().to(device).expand(1, 2, 20, 16)
    v = torch.randn(1, 2, 24, 20, device=device).mT
    bias = (whole_numbers(1, 1, 20, 9).float() / 8).to(device).mT
    options: dict[str, Any] = {"topk": 7, "bias": bias, "scale": SCALE, "metric": "dot"}
    expected = reference.masked(q, k, v, **options)
    torch.testing.assert_close(triton.run_triton(q, k, v, **options), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
def test_registration_is_sound(device: str) -> None:
    inputs = [t.float().to(device).requires_grad_() for t in case(3, 5, 16, 2, "plain", b=1, h=1)[0]]
    bias = torch.randn(1, 1, 3, 5, device=device, requires_grad=True)
    torch.library.opcheck(torch.ops.fewpairs.knn_triton_forward, (*inputs, bias, 2, 0.5))


def test_a_second_derivative_is_the_references(device: str) -> None:
    ours, truth = (partial(knn_attention, topk=2, kernel=kernel) for kernel in ("triton", "reference"))
    compare_second_derivatives(ours, truth, *[t.to(device) for t in case(3, 5, 16, 2, "plain", b=1, h=1)[0]])


def test_no_work_is_no_launch(device: str) -> None:
    q, k = torch.empty(0, 2, 3, 16, device=device), torch.empty(0, 2, 5, 16, device=device)
    assert triton.run_triton(q, k, k, topk=2, bias=None, scale=1.0, metric="dot").shape == (0, 2, 3, 16)
    q, k = torch.empty(1, 2, 0, 16, device=device), torch.randn(1, 2, 5, 16, device=device, requires_grad=True)
    triton.run_triton(q, k, k, topk=2, bias=None, scale=1.0, metric="dot").sum().backward()
    assert k.grad is not None
    assert not k.grad.any()


def test_it_is_chosen_where_it_can_run(device: str) -> None:
    q, k, v = (t.float().to(device) for t in case(3, 5, 16, 2, "plain")[0])
    options: dict[str, Any] = {"topk": 2, "bias": None, "scale": 1.0}
    assert named(KERNELS).refuse(q, k, v, **options, metric="dot") is None
    assert "euclidean" in str(named(KERNELS).refuse(q, k, v, **options, metric="euclidean"))
