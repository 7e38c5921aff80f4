"""Softmax attention: every query attends to every key.

    S_nm = scale * q_n . k_m + bias_nm        Y_n = sum_m softmax_m(S_nm) v_m

Source: Vaswani et al., Attention Is All You Need (arXiv 1706.03762), equation 1.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from fewpairs.ops import empty_rows
from fewpairs.ops.dispatch import Kernel, choose, never
from fewpairs.ops.softmax import reference


def refuse_fused(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None, scale: float) -> str | None:
    """Return the reason why PyTorch's `scaled_dot_product_attention` cannot run these arguments, or None."""
    if not k.shape[-2]:
        return "there are no keys, which PyTorch's fused attention does not support"
    if not (q.dtype == k.dtype == v.dtype):
        return f"q, k and v must share one dtype, not {q.dtype}, {k.dtype}, {v.dtype}"
    return None


def run_fused(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None, scale: float) -> Tensor:
    """Run PyTorch's fused attention."""
    if bias is not None and bias.is_floating_point():
        bias = bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


KERNELS = (Kernel("fused", refuse_fused, run_fused), Kernel("reference", never, reference.softmax_attention))


def softmax_attention(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m e"],
    *,
    bias: Float[Tensor, "#b #h n m"] | Bool[Tensor, "#b #h n m"] | None = None,
    scale: float | None = None,
    kernel: str | None = None,
) -> Float[Tensor, "b h n e"]:
    """Compute scaled dot-product attention, `[b h n d], [b h m d], [b h m e] -> [b h n e]`.

    Args:
        bias: added to the scaled scores; a boolean one keeps the pairs that are True. A row without any key
            gives zeros.
        scale: factor of q . k; `d ** -0.5` when None.
        kernel: "fused" or "reference"; None chooses the first that can run.

    Raises:
        InputError: with `FEWPAIRS_STRICT=1`, a row has no key.
        KernelRefused: the named kernel cannot run these arguments.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    empty_rows.check_pairs(bias)
    return choose(KERNELS, kernel, q, k, v, bias=bias, scale=scale).run(q, k, v, bias=bias, scale=scale)
