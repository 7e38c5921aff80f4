"""k-NN attention on a CPU in C++: exact, in cache, and faster than dense attention if few keys are kept.

This module registers the source `csrc/knn.cpp` as two PyTorch operators with shapes and a derivative. The forward pass
keeps the keys and weights of each row (6 bytes each) for the backward pass, or, if these are large compared with the
inputs, three numbers per row, from which the backward pass selects the keys again.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewpairs.ops import native
from fewpairs.ops.knn.masked import run_masked
from fewpairs.ops.native.layout import TensorArgument, argument, empty_heads_last, present, rows
from fewpairs.ops.register import Operator, register
from fewpairs.ops.transforms import refuse_export

LIBRARY = native.Library("knn", Path(__file__).parent / "csrc" / "knn.cpp")
DTYPES = (torch.float32, torch.bfloat16)
LISTS_AT_LEAST = 64 * 2**20
"""Lists of at most this size in bytes are always kept."""
LISTS_AT_MOST = 2.0
"""Larger lists are kept up to this multiple of the size of q, k, v and output in float32."""
LONGEST_LISTED = 2**15
"""The number of keys that a 16-bit index can address."""


class _Arguments(ctypes.Structure):
    _fields_ = (
        ("topk", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("threads", ctypes.c_int32),
        *((name, TensorArgument) for name in ("q", "k", "v", "bias")),
        *((name, TensorArgument) for name in ("index", "weight", "threshold", "last", "log_sum")),
    )


class _Gradients(ctypes.Structure):
    _fields_ = tuple((name, TensorArgument) for name in ("out", "grad", "dq", "dk", "dv", "dbias"))


class Kept(NamedTuple):
    """The kept tensors: lists `[b h n topk]`, or the cut and log-sum-exp `[b h n]`; others are empty."""

    listed: Tensor
    weight: Tensor
    threshold: Tensor
    last: Tensor
    log_sum: Tensor


def refuse_native(
    q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str
) -> str | None:
    """Return the reason why the C++ kernel cannot run these arguments, or None."""
    if q.device.type != "cpu":
        return f"it runs on a CPU, and the tensors are on {q.device}"
    if q.dtype not in DTYPES:
        return f"it takes float32 and bfloat16, not {q.dtype}"
    if metric != "dot":
        return f"it selects keys by score (metric='dot'), not by metric={metric!r}"
    return refuse_export(q, k, v, bias) or LIBRARY.unavailable()


def run_native(q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str) -> Tensor:
    """Compute `[b h n d], [b h m d], [b h m e] -> [b h n e]`; it is differentiable once."""
    learned = (q, k, v) if bias is None else (q, k, v, bias)
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in learned)
    out: Tensor = torch.ops.fewpairs.knn_native_forward(q, k, v, bias, topk, float(scale), keep)[0]
    return out


def _forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, topk: int, scale: float, keep: bool
) -> tuple[Tensor, ...]:
    q, k, v = (rows(x) for x in (q, k, v))
    out, kept = _empty_results(q, k, v, topk, keep)
    if not out.numel():
        return out, *kept
    bias = _plain_bias(bias)
    arguments = _arguments(q, k, v, bias, topk, scale, kept)
    call = LIBRARY.function("fewpairs_knn_forward", ctypes.POINTER(_Arguments), ctypes.POINTER(TensorArgument))
    native.check(call(ctypes.byref(arguments), ctypes.byref(argument(out))), "k-NN attention")
    return out, *kept


def _forward_shapes(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, topk: int, scale: float, keep: bool
) -> tuple[Tensor, ...]:
    out, kept = _empty_results(q, k, v, topk, keep)
    return out, *kept


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *kept, topk, scale, bias_learns = rest
    grad, q, k, v, out = (rows(x) for x in (grad, q, k, v, out))
    dq, dk, dv = (empty_heads_last(x) for x in (q, k, v))
    plain = _plain_bias(bias)
    if plain is not None and bias_learns:
        plain = plain.contiguous()
    dbias = q.new_zeros(plain.shape if plain is not None and bias_learns else 0, dtype=torch.float32)
    if not grad.numel():
        return dq.zero_(), dk.zero_(), dv.zero_(), dbias
    arguments = _arguments(q, k, v, plain, topk, scale, Kept(*kept))
    gradients = _Gradients(*(argument(x) for x in (out, grad, dq, dk, dv, present(dbias))))
    call = LIBRARY.function("fewpairs_knn_backward", ctypes.POINTER(_Arguments), ctypes.POINTER(_Gradients))
    native.check(call(ctypes.byref(arguments), ctypes.byref(gradients)), "k-NN attention's backward pass")
    return dq, dk, dv, dbias if bias is None or not bias_learns else dbias.to(bias.dtype)


def _backward_shapes(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    learned = bias is not None and rest[-1]
    dbias = bias.new_empty(bias.shape) if bias is not None and learned else q.new_empty(0, dtype=torch.float32)
    return empty_heads_last(q), empty_heads_last(k), empty_heads_last(v), dbias


register(
    Operator(
        "knn_native_forward(Tensor q, Tensor k, Tensor v, Tensor? bias, SymInt topk, float scale, bool keep)"
        " -> (Tensor out, Tensor index, Tensor weight, Tensor threshold, Tensor last, Tensor log_sum)",
        _forward,
        _forward_shapes,
    ),
    Operator(
        "knn_native_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor out, Tensor index,"
        " Tensor weight, Tensor threshold, Tensor last, Tensor log_sum, SymInt topk, float scale, bool bias_learns)"
        " -> (Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_bias)",
        _backward,
        _backward_shapes,
    ),
    reference=lambda q, k, v, bias, topk, scale, keep: run_masked(
        q, k, v, topk=topk, bias=bias, scale=scale, metric="dot"
    ),
    device="cpu",
)


def _empty_results(q: Tensor, k: Tensor, v: Tensor, topk: int, keep: bool) -> tuple[Tensor, Kept]:
    """Allocate the output, with heads as the last but one dimension in memory, and the kept tensors."""
    (b, h, n, d), m, e = q.shape, k.shape[2], v.shape[3]
    out = empty_heads_last(q, v)
    inputs = 4 * b * h * (n + m) * (d + e)
    lists = keep and m <= LONGEST_LISTED and 6 * b * h * n * topk <= max(LISTS_AT_LEAST, LISTS_AT_MOST * inputs)
    entries, cuts = ((b, h, n, topk) if lists else (0,)), ((b, h, n) if keep and not lists else (0,))
    return out, Kept(
        q.new_empty(entries, dtype=torch.int16),
        q.new_empty(entries, dtype=torch.float32),
        q.new_empty(cuts, dtype=torch.float32),
        q.new_empty(cuts, dtype=torch.int32),
        q.new_empty(cuts, dtype=torch.float32),
    )


def _plain_bias(bias: Tensor | None) -> Tensor | None:
    """Return the bias as float32, or as one byte per pair."""
    if bias is None:
        return None
    return rows(bias.view(torch.uint8) if bias.dtype == torch.bool else bias.detach().to(torch.float32))


def _arguments(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, topk: int, scale: float, kept: Kept) -> _Arguments:
    tensors = (q, k, v, bias, *(present(x) for x in kept))
    return _Arguments(topk, scale, torch.get_num_threads(), *(argument(x) for x in tensors))
