"""What a variant of attention is: a frozen, printable, comparable description of how heads are mixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from fewpairs.errors import InputError

ScaleBy = Literal["head", "width"]


@runtime_checkable
class Variant(Protocol):
    """Declares what it needs, so that the layer provides exactly that."""

    roles: ClassVar[str]
    """Which projections exist, in order: "qkv" or "kv"."""
    takes_bias: ClassVar[bool]
    """Whether an additive `[h n m]` term may join the scores."""
    keys_are_queries: ClassVar[bool]
    """Whether a position's key stands where its query stood; then keys may not be strided."""

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        """The mixing of heads: one `[b h n d]` per role in, `[b h n d]` out. An `nn.Module` where it has weights."""
        ...

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        """Multiply-adds of one image by term: "scores", "values" and, where there is one, "position"."""
        ...

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        """Multiply-adds of one image: the sum of `terms`."""
        ...


def has_pairs(variant: Variant) -> bool:
    """Whether the variant weighs pairs of positions. One that does not says `has_pairs = False`, and its mixing is a
    module with a method `weights(keys, *, bias) -> [b h n]`.
    """
    return bool(getattr(variant, "has_pairs", True))


def needs_grid(variant: Variant) -> bool:
    """Whether the mixing must know where the tokens lie. One that must says `needs_grid`, and takes `grid=`."""
    return bool(getattr(variant, "needs_grid", False))


def check_scale(scale_by: str) -> None:
    """Raises InputError unless `scale_by` is one of the two."""
    if scale_by not in ("head", "width"):
        raise InputError(f"scale_by={scale_by!r} is not known; allowed: 'head', 'width'")


def logit_scale(scale_by: ScaleBy, heads: int, dim_head: int) -> float:
    """One over the root of the head's width, or of all heads' (CvT and the published KV transformer)."""
    scale: float = float(dim_head if scale_by == "head" else heads * dim_head) ** -0.5
    return scale


def pair_terms(n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
    """Multiply-adds of a dense product of `n` rows with `m` columns, once for the scores and once for the values."""
    product = heads * n * m * dim_head
    return {"scores": product, "values": product}
