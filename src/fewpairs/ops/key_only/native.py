"""Key-only attention on a CPU in C++, which reads keys and values once and the gate once more.

This module registers the source `csrc/key_only.cpp` as two PyTorch operators with shapes and a derivative. Beside
inputs and output, one vector and one number per head (one vector, for logits per channel) are kept for the backward
pass.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewpairs.ops import native
from fewpairs.ops.key_only import reference
from fewpairs.ops.native.layout import TensorArgument, argument, empty_heads_last, rows
from fewpairs.ops.register import Operator, register
from fewpairs.ops.transforms import refuse_export

LIBRARY = native.Library("key_only", Path(__file__).parent / "csrc" / "key_only.cpp")
DTYPES = (torch.float32, torch.bfloat16)
KINDS = {2: 0, 3: 1, 4: 2}
"""Numbers the kinds of saliency by dimension as the C++ source does: vector per head, logits, channel logits."""


class _Arguments(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "threads")),
        *((name, TensorArgument) for name in ("k", "v", "gate", "saliency", "mask", "pooled", "log_sum")),
    )


class _Gradients(ctypes.Structure):
    _fields_ = (
        *((name, TensorArgument) for name in ("grad", "dk", "dv", "dgate", "dlogits", "dvector")),
        ("gate_is_key", ctypes.c_int32),
    )


def refuse_native(k: Tensor, v: Tensor, saliency: Tensor, **options: Any) -> str | None:
    """Return the reason why the C++ kernel cannot run these arguments, or None."""
    if k.device.type != "cpu":
        return f"it runs on a CPU, and the tensors are on {k.device}"
    if k.dtype not in DTYPES:
        return f"it takes float32 and bfloat16, not {k.dtype}"
    if not all(k.shape):
        return "a dimension is of size zero"
    return refuse_export(k, v, saliency, *options.values()) or LIBRARY.unavailable()


def key_only_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """Compute `reference.key_only_attention`; it is differentiable once."""
    keys = k if saliency.ndim == 2 or gate is None else None
    out: Tensor = torch.ops.fewpairs.key_only_native_forward(keys, v, saliency, mask, gate)[0]
    return out


def _forward(
    k: Tensor | None, v: Tensor, saliency: Tensor, mask: Tensor | None, gate: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    out, pooled, log_sum = _forward_shapes(k, v, saliency)
    inputs = _Inputs(k, v, saliency, mask, gate)
    call = LIBRARY.function("fewpairs_key_only_forward", ctypes.POINTER(_Arguments), ctypes.POINTER(TensorArgument))
    arguments = inputs.arguments(pooled, log_sum)
    native.check(call(ctypes.byref(arguments), ctypes.byref(argument(out))), "key-only attention")
    return out, pooled, log_sum


def _forward_shapes(_k: Tensor | None, v: Tensor, saliency: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor]:
    b, h, _, d = v.shape
    logs = (b, h, d) if saliency.ndim == 4 else (b, h)
    return empty_heads_last(v), v.new_empty((b, h, d), dtype=torch.float32), v.new_empty(logs, dtype=torch.float64)


def _backward(
    grad: Tensor,
    k: Tensor | None,
    v: Tensor,
    saliency: Tensor,
    mask: Tensor | None,
    gate: Tensor | None,
    pooled: Tensor,
    log_sum: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dk, dv, dsaliency, dgate = _backward_shapes(grad, k, v, saliency, mask, gate)
    inputs, grad = _Inputs(k, v, saliency, mask, gate), rows(grad)
    vector = saliency.new_zeros(saliency.shape, dtype=torch.float64) if saliency.ndim == 2 else None
    dlogits = dsaliency if dsaliency.dtype in DTYPES else dsaliency.float()
    gradients = _Gradients(
        *(argument(x) for x in (grad, None if k is None else dk, dv, None if gate is None else dgate)),
        argument(dlogits if vector is None else None),
        argument(vector),
        gate is None,
    )
    call = LIBRARY.function("fewpairs_key_only_backward", ctypes.POINTER(_Arguments), ctypes.POINTER(_Gradients))
    arguments = inputs.arguments(pooled, log_sum)
    native.check(call(ctypes.byref(arguments), ctypes.byref(gradients)), "key-only attention's backward pass")
    return dk, dv, (dlogits if vector is None else vector).to(saliency.dtype), dgate


def _backward_shapes(
    _grad: Tensor, k: Tensor | None, v: Tensor, saliency: Tensor, _mask: Tensor | None, gate: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    empty = v.new_empty(0)
    return (
        empty if k is None else empty_heads_last(v),
        empty_heads_last(v),
        saliency.new_empty(saliency.shape),
        empty.clone() if gate is None else empty_heads_last(v),
    )


register(
    Operator(
        "key_only_native_forward(Tensor? k, Tensor v, Tensor saliency, Tensor? mask, Tensor? gate)"
        " -> (Tensor out, Tensor pooled, Tensor log_sum)",
        _forward,
        _forward_shapes,
    ),
    Operator(
        "key_only_native_backward(Tensor grad, Tensor? k, Tensor v, Tensor saliency, Tensor? mask, Tensor? gate,"
        " Tensor pooled, Tensor log_sum) -> (Tensor d_k, Tensor d_v, Tensor d_saliency, Tensor d_gate)",
        _backward,
        _backward_shapes,
    ),
    reference=lambda k, v, saliency, mask, gate: reference.key_only_attention(
        v if k is None else k, v, saliency, mask=mask, gate=gate
    ),
    device="cpu",
)


class _Inputs:
    """The inputs as the C++ source reads them; this object keeps them alive."""

    def __init__(self, k: Tensor | None, v: Tensor, saliency: Tensor, mask: Tensor | None, gate: Tensor | None) -> None:
        self.k, self.gate = (x if x is None else rows(x) for x in (k, gate))
        self.v, self.mask = rows(v), mask
        self.saliency = saliency if saliency.dtype in DTYPES else saliency.float()
        if saliency.ndim == 4:
            self.saliency = rows(self.saliency)

    def arguments(self, pooled: Tensor, log_sum: Tensor) -> _Arguments:
        gate = self.k if self.gate is None else self.gate
        vector = self.saliency.ndim == 2
        return _Arguments(
            *(KINDS[self.saliency.ndim], torch.get_num_threads()),
            *(argument(x) for x in (self.k, self.v, gate)),
            argument(self.saliency, (1, 3) if vector else (0, 1, 2, 3)),
            *(argument(x) for x in (self.mask, pooled, log_sum)),
        )
