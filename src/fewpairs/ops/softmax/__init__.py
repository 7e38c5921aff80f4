"""Softmax attention: every query attends to every key.

    S_nm = scale * q_n . k_m + bias_nm        Y_n = sum_m softmax_m(S_nm) v_m

Source: Vaswani et al., Attention Is All You Need (arXiv 1706.03762), equation 1.
"""

from __future__ import annotations

from torch import Tensor

from fewpairs.ops import empty_rows, inputs
from fewpairs.ops.dispatch import Kernel, choose, never
from fewpairs.ops.softmax import reference
from fewpairs.ops.softmax.fused import fused_attention
from fewpairs.ops.transforms import overridable


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
    return fused_attention(q, k, v, bias, scale)


KERNELS = (
    Kernel("fused", refuse_fused, run_fused),
    Kernel("reference", never, reference.softmax_attention, plain=True),
)


@overridable
def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float | Tensor | None = None,
    kernel: str | None = None,
) -> Tensor:
    """Compute scaled dot-product attention, q `[b h n d]`, k `[b h m d]`, v `[b h m e]` -> `[b h n e]`.

    k and v may have fewer heads than q; see `fewpairs.ops.inputs`.

    Args:
        bias: `[b h n m]`, with 1 for shared b, h or n: numbers are added to the scaled scores; booleans keep the pairs
            that are True. A row without any key gives zeros.
        scale: factor of q . k; `d ** -0.5` when None. A tensor `[]` or `[h]` multiplies q and gets a gradient.
        kernel: "fused" or "reference"; None chooses the first that can run.

    Raises:
        InputError: shapes, dtypes or devices do not fit, or `scale` is no finite number; with `FEWPAIRS_STRICT=1`, a
            row has no key.
        KernelRefused: the named kernel cannot run these arguments.
    """
    q, k, v = inputs.heads(inputs.QKV, q, k, v)
    bias = inputs.pair_bias(bias, q, k.shape[2])
    q, factor = inputs.scaled(scale, q)
    empty_rows.check_pairs(bias)
    return choose(KERNELS, kernel, q, k, v, bias=bias, scale=factor).run(q, k, v, bias=bias, scale=factor)
