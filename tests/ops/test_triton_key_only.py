"""Key-only attention by Triton: the output and gradients of the reference."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from second_derivatives import compare_second_derivatives
from torch import Tensor
from triton_cases import DEVICES, DTYPES, assert_as_exact_as_its_dtype

from fewpairs.ops import key_only_attention
from fewpairs.ops.key_only import KERNELS

pytestmark = pytest.mark.parametrize("device", DEVICES)

OPTIONS = ("plain", "logits", "channels", "mask", "gate")


def case(n: int, d: int, option: str, *, b: int = 2, h: int = 2) -> tuple[list[Tensor], dict[str, Any]]:
    k, v = torch.randn(2, b, h, n, d, dtype=torch.float64)
    options: dict[str, Any] = {"mask": None, "gate": None}
    saliency = {"logits": torch.randn(b, h, n), "channels": torch.randn(b, h, n, d)}.get(option, torch.randn(h, d))
    if option in ("mask", "channels"):
        options["mask"] = (torch.rand(b, 1, n) > 0.4).expand(b, h, n)
        options["mask"] = options["mask"] & (torch.arange(b) > 0)[:, None, None]
    if option == "gate":
        options["gate"] = torch.randn(b, h, n, d, dtype=torch.float64)
    return [k, v, saliency.double()], options


@pytest.mark.parametrize(
    ("n", "option", "dtype"),
    [
        (1, "plain", torch.float32),
        *((17, option, torch.float32) for option in OPTIONS),
        (49, "plain", torch.bfloat16),
        (49, "gate", torch.float16),
    ],
)
def test_output_and_gradients(device: str, n: int, option: str, dtype: torch.dtype) -> None:
    tensors, options = case(n, 24, option)
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, dtype, device, 20.0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "d"), [(197, 64), (700, 96)])
@pytest.mark.parametrize("option", OPTIONS)
def test_output_and_gradients_of_more_positions(device: str, n: int, d: int, option: str, dtype: torch.dtype) -> None:
    tensors, options = case(n, d, option)
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, dtype, device, 40.0)


def test_shares_of_the_positions_are_joined(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewpairs.ops.key_only import triton_launch

    monkeypatch.setattr(triton_launch, "ROWS", 16)
    assert triton_launch.shares(1, 200) == (64, 4)
    tensors, options = case(200, 16, "mask", b=2, h=1)
    tensors[0][:, :, 130:] *= 3  # the largest logits come last
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, torch.float32, device, 40.0)


def test_strides_of_every_kind(device: str) -> None:
    k = torch.randn(2, 9, 3, 16, device=device).transpose(1, 2)
    v = torch.randn(1, 3, 16, 9, device=device).mT.expand(2, 3, 9, 16)
    logits = torch.randn(9, 3, 2, device=device).permute(2, 1, 0)
    for saliency in (torch.randn(16, 3, device=device).mT, logits, torch.randn(2, 3, 16, 9, device=device).mT):
        expected = key_only_attention(k, v, saliency, kernel="reference")
        torch.testing.assert_close(key_only_attention(k, v, saliency, kernel="triton"), expected)


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # NumPy's, which the interpreter calculates with
def test_not_a_number_spoils_its_own_head_alone(device: str) -> None:
    k, v, w = (t.float().to(device) for t in case(9, 16, "plain")[0])
    k[1, 1, 5, 0] = torch.nan
    out = key_only_attention(k, v, w, kernel="triton")
    assert out[1, 1].isnan().all()
    out[1, 1] = 0
    assert out.isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
@pytest.mark.parametrize("option", ["plain", "gate"])
def test_registration_is_sound(device: str, option: str) -> None:
    tensors, options = case(5, 16, option, b=1, h=1)
    inputs = [t.float().to(device).requires_grad_() for t in tensors]
    gate = None if options["gate"] is None else options["gate"].float().to(device).requires_grad_()
    torch.library.opcheck(torch.ops.fewpairs.key_only_triton_forward, (*inputs, None, gate))


def test_a_second_derivative_is_the_references(device: str) -> None:
    ours, truth = (partial(key_only_attention, kernel=kernel) for kernel in ("triton", "reference"))
    compare_second_derivatives(ours, truth, *[t.to(device) for t in case(5, 16, "plain", b=1, h=1)[0]])
