"""Second derivatives against the reference in float64; tests of several kernels use this."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def compare_second_derivatives(ours: Callable[..., Tensor], truth: Callable[..., Tensor], *tensors: Tensor) -> None:
    """The gradient of the first derivative's square, for every tensor; `truth` gets them in float64."""
    seen = []
    for function, dtype in ((ours, torch.float32), (truth, torch.float64)):
        leaves = [t.detach().to(dtype).requires_grad_() for t in tensors]
        first = torch.autograd.grad(function(*leaves).sin().sum(), leaves, create_graph=True)
        seen.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
    for mine, exact in zip(*seen, strict=True):
        assert exact.abs().max() > 0
        torch.testing.assert_close(mine.double(), exact, rtol=1e-4, atol=1e-4 * exact.abs().max().item())
