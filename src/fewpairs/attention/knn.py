"""k-NN attention: each query attends only to its best keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from fewpairs.attention.variant import ScaleBy, check_scale, logit_scale, pair_terms
from fewpairs.ops import knn_attention
from fewpairs.ops.dispatch import names_of
from fewpairs.ops.knn import KERNELS, Metric, check_metric, check_topk


@dataclass(frozen=True)
class KNN:
    """Each query attends only to its `topk` best keys (KVT, arXiv 2106.00515). Layer weights are those of `Softmax`.

    Args:
        topk: the number of keys (int, clamped to the available keys) or a fraction of them (float in (0, 1]). The paper
            keeps 100 of 197 in DeiT.
        metric: "dot" selects keys by logit, as the published code does; "euclidean" selects by the distance between
            query and key (the paper's slow version), which differs unless all keys have the same norm.
        scale_by: see `Softmax`.
    """

    topk: int | float = 0.5
    metric: Metric = "dot"
    scale_by: ScaleBy = "head"

    roles: ClassVar[str] = "qkv"
    takes_bias: ClassVar[bool] = True
    keys_are_queries: ClassVar[bool] = False
    kernels: ClassVar[tuple[str, ...]] = names_of(KERNELS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "topk", check_topk(self.topk))
        check_metric(self.metric)
        check_scale(self.scale_by)

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        scale = logit_scale(self.scale_by, heads, dim_head)
        return partial(knn_attention, topk=self.topk, metric=self.metric, scale=scale)

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        """Count the dense products, as the paper's table does."""
        return pair_terms(n, m, heads, dim_head)

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        return sum(self.terms(n, m, heads, dim_head).values())
