"""Key-value attention: keys attend to keys; there are no queries.

    S_nm = gain * scale * k_n . k_m + key_bias_m + bias_nm        Y_n = sum_m softmax_m(S_nm) v_m

Without gain and biases the logits are symmetric and positive semi-definite (KV). With a learned gain and key bias it is
KV+Pos: the published form mixes `S_nm * 1 + P[n, m, :]` by one linear map, whose row term and constant cancel in the
softmax, which leaves exactly a gain and one bias per key. Tests compare the two forms. The bias of each pair is
for models that already have one, such as the relative positions and shift masks of Swin.

Source: Borji, Key-Value Transformer (arXiv 2305.19129).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.ops import empty_rows, inputs
from fewpairs.ops.dispatch import Kernel, choose, never
from fewpairs.ops.kv import native, reference, triton
from fewpairs.ops.softmax.fused import fused_attention
from fewpairs.ops.transforms import overridable


def refuse_fused(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> str | None:
    """Return the reason why PyTorch's attention with an additive mask should not run these arguments, or None."""
    if not k.shape[-2]:
        return "there are no keys, which PyTorch's fused attention does not support"
    if k.dtype != v.dtype:
        return f"k and v must share one dtype, not {k.dtype} and {v.dtype}"
    if key_bias is not None and key_bias.requires_grad and torch.is_grad_enabled():
        return "the key bias needs a gradient, for which PyTorch would not fuse attention and hold the n x n scores"
    return None


def scale_keys(k: Tensor, gain: Tensor | None) -> Tensor:
    """Return the keys as queries, `[b h n d]`, multiplied by the logit gain."""
    return k if gain is None else k * gain.to(k.dtype).reshape(-1, 1, 1)


def run_fused(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> Tensor:
    """Run PyTorch's fused attention with keys as queries and biases as mask; the key bias is one row of it."""
    mask = pair_mask(bias, k)
    if key_bias is not None:
        b, h, n, _ = k.shape
        row = key_bias.to(k.dtype).unsqueeze(-2)
        if mask is None:
            mask = row.expand(b, h, n, n)
        else:
            mask = row.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask + row
    return fused_attention(scale_keys(k, gain), k, v, mask, scale)


def pair_mask(bias: Tensor | None, k: Tensor) -> Tensor | None:
    """Return the bias of the pairs for PyTorch's attention: boolean, or numbers in the keys' dtype."""
    return bias if bias is None or bias.dtype == torch.bool else bias.to(k.dtype)


def refuse_folded(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> str | None:
    """Return the reason why the bias cannot become one more feature of the keys, or None."""
    if not k.shape[-2]:
        return "there are no keys, which PyTorch's fused attention does not support"
    if k.dtype != v.dtype:
        return f"k and v must share one dtype, not {k.dtype} and {v.dtype}"
    if key_bias is None:
        return "there is no key bias to fold"
    if scale == 0:
        return "with scale=0 the key bias cannot be folded into the product"
    return None


def run_folded(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> Tensor:
    """Run PyTorch's fused attention on wider heads: queries `[gain * k, 1 / scale, 0...]`, keys `[k, key_bias, 0...]`.

    This gives the bias a gradient without an n x n tensor. The width grows to the next multiple of 8; values are padded
    with zeros to the same width, because the fused kernels need one width for all three.
    """
    b, h, n, d = k.shape
    width = -(-(max(d + 1, v.shape[-1])) // 8) * 8
    row = key_bias.to(k.dtype).expand(b, h, n).unsqueeze(-1)  # type: ignore[union-attr]  # refuse_folded saw to it
    one = torch.full_like(row, 1 / scale)
    queries = F.pad(torch.cat([scale_keys(k, gain), one], dim=-1), (0, width - d - 1))
    keys = F.pad(torch.cat([k, row], dim=-1), (0, width - d - 1))
    values = F.pad(v, (0, width - v.shape[-1]))
    mixed = fused_attention(queries, keys, values, pair_mask(bias, k), scale)
    return mixed[..., : v.shape[-1]]


KERNELS = (
    Kernel("native", native.refuse_native, native.run_native),
    Kernel("triton", triton.refuse_triton, triton.run_triton),
    Kernel("fused", refuse_fused, run_fused),
    Kernel("folded", refuse_folded, run_folded),
    Kernel("reference", never, reference.kv_attention, plain=True),
)


@overridable
def kv_attention(
    k: Tensor,
    v: Tensor,
    *,
    gain: Tensor | None = None,
    key_bias: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | Tensor | None = None,
    kernel: str | None = None,
) -> Tensor:
    """Compute key-value attention, k `[b h n d]`, v `[b h n e]` -> `[b h n e]`, with the keys as queries.

    v may have fewer heads than k; see `fewpairs.ops.inputs`.

    Args:
        gain: learned factor of the logits, one for all heads `[]` or one per head `[h]`; may be negative. None means 1.
        key_bias: added to the logits of each key: `[n]`, `[h n]` for one per head, or `[b h n]` with 1 for shared b or
            h. With as many images as heads, `[h n]` is refused, for it could be `[b n]`. None means 0.
        bias: `[b h n n]`, with 1 for shared b, h or the first n, added to the logits of each pair; a boolean one keeps
            the pairs that are True, and a row without any key gives zeros. The bias makes the logits asymmetric.
        scale: factor of k . k; `d ** -0.5` when None. A tensor `[]` or `[h]` multiplies the gain and gets a gradient.
        kernel: "native", "triton", "fused", "folded" or "reference"; None chooses the first that can run.

    Raises:
        InputError: shapes, dtypes or devices do not fit, or `scale` is no finite number; with `FEWPAIRS_STRICT=1`, a
            row has no key.
        KernelRefused: the named kernel cannot run these arguments.
    """
    k, v = inputs.heads(inputs.KV, k, v)
    bias = inputs.pair_bias(bias, k, k.shape[2])
    key_bias, bias = inputs.key_bias(key_bias, bias, k)
    gain, factor = inputs.gained(scale, gain, k)
    empty_rows.check_pairs(bias, key_bias)
    chosen = choose(KERNELS, kernel, k, v, gain=gain, key_bias=key_bias, bias=bias, scale=factor)
    return chosen.run(k, v, gain=gain, key_bias=key_bias, bias=bias, scale=factor)
