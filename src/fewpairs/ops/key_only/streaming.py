"""Key-only attention in one pass over the positions, as PyTorch operators around the loops of `passes`.

`torch.compile` sees two nodes and not the loops. Beside inputs and output, one vector and two numbers per head are kept
for the backward pass.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fewpairs.ops.key_only import passes, reference
from fewpairs.ops.key_only.reference import close_empty_heads
from fewpairs.ops.register import Operator, register
from fewpairs.ops.transforms import refuse_export


def refuse_streaming(k: Tensor, v: Tensor, saliency: Tensor, **options: Any) -> str | None:
    """Return the reason why this kernel cannot run these arguments, or None."""
    return refuse_export(k, v, saliency, *options.values())


def pool(k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None) -> Tensor:
    """Compute `reference.saliency_pool`."""
    keys = k if saliency.ndim == 2 else None
    pooled: Tensor = torch.ops.fewpairs.saliency_pool(keys, v, saliency, mask)[0]
    return pooled


def key_only_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """Compute `reference.key_only_attention`; it is differentiable once."""
    out: Tensor = torch.ops.fewpairs.saliency_gate(k if gate is None else gate, pool(k, v, saliency, mask=mask))
    return out


def global_key_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, scale: float, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """Compute `reference.global_key_attention`; it is differentiable once."""
    pooled = pool(k, k, saliency, mask=mask)
    sum_dtype = torch.amp.is_autocast_available(k.device.type)
    with torch.autocast(k.device.type, enabled=False) if sum_dtype else nullcontext():
        seen = (k if gate is None else gate).to(pooled.dtype)
        agreement = seen @ (pooled * scale).unsqueeze(-1)
        return close_empty_heads(torch.sigmoid(agreement).to(v.dtype) * v, mask)


register(
    Operator(
        "saliency_pool(Tensor? keys, Tensor values, Tensor saliency, Tensor? mask) -> (Tensor pooled, Tensor highest,"
        " Tensor total)",
        passes.pool,
        lambda keys, values, saliency, _mask: passes.empty_pool(keys, values, saliency),
    ),
    Operator(
        "saliency_pool_backward(Tensor grad, Tensor? keys, Tensor values, Tensor saliency, Tensor? mask, Tensor pooled,"
        " Tensor highest, Tensor total) -> (Tensor d_keys, Tensor d_values, Tensor d_saliency)",
        passes.pool_backward,
        lambda _grad, keys, values, saliency, *_rest: passes.empty_pool_gradients(keys, values, saliency),
    ),
    reference=lambda keys, values, saliency, mask: reference.saliency_pool(
        values if keys is None else keys, values, saliency, mask=mask
    ),
)
register(
    Operator(
        "saliency_gate(Tensor gate, Tensor pooled) -> Tensor",
        passes.apply_gate,
        lambda gate, _pooled: torch.empty_like(gate),
    ),
    Operator(
        "saliency_gate_backward(Tensor grad, Tensor gate, Tensor pooled) -> (Tensor d_gate, Tensor d_pooled)",
        passes.apply_gate_backward,
        lambda _grad, gate, pooled: (torch.empty_like(gate), torch.empty_like(pooled)),
    ),
    reference=reference.apply_gate,
)
