"""Key-value attention on a CPU in C++: each block of k kᵀ is computed once and used for its rows and its columns.

This module registers the source `csrc/kv.cpp` as two PyTorch operators with shapes and a derivative. Beside inputs and
output, two numbers per key and head are kept for the backward pass.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewpairs.ops import native
from fewpairs.ops.kv import reference
from fewpairs.ops.native.layout import TensorArgument, argument, empty_heads_last, rows
from fewpairs.ops.register import Operator, register
from fewpairs.ops.transforms import refuse_export

LIBRARY = native.Library("kv", Path(__file__).parent / "csrc" / "kv.cpp")
DTYPES = (torch.float32, torch.bfloat16)
BIASES = (torch.bool, torch.float32, torch.bfloat16)
"""The dtypes of a bias of pairs that the C++ source reads."""


class _Arguments(ctypes.Structure):
    _fields_ = (
        ("scale", ctypes.c_double),
        ("threads", ctypes.c_int32),
        *((name, TensorArgument) for name in ("k", "v", "gain", "key_bias", "bias", "highest", "totals")),
    )


class _Gradients(ctypes.Structure):
    _fields_ = (*((name, TensorArgument) for name in ("out", "grad", "dk", "dv", "dgain", "dkey_bias", "dbias")),)


def refuse_native(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> str | None:
    """Return the reason why the C++ kernel cannot run these arguments, or None."""
    if k.device.type != "cpu":
        return f"it runs on a CPU, and the tensors are on {k.device}"
    if k.dtype not in DTYPES or v.dtype != k.dtype:
        return f"it takes k and v both in float32 or both in bfloat16, not in {k.dtype} and {v.dtype}"
    if not all((*k.shape, v.shape[-1])):
        return "a dimension is of size zero"
    return refuse_export(k, v, gain, key_bias, bias) or LIBRARY.unavailable()


def run_native(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> Tensor:
    """Compute `[b h n d], [b h n e] -> [b h n e]`; it is differentiable once."""
    if bias is not None:
        bias = bias.expand(*bias.shape[:2], k.shape[2], k.shape[2])
    out: Tensor = torch.ops.fewpairs.kv_native_forward(k, v, gain, key_bias, bias, float(scale))[0]
    return out


def _forward(
    k: Tensor, v: Tensor, gain: Tensor | None, key_bias: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    out, highest, totals = _forward_shapes(k, v)
    k, v = rows(k), rows(v)
    terms = _ScoreTerms(k, gain, key_bias, bias)
    arguments = _arguments(k, v, terms, scale, highest, totals)
    call = LIBRARY.function("fewpairs_kv_forward", ctypes.POINTER(_Arguments), ctypes.POINTER(TensorArgument))
    native.check(call(ctypes.byref(arguments), ctypes.byref(argument(out))), "key-value attention")
    return out, highest, totals


def _forward_shapes(k: Tensor, v: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor]:
    highest, totals = (k.new_empty(k.shape[:3], dtype=torch.float32) for _ in range(2))
    return empty_heads_last(v), highest, totals


def _backward(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    gain: Tensor | None,
    key_bias: Tensor | None,
    bias: Tensor | None,
    out: Tensor,
    highest: Tensor,
    totals: Tensor,
    scale: float,
    gain_learns: bool,
    key_bias_learns: bool,
    bias_learns: bool,
) -> tuple[Tensor, ...]:
    dk, dv = empty_heads_last(k), empty_heads_last(v)
    grad, k, v, out = (rows(x) for x in (grad, k, v, out))
    terms = _ScoreTerms(k, gain, key_bias, bias)
    dgain = None if gain is None or not gain_learns else k.new_empty(k.shape[:2], dtype=torch.float64)
    dkey_bias = _gradient_buffer(terms.key_bias, key_bias_learns, torch.float64)
    dbias = _gradient_buffer(terms.bias, bias_learns, torch.float32)
    gradients = _Gradients(*(argument(x) for x in (out, grad, dk, dv, dgain, dkey_bias, dbias)))
    arguments = _arguments(k, v, terms, scale, highest, totals)
    call = LIBRARY.function("fewpairs_kv_backward", ctypes.POINTER(_Arguments), ctypes.POINTER(_Gradients))
    native.check(call(ctypes.byref(arguments), ctypes.byref(gradients)), "key-value attention's backward pass")
    if dgain is not None and gain is not None:
        dgain = dgain.sum(0) if gain.numel() > 1 else dgain.sum()
    others = (_reshaped(x, like, k) for x, like in zip((dgain, dkey_bias, dbias), (gain, key_bias, bias), strict=True))
    return dk, dv, *others


def _backward_shapes(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    gain: Tensor | None,
    key_bias: Tensor | None,
    bias: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, ...]:
    learned = zip((gain, key_bias, bias), rest[-3:], strict=True)
    others = (x.new_empty(x.shape) if x is not None and learns else k.new_empty(0) for x, learns in learned)
    return empty_heads_last(k), empty_heads_last(v), *others


register(
    Operator(
        "kv_native_forward(Tensor k, Tensor v, Tensor? gain, Tensor? key_bias, Tensor? bias, float scale)"
        " -> (Tensor out, Tensor highest, Tensor totals)",
        _forward,
        _forward_shapes,
    ),
    Operator(
        "kv_native_backward(Tensor grad, Tensor k, Tensor v, Tensor? gain, Tensor? key_bias, Tensor? bias, Tensor out,"
        " Tensor highest, Tensor totals, float scale, bool gain_learns, bool key_bias_learns, bool bias_learns)"
        " -> (Tensor d_k, Tensor d_v, Tensor d_gain, Tensor d_key_bias, Tensor d_bias)",
        _backward,
        _backward_shapes,
    ),
    reference=reference.kv_attention,
    device="cpu",
)


class _ScoreTerms:
    """The gain and biases of the scores, as the C++ source reads them."""

    def __init__(self, k: Tensor, gain: Tensor | None, key_bias: Tensor | None, bias: Tensor | None) -> None:
        h, n = k.shape[1:3]
        self.gain = None if gain is None else gain.float().reshape(-1).expand(h).contiguous()
        self.key_bias = None if key_bias is None else key_bias.float().reshape(-1, n).contiguous()
        self.bias = bias if bias is None or bias.dtype in BIASES else bias.float()


def _gradient_buffer(like: Tensor | None, learns: bool, dtype: torch.dtype) -> Tensor | None:
    """Return zeros for a gradient, or None if there is none."""
    return None if like is None or not learns else like.new_zeros(like.shape, dtype=dtype)


def _reshaped(gradient: Tensor | None, like: Tensor | None, k: Tensor) -> Tensor:
    """Return the gradient in dtype and shape of `like`, or an empty tensor for None."""
    if gradient is None or like is None:
        return k.new_empty(0)
    return gradient.to(like.dtype).reshape(like.shape)


def _arguments(k: Tensor, v: Tensor, terms: _ScoreTerms, scale: float, highest: Tensor, totals: Tensor) -> _Arguments:
    """Build the C++ arguments; `terms` must stay alive as long as they do."""
    tensors = (k, v, terms.gain, terms.key_bias, terms.bias, highest, totals)
    return _Arguments(scale, torch.get_num_threads(), *(argument(x) for x in tensors))
