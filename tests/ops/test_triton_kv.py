"""Key-value attention by Triton: the output and gradients of the reference."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from second_derivatives import compare_second_derivatives
from torch import Tensor
from triton_cases import DEVICES, DTYPES, assert_as_exact_as_its_dtype, named

from fewpairs.ops import kv_attention
from fewpairs.ops.kv import KERNELS, triton

pytestmark = pytest.mark.parametrize("device", DEVICES)

OPTIONS = ("plain", "position", "by_head", "pairs", "everything", "mask")


def case(n: int, d: int, option: str, *, b: int = 2, h: int = 2) -> tuple[list[Tensor], dict[str, Any]]:
    double = torch.float64
    tensors = [torch.randn(b, h, n, d, dtype=double), torch.randn(b, h, n, d + 5, dtype=double)]
    options: dict[str, Any] = {"gain": None, "key_bias": None, "bias": None, "scale": d**-0.5}
    if option in ("position", "everything"):
        options |= {"gain": torch.tensor(-0.7, dtype=double), "key_bias": torch.randn(n, dtype=double)}
    if option == "by_head":
        options |= {"gain": torch.randn(h, dtype=double) / 2, "key_bias": torch.randn(h, n, dtype=double)}
    if option in ("pairs", "everything"):
        options["bias"] = torch.randn(1, h, n, n, dtype=double)
    if option == "mask":
        options["bias"] = torch.rand(b, 1, n, n) > 0.4
        options["bias"][..., 0, :] = False
    return tensors, options


@pytest.mark.parametrize(("n", "option"), [(1, "everything"), *((17, option) for option in OPTIONS)])
def test_output_and_gradients(device: str, n: int, option: str) -> None:
    tensors, options = case(n, 24, option)
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, torch.float32, device, 12.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_output_and_gradients_in_half_the_bits(device: str, dtype: torch.dtype) -> None:
    tensors, options = case(49, 32, "everything", h=1)
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, dtype, device, 12.0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "d"), [(197, 64), (197, 96), (70, 120)])
@pytest.mark.parametrize("option", OPTIONS)
def test_output_and_gradients_of_longer_rows(device: str, n: int, d: int, option: str, dtype: torch.dtype) -> None:
    tensors, options = case(n, d, option, b=1)
    assert_as_exact_as_its_dtype(KERNELS, tensors, options, dtype, device, 20.0)


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # NumPy's, which the interpreter calculates with
def test_a_row_that_is_not_a_number_spoils_no_other(device: str) -> None:
    (k, v), options = case(6, 16, "plain", b=1, h=1)
    bias = torch.zeros(1, 1, 6, 6)
    bias[0, 0, 1, 3], bias[0, 0, 4, 2] = torch.nan, torch.inf
    out = triton.run_triton(k.float().to(device), v.float().to(device), **options | {"bias": bias.to(device)})
    expected = kv_attention(k.float(), v.float(), bias=bias, kernel="reference")
    assert out.isnan().all(-1).cpu().squeeze().tolist() == [False, True, False, False, True, False]
    torch.testing.assert_close(out.cpu(), expected, equal_nan=True)


def test_strides_of_every_kind(device: str) -> None:
    k = torch.randn(2, 9, 3, 16, device=device).transpose(1, 2)
    v = torch.randn(1, 3, 20, 9, device=device).mT.expand(2, 3, 9, 20)
    bias = torch.randn(2, 1, 9, 9, device=device).mT
    options: dict[str, Any] = {"gain": None, "key_bias": None, "bias": bias, "scale": 0.25}
    torch.testing.assert_close(triton.run_triton(k, v, **options), KERNELS[-1].run(k, v, **options))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
def test_registration_is_sound(device: str) -> None:
    tensors, options = case(5, 16, "everything", b=1, h=1)
    k, v = (t.float().to(device).requires_grad_() for t in tensors)
    terms = [options[name].float().to(device).requires_grad_() for name in ("gain", "key_bias", "bias")]
    torch.library.opcheck(torch.ops.fewpairs.kv_triton_forward, (k, v, *terms, 0.25))


def test_a_second_derivative_is_the_references(device: str) -> None:
    ours, truth = (partial(kv_attention, kernel=kernel) for kernel in ("triton", "reference"))
    compare_second_derivatives(ours, truth, *[t.to(device) for t in case(5, 16, "plain", b=1, h=1)[0]])


def test_autocast_runs_in_its_dtype(device: str) -> None:
    k, v = (t.float().to(device) for t in case(5, 16, "plain", b=1, h=1)[0])
    with torch.autocast(device, torch.bfloat16):
        out = kv_attention(k, v, kernel="triton")
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, kv_attention(k.bfloat16(), v.bfloat16(), kernel="triton"))


def test_no_work_is_no_launch(device: str) -> None:
    k = torch.empty(0, 2, 3, 16, device=device)
    assert kv_attention(k, k, kernel="triton").shape == k.shape
    assert named(KERNELS).refuse(k[:, :, :0], k[:, :, :0], gain=None, key_bias=None, scale=1.0) is not None


@pytest.mark.parametrize("size", [100.0, 1000.0])
def test_the_gain_where_one_key_has_all_the_weight(device: str, size: float) -> None:
    """Against float64, at most twice as far off as the reference in float32, and one rounding of the output."""
    k, v = torch.randn(2, 1, 2, 17, 33, dtype=torch.float64).float().double()
    gain = torch.tensor([size, -size], dtype=torch.float64)
    options = {"key_bias": None, "bias": None, "scale": 0.125}

    def gradient(name: str, dtype: torch.dtype) -> Tensor:
        leaf = gain.to(device, dtype).requires_grad_()
        out = named(KERNELS, name).run(k.to(device, dtype), v.to(device, dtype), gain=leaf, **options)
        return torch.autograd.grad((out * torch.linspace(-1, 1, 33, device=device, dtype=dtype)).sum(), leaf)[0].cpu()

    exact = gradient("reference", torch.float64)
    far, plain = ((gradient(name, torch.float32) - exact).abs().max() for name in ("triton", "reference"))
    assert far <= 2 * plain + torch.finfo(torch.float32).eps
