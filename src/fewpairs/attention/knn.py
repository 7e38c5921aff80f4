"""k-NN attention: each query weighs its best keys alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from fewpairs.attention.variant import ScaleBy, check_scale, logit_scale, pair_terms
from fewpairs.ops import knn_attention
from fewpairs.ops.knn import Metric, check_metric, check_topk


@dataclass(frozen=True)
class KNN:
    """Each query weighs only its `topk` best keys (KVT, arXiv 2106.00515). The weights of the layer are softmax's.

    Args:
        topk: a number of keys (int, clamped to those that there are) or a share of them (float in (0, 1]). The paper
            keeps 100 of 197 in DeiT.
        metric: "dot" chooses by the logits, as the published code does; "euclidean" by the distance between query and
            key, the paper's slow version, which is another operator unless all keys have the same length.
        scale_by: see `Softmax`.
    """

    topk: int | float = 0.5
    metric: Metric = "dot"
    scale_by: ScaleBy = "head"

    roles: ClassVar[str] = "qkv"
    takes_bias: ClassVar[bool] = True
    keys_are_queries: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_topk(self.topk)
        check_metric(self.metric)
        check_scale(self.scale_by)

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        scale = logit_scale(self.scale_by, heads, dim_head)
        return partial(knn_attention, topk=self.topk, metric=self.metric, scale=scale)

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        """The dense products, as the paper's table counts them: no kernel of ours multiplies less."""
        return pair_terms(n, m, heads, dim_head)

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        return sum(self.terms(n, m, heads, dim_head).values())
