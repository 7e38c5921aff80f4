"""The loops of key-only attention over chunks of positions, which limit temporary memory to the size of a chunk.

`fewpairs.ops.key_only.streaming` registers them as operators. The pooling is an online softmax with a running maximum,
so that nothing overflows for any number of positions. All sums are in float32 or better.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

NUMBERS_AT_ONCE = {"cpu": 2**17, "cuda": 2**25}
"""The size of a chunk of values in numbers; several buffers of that size exist at a time."""


def position_chunks(like: Tensor) -> Iterator[slice]:
    """Yield slices that cover the positions of `[b h n d]` once."""
    b, h, n, d = like.shape
    step = max(1, NUMBERS_AT_ONCE.get(like.device.type, NUMBERS_AT_ONCE["cuda"]) // max(1, b * h * d))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums are formed: float32 or better."""
    return torch.promote_types(dtype, torch.float32)


def logits(keys: Tensor | None, saliency: Tensor, mask: Tensor | None, where: slice, wide: torch.dtype) -> Tensor:
    """Return the logits of the positions in `where`: `[b h s 1]`, or `[b h s d]` for logits per channel."""
    if keys is not None:
        found = torch.matmul(keys[:, :, where].to(wide), saliency.to(wide).unsqueeze(-1))
    elif saliency.ndim == 3:
        found = saliency[:, :, where, None].to(wide)
    else:
        found = saliency[:, :, where].to(wide)
    return found if mask is None else found.masked_fill(~mask[:, :, where, None], -torch.inf)


def empty_pool(keys: Tensor | None, values: Tensor, saliency: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate the results of `pool`."""
    b, h, _, e = values.shape
    wide, own = sum_dtype(values.dtype), saliency.ndim == 4
    highest, total = (values.new_empty((b, h, e if own else 1), dtype=wide) for _ in range(2))
    return values.new_empty((b, h, e), dtype=wide), highest, total


def pool(keys: Tensor | None, values: Tensor, saliency: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted mean of the values `[b h e]`, and the highest logit and the sum of exp(logit - highest).

    These two are `[b h 1]` or `[b h e]`. Their sum, the log-sum-exp, would lose the digits of the weights if logits are
    large.
    """
    pooled, highest, total = empty_pool(keys, values, saliency)
    wide, mean = pooled.dtype, torch.zeros_like(pooled)
    highest.fill_(-torch.inf)
    total.zero_()
    with torch.autocast(values.device.type, enabled=False):
        for where in position_chunks(values):
            scores, part = logits(keys, saliency, mask, where, wide), values[:, :, where].to(wide)
            top = torch.maximum(highest, scores.amax(dim=-2))
            shift = top.masked_fill(top == -torch.inf, 0.0)
            keep = torch.exp(highest - shift)
            raised = torch.exp(scores - shift.unsqueeze(-2))
            total.mul_(keep).add_(raised.sum(dim=-2))
            own = raised.shape[-1] > 1
            mean = mean * keep + ((raised * part).sum(dim=-2) if own else (raised.mT @ part).squeeze(-2))
            highest.copy_(top)
    some = total != 0
    pooled.copy_(torch.where(some, mean / total.where(some, torch.ones_like(total)), torch.zeros_like(mean)))
    return pooled, highest, total


def pool_backward(
    grad: Tensor,
    keys: Tensor | None,
    values: Tensor,
    saliency: Tensor,
    mask: Tensor | None,
    pooled: Tensor,
    highest: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `pool` for keys, values and saliency."""
    d_keys, d_values, d_saliency = empty_pool_gradients(keys, values, saliency)
    wide = pooled.dtype
    shift, total = highest.masked_fill(highest == -torch.inf, 0.0).unsqueeze(-2), total.masked_fill(total == 0, 1.0)
    grad = grad.to(wide) / total
    learned = torch.zeros(saliency.shape, dtype=wide, device=saliency.device) if keys is not None else None
    with torch.autocast(values.device.type, enabled=False):
        for where in position_chunks(values):
            weights = torch.exp(logits(keys, saliency, mask, where, wide) - shift)
            beyond = values[:, :, where].to(wide) - pooled.unsqueeze(-2)
            d_values[:, :, where] = weights * grad.unsqueeze(-2)
            if saliency.ndim == 4:
                d_saliency[:, :, where] = weights * beyond * grad.unsqueeze(-2)
                continue
            slope = weights * (beyond @ grad.unsqueeze(-1))
            if keys is None:
                d_saliency[:, :, where] = slope.squeeze(-1)
                continue
            d_keys[:, :, where] = slope * saliency.to(wide).unsqueeze(-2)
            learned += (slope.mT @ keys[:, :, where].to(wide)).squeeze(-2).sum(dim=0)  # type: ignore[operator]
    if learned is not None:
        d_saliency.copy_(learned)
    return d_keys, d_values, d_saliency


def empty_pool_gradients(keys: Tensor | None, values: Tensor, saliency: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate the results of `pool_backward`; the gradient of absent keys is empty."""
    d_keys = values.new_empty(0) if keys is None else torch.empty_like(keys)
    return d_keys, torch.empty_like(values), torch.empty_like(saliency)


def apply_gate(gate: Tensor, pooled: Tensor) -> Tensor:
    """Return `sigmoid(gate) * pooled`, `[b h n d]`, in the gate's dtype, without other tensors of that size."""
    out = torch.empty_like(gate)
    for where in position_chunks(gate):
        out[:, :, where] = torch.sigmoid(gate[:, :, where].to(pooled.dtype)) * pooled.unsqueeze(-2)
    return out


def apply_gate_backward(grad: Tensor, gate: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `apply_gate` for gate and pooled value."""
    d_gate, d_pooled = torch.empty_like(gate), torch.zeros_like(pooled)
    for where in position_chunks(gate):
        opened, passed = torch.sigmoid(gate[:, :, where].to(pooled.dtype)), grad[:, :, where].to(pooled.dtype)
        d_pooled += (opened * passed).sum(dim=-2)
        d_gate[:, :, where] = passed * pooled.unsqueeze(-2) * opened * (1 - opened)
    return d_gate, d_pooled
