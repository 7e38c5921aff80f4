"""The protocol of attention variants: frozen, printable, comparable descriptions of an attention computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from fewpairs.errors import InputError, nearest

ScaleBy = Literal["head", "width"]


@runtime_checkable
class Variant(Protocol):
    """Describes an attention computation and declares which inputs the layer must provide."""

    roles: ClassVar[str]
    """The projections of the layer, in order: "qkv" or "kv"."""
    takes_bias: ClassVar[bool]
    """Whether an `[h n m]` bias may be added to the scores."""
    keys_are_queries: ClassVar[bool]
    """Whether keys are used as queries; then keys must not be strided."""

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        """Return a function from one `[b h n d]` per role to `[b h n d]`; it is an `nn.Module` if it has weights."""
        ...

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        """Return the multiply-adds of one image by term: "scores", "values", and "position" if there is such a term."""
        ...

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        """Return the multiply-adds of one image: the sum of `terms`."""
        ...


def has_pairs(variant: Variant) -> bool:
    """Whether the variant has weights of pairs. If not, it sets `has_pairs = False`, and its `build` returns a module
    with a method `weights(keys, *, bias) -> [b h n]`.
    """
    return bool(getattr(variant, "has_pairs", True))


def needs_grid(variant: Variant) -> bool:
    """Whether the attention needs the positions of the tokens. Then it sets `needs_grid` and accepts `grid=`."""
    return bool(getattr(variant, "needs_grid", False))


def kernel_names(variant: Variant) -> tuple[str, ...]:
    """Return the kernels that a layer of this variant may name; it lists them as `kernels` and accepts `kernel=`."""
    return tuple(getattr(variant, "kernels", ()))


def check_kernel(variant: Variant, kernel: str | None) -> None:
    """Raise InputError unless `kernel` is None or one of the variant's."""
    names = kernel_names(variant)
    if kernel is not None and kernel not in names:
        remedy = nearest(str(kernel), names) if names else "it declares no kernels to choose from; leave kernel=None"
        raise InputError(f"kernel={kernel!r} does not exist for {variant}; {remedy}")


def check_scale(scale_by: str) -> None:
    """Raise InputError unless `scale_by` is "head" or "width"."""
    if scale_by not in ("head", "width"):
        raise InputError(f"scale_by={scale_by!r} is not known; allowed: 'head', 'width'")


def logit_scale(scale_by: ScaleBy, heads: int, dim_head: int) -> float:
    """Return 1 / sqrt(width) of one head, or of all heads together (CvT and the published KV transformer)."""
    scale: float = float(dim_head if scale_by == "head" else heads * dim_head) ** -0.5
    return scale


def pair_terms(n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
    """Return the multiply-adds of two dense products of `n` rows with `m` columns: scores and values."""
    product = heads * n * m * dim_head
    return {"scores": product, "values": product}
