"""Standard query-key-value attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from fewpairs.attention.variant import ScaleBy, check_scale, logit_scale, pair_terms
from fewpairs.ops import softmax, softmax_attention
from fewpairs.ops.dispatch import names_of


@dataclass(frozen=True)
class Softmax:
    """Every query attends to every key (arXiv 1706.03762); it is the baseline of every comparison.

    `scale_by` divides the logits by the root of the head's width ("head") or of the full width ("width", as CvT does).
    """

    scale_by: ScaleBy = "head"

    roles: ClassVar[str] = "qkv"
    takes_bias: ClassVar[bool] = True
    keys_are_queries: ClassVar[bool] = False
    kernels: ClassVar[tuple[str, ...]] = names_of(softmax.KERNELS)

    def __post_init__(self) -> None:
        check_scale(self.scale_by)

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        return partial(softmax_attention, scale=logit_scale(self.scale_by, heads, dim_head))

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        return pair_terms(n, m, heads, dim_head)

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        return sum(self.terms(n, m, heads, dim_head).values())
