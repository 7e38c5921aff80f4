"""Key-only attention: positions are weighted by their own keys, without queries or pairs, at linear cost.

    s_n = k_n . w                      saliency logits, one per head and position
    c   = sum_n softmax_n(s)_n v_n     one value per head for the whole image
    y_n = sigmoid(k_n) * c             the key of each position gates that value

A **reconstruction**: the paper (Li and Liu, "Rethinking Query-Key Pairwise Interactions in Vision Transformers",
arXiv 2207.00188, LinGlo) names a saliency gate of linear cost, but its equations were not available. This is R1 of
`docs/linglo.md`, which explains reasons and alternatives; `global_key_attention` is R2. Neither is the authors' code.
"""

from __future__ import annotations

from torch import Tensor

from fewpairs.ops import empty_rows, inputs
from fewpairs.ops.dispatch import Kernel, choose, never
from fewpairs.ops.key_only import native, reference, streaming, triton
from fewpairs.ops.transforms import overridable

KERNELS = (
    Kernel("native", native.refuse_native, native.key_only_attention),
    Kernel("triton", triton.refuse_triton, triton.key_only_attention),
    Kernel("streaming", streaming.refuse_streaming, streaming.key_only_attention),
    Kernel("reference", never, reference.key_only_attention, plain=True),
)
GLOBAL_KERNELS = (
    Kernel("streaming", streaming.refuse_streaming, streaming.global_key_attention),
    Kernel("reference", never, reference.global_key_attention, plain=True),
)


@overridable
def key_only_attention(
    k: Tensor,
    v: Tensor,
    saliency: Tensor,
    *,
    mask: Tensor | None = None,
    gate: Tensor | None = None,
    kernel: str | None = None,
) -> Tensor:
    """Compute key-only attention (reconstruction R1), k and v `[b h n d]` -> `[b h n d]`, in memory linear in n.

    v and the gate may have fewer heads than k; see `fewpairs.ops.inputs`.

    Args:
        saliency: one vector per head `[h d]`, whose product with a key is the logit of that position; or the logits,
            one per head `[b h n]` or one per channel `[b h n d]` (`saliency=k` is R1c).
        mask: boolean `[b h n]` or `[b h 1 n]`, with 1 for shared b or h: True for positions that count; others get
            weight 0, and their own output is the gated pooled value. If none counts, the output of the head is zero.
        gate: the input of the sigmoid, `[b h n d]`; the keys when None.
        kernel: "native", "triton", "streaming" or "reference"; None chooses the first that can run.

    Raises:
        InputError: shapes, dtypes or devices do not fit, or there is no position; with `FEWPAIRS_STRICT=1`, the mask
            leaves a head none.
        KernelRefused: the named kernel cannot run these arguments.
    """
    k, v, gate, mask = _checked(k, v, saliency, mask, gate)
    return choose(KERNELS, kernel, k, v, saliency, mask=mask, gate=gate).run(k, v, saliency, mask=mask, gate=gate)


@overridable
def global_key_attention(
    k: Tensor,
    v: Tensor,
    saliency: Tensor,
    *,
    scale: float | Tensor | None = None,
    mask: Tensor | None = None,
    gate: Tensor | None = None,
    kernel: str | None = None,
) -> Tensor:
    """Compute the alternative R2: a pooled *key* `g = sum_n softmax_n(s)_n k_n` is multiplied with every key.

    `y_n = sigmoid(scale * k_n . g) v_n`: the gate is the attention weight, and each value stays at its position.
    `scale` is `d ** -0.5` when None, and may be a tensor `[]` or `[h]`, which gets a gradient; the other arguments are
    those of `key_only_attention`.
    """
    k, v, gate, mask = _checked(k, v, saliency, mask, gate)
    if isinstance(scale, Tensor):
        gate, factor = inputs.scaled(scale, k if gate is None else gate)
    else:
        factor = inputs.gained(scale, None, k)[1]
    chosen = choose(GLOBAL_KERNELS, kernel, k, v, saliency, scale=factor, mask=mask, gate=gate)
    return chosen.run(k, v, saliency, scale=factor, mask=mask, gate=gate)


def saliency_weights(k: Tensor, saliency: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return the weight of each position, `[b h n]`, summing to 1 over n; channel weights are averaged.

    The arguments are those of `key_only_attention`.
    """
    k, _, _, mask = _checked(k, k, saliency, mask, None)
    return reference.saliency_weights(k, saliency, mask).mean(dim=-1)


def _checked(
    k: Tensor, v: Tensor, saliency: Tensor, mask: Tensor | None, gate: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Check the arguments; return k, v, gate and mask, all with the heads of k."""
    k, v, *gates = inputs.heads(inputs.KEY_ONLY, k, v, *(() if gate is None else (gate,)))
    inputs.saliency(saliency, k)
    mask = inputs.position_mask(mask, k)
    empty_rows.check_positions(mask)
    return k, v, (gates[0] if gates else None), mask
