"""Reasons why Triton kernels cannot run, determined without importing Triton."""

from __future__ import annotations

import importlib.util
import os

import torch
from torch import Tensor

from fewpairs.ops.transforms import refuse_export

MISSING = importlib.util.find_spec("triton") is None
INTERPRETED = os.environ.get("TRITON_INTERPRET", "") not in ("", "0")
"""Whether Triton's interpreter runs kernels on the CPU, as in tests."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 128
OLDEST = 8
"""The compute capability from which tensor cores multiply bfloat16."""


def refuse_arguments(tensors: tuple[Tensor, ...], widths: tuple[int, ...], *others: Tensor | None) -> str | None:
    """Return the reason why Triton kernels cannot run tensors with heads of these widths beside others, or None."""
    first = tensors[0]
    if (reason := refuse_export(*tensors, *others)) is not None:
        return reason
    if MISSING:
        return "Triton is not installed"
    if INTERPRETED:
        if not all(tensor.is_cpu or tensor.is_cuda for tensor in tensors):
            return "Triton's interpreter supports only tensors on a CPU or on CUDA"
    elif not all(tensor.is_cuda for tensor in tensors):
        return "the tensors are not on a CUDA device"
    elif torch.version.hip is not None:
        return "it supports only NVIDIA GPUs"
    elif torch.cuda.get_device_properties(first.device).major < OLDEST:
        return f"the GPU is older than compute capability {OLDEST}.0"
    if first.dtype not in DTYPES or any(tensor.dtype != first.dtype for tensor in tensors):
        names = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))
        return f"the tensors must share one of float32, bfloat16 and float16, not {names}"
    if max(widths) > WIDEST:
        return f"heads are {max(widths)} wide, and {WIDEST} is the limit"
    return None
