"""k-NN attention: every query attends only to its best keys.

    S_nm = scale * q_n . k_m + bias_nm        T_n = the topk keys m of the largest S_nm
    Y_n = sum_{m in T_n} softmax_{m in T_n}(S_nm) v_m

Each image, head and query selects its keys by the scores that enter the softmax. The selection is not differentiated: a
key that is not selected gets no gradient from that query. `metric="euclidean"` selects the keys nearest to the query,
with the largest S_nm - scale |k_m|^2 / 2; the weights are the same.

Source: Wang et al., KVT: k-NN Attention for Boosting Vision Transformers (arXiv 2106.00515).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops import empty_rows, inputs
from fewpairs.ops.dispatch import Kernel, choose, never
from fewpairs.ops.inputs import check_metric, check_topk, effective_topk
from fewpairs.ops.knn import reference
from fewpairs.ops.knn.bounded import refuse_bounded, run_bounded
from fewpairs.ops.knn.masked import run_masked
from fewpairs.ops.knn.native import refuse_native, run_native
from fewpairs.ops.knn.selection import Cut, inside, kept, ranking, select
from fewpairs.ops.knn.triton import refuse_triton, run_triton
from fewpairs.ops.transforms import overridable

Metric = Literal["dot", "euclidean"]


KERNELS = (
    Kernel("native", refuse_native, run_native),
    Kernel("triton", refuse_triton, run_triton),
    Kernel("bounded", refuse_bounded, run_bounded),
    Kernel("masked", never, run_masked, plain=True),
    Kernel("gathered", never, reference.gathered, plain=True),
    Kernel("reference", never, reference.masked, plain=True),
)


@overridable
def knn_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    topk: int | float,
    bias: Tensor | None = None,
    scale: float | Tensor | None = None,
    metric: Metric = "dot",
    kernel: str | None = None,
) -> Tensor:
    """Compute k-NN attention, q `[b h n d]`, k `[b h m d]`, v `[b h m e]` -> `[b h n e]`.

    Each row keeps exactly `topk` keys, among equal scores those with the lower index, or all that its bias leaves if
    these are fewer. Only rows with a logit of NaN or +inf are NaN. Values must be finite: some kernels multiply
    unselected values by zero.

    Args:
        topk: an int is the number of keys, clamped to m; a float in (0, 1] is the fraction of the m keys, rounded, at
            least one. So 1 means one key and 1.0 all keys.
        bias: `[b h n m]`, with 1 for shared b, h or n. Numbers are added to the scaled scores before the selection;
            booleans keep the pairs that are True. A row without any key gives zeros.
        scale: factor of q . k; `d ** -0.5` when None. A tensor `[]` or `[h]` multiplies q and gets a gradient.
        metric: "dot" selects keys by score, "euclidean" by distance from the query.
        kernel: "native", "triton", "bounded", "masked", "gathered" or "reference"; None chooses the first that can run.

    Raises:
        InputError: `topk`, `scale` or `metric` is out of its range; shapes, dtypes or devices do not fit; with
            `FEWPAIRS_STRICT=1`, a row has no key.
        KernelRefused: the named kernel cannot run these arguments.
    """
    q, k, v = inputs.heads(inputs.QKV, q, k, v)
    inputs.check_metric(metric)
    count = effective_topk(topk, k.shape[2])
    if isinstance(scale, Tensor) and metric != "dot":
        raise InputError(f"scale is a tensor, which metric={metric!r} does not take; give a number, or metric='dot'")
    q, factor = inputs.scaled(scale, q)
    bias = inputs.pair_bias(bias, q, k.shape[2])
    empty_rows.check_pairs(bias)
    options: dict[str, Any] = {"topk": count, "bias": bias, "scale": factor, "metric": metric}
    return choose(KERNELS, kernel, q, k, v, **options).run(q, k, v, **options)


__all__ = [
    "KERNELS",
    "Cut",
    "Metric",
    "check_metric",
    "check_topk",
    "effective_topk",
    "inside",
    "kept",
    "knn_attention",
    "ranking",
    "select",
]
