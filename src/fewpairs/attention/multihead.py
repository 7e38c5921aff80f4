"""The multi-head attention layer: a projection and a variant."""

from __future__ import annotations

from collections.abc import Callable

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fewpairs.attention.core import Core
from fewpairs.attention.projection import LinearProjection, Projection
from fewpairs.attention.variant import Variant
from fewpairs.errors import InputError
from fewpairs.types import Grid


class MultiHead(nn.Module):
    """Multi-head attention, `[b n c], Grid -> [b n c]`.

    Args:
        dim: width c of a token; a multiple of `heads`.
        variant: the attention to compute; its roles decide which projections exist.
        project: `LinearProjection`, or `ConvProjection.with_(...)`.
        bias: a module or function `Grid -> [h n m]`, added to the scores; the variant must accept one.
        out_bias: whether the output projection has a bias.
        dropout: fraction of the output's elements dropped in training.

    Raises:
        InputError: `heads` does not divide the width; the variant does not accept the bias; keys are strided and the
            variant uses keys as queries.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        variant: Variant,
        *,
        project: Projection = LinearProjection,
        bias: Callable[[Grid], Tensor] | None = None,
        out_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise InputError(f"heads={heads} must divide the width dim={dim}")
        if bias is not None and not variant.takes_bias:
            raise InputError(f"{variant} takes no [h n m] bias on its scores; leave bias=None or use Softmax()")
        self.dim, self.heads, self.dim_head = dim, heads, dim // heads
        self.project = project(dim, heads, variant.roles)
        if variant.keys_are_queries and self.project.key_stride != 1:
            raise InputError(
                f"{variant} uses keys as queries, so keys must not be strided relative to queries (here by "
                f"{self.project.key_stride}); set stride_kv equal to stride_q, or the reduction to 1, and do the same "
                "in the model that you compare with"
            )
        self.core, self.bias = Core(variant, heads, self.dim_head), bias
        self.out = nn.Linear(dim, dim, bias=out_bias)
        self.dropout = nn.Dropout(dropout)

    @property
    def variant(self) -> Variant:
        """The attention that the layer computes."""
        return self.core.variant

    def forward(self, x: Float[Tensor, "b n c"], grid: Grid) -> Float[Tensor, "b n c"]:
        bias = None if self.bias is None else self.bias(grid).unsqueeze(0)
        mixed = self.core(*self.project(x, grid), bias=bias, grid=grid)
        out: Tensor = self.dropout(self.out(rearrange(mixed, "b h n d -> b n (h d)")))
        return out
