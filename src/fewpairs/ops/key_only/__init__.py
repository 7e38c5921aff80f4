"""Key-only attention: positions are weighted by their own keys, without queries or pairs, at linear cost.

    s_n = k_n . w                      saliency logits, one per head and position
    c   = sum_n softmax_n(s)_n v_n     one value per head for the whole image
    y_n = sigmoid(k_n) * c             the key of each position gates that value

A **reconstruction**: the paper (Li and Liu, "Rethinking Query-Key Pairwise Interactions in Vision Transformers",
arXiv 2207.00188, LinGlo) names a saliency gate of linear cost, but its equations were not available. This is R1 of
`docs/linglo.md`, which explains reasons and alternatives; `global_key_attention` is R2. Neither is the authors' code.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops import empty_rows
from fewpairs.ops.dispatch import Kernel, choose, never
from fewpairs.ops.key_only import native, reference, streaming, triton

KERNELS = (
    Kernel("native", native.refuse_native, native.key_only_attention),
    Kernel("triton", triton.refuse_triton, triton.key_only_attention),
    Kernel("streaming", streaming.refuse_streaming, streaming.key_only_attention),
    Kernel("reference", never, reference.key_only_attention),
)
GLOBAL_KERNELS = (
    Kernel("streaming", streaming.refuse_streaming, streaming.global_key_attention),
    Kernel("reference", never, reference.global_key_attention),
)


def key_only_attention(
    k: Float[Tensor, "b h n d"],
    v: Float[Tensor, "b h n d"],
    saliency: Float[Tensor, "h d"] | Float[Tensor, "b h n"] | Float[Tensor, "b h n d"],
    *,
    mask: Bool[Tensor, "#b #h n"] | None = None,
    gate: Float[Tensor, "b h n d"] | None = None,
    kernel: str | None = None,
) -> Float[Tensor, "b h n d"]:
    """Compute key-only attention (reconstruction R1), `[b h n d], [b h n d] -> [b h n d]`, in memory linear in n.

    Args:
        saliency: one vector per head `[h d]`, whose product with a key is the logit of that position; or the logits,
            one per head `[b h n]` or one per channel `[b h n d]` (`saliency=k` is R1c).
        mask: True for positions that count; others get weight 0, and their own output is the gated pooled value. If
            none counts, the output of the head is zero.
        gate: the input of the sigmoid; the keys when None.
        kernel: "native", "triton", "streaming" or "reference"; None chooses the first that can run.

    Raises:
        InputError: shapes, dtypes or devices do not fit, or there is no position; with `FEWPAIRS_STRICT=1`, the mask
            leaves a head none.
        KernelRefused: the named kernel cannot run these arguments.
    """
    mask = _checked(k, v, saliency, mask, gate)
    return choose(KERNELS, kernel, k, v, saliency, mask=mask, gate=gate).run(k, v, saliency, mask=mask, gate=gate)


def global_key_attention(
    k: Float[Tensor, "b h n d"],
    v: Float[Tensor, "b h n d"],
    saliency: Float[Tensor, "h d"] | Float[Tensor, "b h n"],
    *,
    scale: float | None = None,
    mask: Bool[Tensor, "#b #h n"] | None = None,
    gate: Float[Tensor, "b h n d"] | None = None,
    kernel: str | None = None,
) -> Float[Tensor, "b h n d"]:
    """Compute the alternative R2: a pooled *key* `g = sum_n softmax_n(s)_n k_n` is multiplied with every key.

    `y_n = sigmoid(scale * k_n . g) v_n`: the gate is the attention weight, and each value stays at its position.
    `scale` is `d ** -0.5` when None; the other arguments are those of `key_only_attention`.
    """
    mask = _checked(k, v, saliency, mask, gate)
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    chosen = choose(GLOBAL_KERNELS, kernel, k, v, saliency, scale=scale, mask=mask, gate=gate)
    return chosen.run(k, v, saliency, scale=scale, mask=mask, gate=gate)


def saliency_weights(
    k: Float[Tensor, "b h n d"], saliency: Tensor, *, mask: Bool[Tensor, "#b #h n"] | None = None
) -> Float[Tensor, "b h n"]:
    """Return the weight of each position, `[b h n]`, summing to 1 over n; channel weights are averaged."""
    return reference.saliency_weights(k, saliency, _checked(k, k, saliency, mask, None)).mean(dim=-1)


def _checked(k: Tensor, v: Tensor, saliency: Tensor, mask: Tensor | None, gate: Tensor | None) -> Tensor | None:
    """Check the arguments, and return the mask as `[b h n]`."""
    for name, tensor in (("k", k), ("v", v), *((("gate", gate),) if gate is not None else ())):
        if tensor.ndim != 4 or tensor.shape != k.shape:
            raise InputError(
                f"{name} must be [b h n d] like k; the shapes are {list(tensor.shape)} and {list(k.shape)}: key-only "
                "attention has one key, one value and one output at every position"
            )
        if not tensor.is_floating_point() or tensor.dtype != k.dtype or tensor.device != k.device:
            raise InputError(
                f"k, v and gate must share one floating-point dtype and one device; {name} is {tensor.dtype} on "
                f"{tensor.device}, k is {k.dtype} on {k.device}"
            )
    b, h, n, d = k.shape
    if n == 0:
        raise InputError("k and v have no positions (n = 0), so there is nothing to attend to")
    if tuple(saliency.shape) not in {(h, d), (b, h, n), (b, h, n, d)} or not saliency.is_floating_point():
        raise InputError(
            f"saliency must be a vector per head [h d] = [{h} {d}], or logits [b h n] = [{b} {h} {n}] or [b h n d], of "
            f"floating-point numbers; its shape is {list(saliency.shape)}, its dtype {saliency.dtype}"
        )
    if mask is None:
        return None
    fits = mask.ndim == 3 and mask.shape[0] in (1, b) and mask.shape[1] in (1, h) and mask.shape[2] == n
    if mask.dtype != torch.bool or not fits:
        raise InputError(
            f"mask must be boolean [b h n] = [{b} {h} {n}] (1 for b or h where it is shared), True where a position "
            f"counts; its shape is {list(mask.shape)}, its dtype {mask.dtype}"
        )
    mask = mask.expand(b, h, n)
    empty_rows.check_positions(mask)
    return mask
