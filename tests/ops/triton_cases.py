"""How Triton's kernels are tested: on a CUDA device, or on the CPU under Triton's interpreter.

The interpreter must be switched on before Triton is imported, so `test_triton_interpreted` runs these tests in a
process of their own; in an ordinary one without a GPU they are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewpairs.ops.dispatch import Kernel
from fewpairs.ops.triton.refusal import INTERPRETED

DEVICES = [
    pytest.param("cuda", marks=pytest.mark.gpu),
    pytest.param("cpu", marks=pytest.mark.skipif(not INTERPRETED, reason="the interpreter is off")),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def named(kernels: tuple[Kernel, ...], name: str = "triton") -> Kernel:
    return next(kernel for kernel in kernels if kernel.name == name)


def results(run: Callable[..., Tensor], tensors: list[Tensor], options: dict[str, Any]) -> list[Tensor]:
    """Output, then the gradient of every floating input, in float64 on the CPU."""

    def leaf(value: Any) -> Any:
        learned = isinstance(value, Tensor) and value.is_floating_point()
        return value.detach().requires_grad_() if learned else value

    inputs, given = [leaf(t) for t in tensors], {key: leaf(value) for key, value in options.items()}
    output = run(*inputs, **given)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64, device=output.device).reshape(output.shape)
    (output.double() * weights).sum().backward()
    leaves = [t for t in (*inputs, *given.values()) if isinstance(t, Tensor) and t.requires_grad]
    return [output.detach().cpu().double(), *(t.grad.cpu().double() for t in leaves)]


def assert_as_exact_as_its_dtype(
    kernels: tuple[Kernel, ...],
    tensors: list[Tensor],
    options: dict[str, Any],
    dtype: torch.dtype,
    device: str,
    logit: float,
) -> None:
    """Output and every gradient: off by at most twice what the plain reference is off in `dtype`, plus one rounding.

    The yardstick of `tests/contracts/test_kernels.py`, on one draw instead of the mean of several, for which a whole
    rounding of the log-sum-exp is allowed; `logit` bounds every log-sum-exp.
    """

    def cast(value: Any, to: torch.dtype) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(device)
        return value.to(dtype).to(to) if value.is_floating_point() else value

    def given(to: torch.dtype) -> tuple[list[Tensor], dict[str, Any]]:
        return [cast(t, to) for t in tensors], {key: cast(value, to) for key, value in options.items()}

    kernel, reference = named(kernels), kernels[-1]
    assert kernel.refuse(*given(dtype)[0], **given(dtype)[1]) is None
    truth = results(reference.run, *given(torch.float64))
    peers = results(reference.run, *given(dtype))
    ours = results(kernel.run, *given(dtype))
    single = torch.finfo(torch.float32).eps
    for place, (mine, peer, exact) in enumerate(zip(ours, peers, truth, strict=True)):
        size = max(exact.abs().max().item(), 1e-9) if exact.abs().max() > 1e-9 else truth[0].abs().max().item()
        summed = max(1.0, truth[0].numel() / exact.numel()) ** 0.5
        floor = size * (torch.finfo(dtype).eps + single * summed + single * logit)
        error, allowed = (mine - exact).abs().max(), 2 * (peer - exact).abs().max() + floor
        assert error <= allowed, (place, error.item(), allowed.item())
