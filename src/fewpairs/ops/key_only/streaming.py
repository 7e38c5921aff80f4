"""Key-only attention in one stream over the positions, as PyTorch operators around the loops of `passes`.

`torch.compile` sees two nodes and never the loops. Beside inputs and output, one vector and one number a head are kept
for the backward pass.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.key_only import passes


def refuse_streaming(k: Tensor, v: Tensor, saliency: Tensor, **_options: Any) -> str | None:
    """Why the stream cannot run these arguments, or None."""
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "an exported graph may hold only PyTorch's own operators"
    return None


def pool(k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None) -> Tensor:
    """See `reference.saliency_pool`."""
    keys = k if saliency.ndim == 2 else None
    pooled: Tensor = torch.ops.fewpairs.saliency_pool(keys, v, saliency, mask)[0]
    return pooled


def key_only_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """See `reference.key_only_attention`; once differentiable."""
    out: Tensor = torch.ops.fewpairs.saliency_gate(k if gate is None else gate, pool(k, v, saliency, mask=mask))
    return out


def global_key_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, scale: float, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """See `reference.global_key_attention`; once differentiable."""
    pooled = pool(k, k, saliency, mask=mask)
    precise = torch.amp.is_autocast_available(k.device.type)
    with torch.autocast(k.device.type, enabled=False) if precise else nullcontext():
        seen = (k if gate is None else gate).to(pooled.dtype)
        agreement = seen @ (pooled * scale).unsqueeze(-1)
        return torch.sigmoid(agreement).to(v.dtype) * v


torch.library.define(
    "fewpairs::saliency_pool", "(Tensor? keys, Tensor values, Tensor saliency, Tensor? mask) -> (Tensor, Tensor)"
)
torch.library.define(
    "fewpairs::saliency_pool_backward",
    "(Tensor grad, Tensor? keys, Tensor values, Tensor saliency, Tensor? mask, Tensor pooled, Tensor log_sum)"
    " -> (Tensor, Tensor, Tensor)",
)
torch.library.define("fewpairs::saliency_gate", "(Tensor gate, Tensor pooled) -> Tensor")
torch.library.define(
    "fewpairs::saliency_gate_backward", "(Tensor grad, Tensor gate, Tensor pooled) -> (Tensor, Tensor)"
)
torch.library.impl("fewpairs::saliency_pool", "default", passes.pool)
torch.library.impl("fewpairs::saliency_pool_backward", "default", passes.unpool)
torch.library.impl("fewpairs::saliency_gate", "default", passes.let_through)
torch.library.impl("fewpairs::saliency_gate_backward", "default", passes.let_back)


@torch.library.register_fake("fewpairs::saliency_pool")
def _pool_shapes(keys: Tensor | None, values: Tensor, saliency: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    return passes.empty_pool(keys, values, saliency)


@torch.library.register_fake("fewpairs::saliency_pool_backward")
def _unpool_shapes(
    grad: Tensor, keys: Tensor | None, values: Tensor, saliency: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return passes.empty_unpool(keys, values, saliency)


@torch.library.register_fake("fewpairs::saliency_gate")
def _gate_shapes(gate: Tensor, pooled: Tensor) -> Tensor:
    return torch.empty_like(gate)


@torch.library.register_fake("fewpairs::saliency_gate_backward")
def _let_back_shapes(grad: Tensor, gate: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gate), torch.empty_like(pooled)


def _remember_pool(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _differentiate_pool(ctx: Any, grad: Tensor, _unused: Tensor | None) -> tuple[Tensor | None, ...]:
    d_keys, d_values, d_saliency = torch.ops.fewpairs.saliency_pool_backward(grad, *ctx.saved_tensors)
    return None if ctx.saved_tensors[0] is None else d_keys, d_values, d_saliency, None


def _remember_gate(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_gate(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    d_gate, d_pooled = torch.ops.fewpairs.saliency_gate_backward(grad, *ctx.saved_tensors)
    return d_gate, d_pooled


def _refuse_second(_ctx: Any, *_grads: Tensor) -> None:
    raise InputError(
        "key-only attention in a stream has no second derivative; call key_only_attention with kernel='reference', "
        "which has"
    )


torch.library.register_autograd("fewpairs::saliency_pool", _differentiate_pool, setup_context=_remember_pool)
torch.library.register_autograd("fewpairs::saliency_gate", _differentiate_gate, setup_context=_remember_gate)
torch.library.register_autograd("fewpairs::saliency_pool_backward", _refuse_second)
torch.library.register_autograd("fewpairs::saliency_gate_backward", _refuse_second)
