"""Projections from tokens to the heads of each role: linear, convolutional, or with spatial reduction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.types import Grid

Projection = Callable[..., nn.Module]
"""A function called as `project(dim, heads, roles)`; its module maps `[b n c], Grid -> one [b h n d] per role`."""


class LinearProjection(nn.Module):
    """One matrix product for all roles: `[b n c], Grid -> one [b h n d] per role`.

    Rows `i * dim` to `(i + 1) * dim` of `linear.weight` belong to role `i`, in the order of `roles`. `in_dim` is the
    width of the tokens if it differs from `dim`, the width of all heads together.
    """

    def __init__(self, dim: int, heads: int, roles: str, *, bias: bool = True, in_dim: int | None = None) -> None:
        super().__init__()
        self.heads, self.roles = heads, roles
        self.linear = nn.Linear(dim if in_dim is None else in_dim, len(roles) * dim, bias=bias)

    @property
    def key_stride(self) -> int:
        """Return how many query positions share one key position, in each direction."""
        return 1

    def forward(self, x: Float[Tensor, "b n c"], grid: Grid) -> tuple[Tensor, ...]:
        pattern = "b n (roles h d) -> roles b h n d"
        return tuple(rearrange(self.linear(x), pattern, roles=len(self.roles), h=self.heads))


class ConvProjection(nn.Module):
    """CvT's projection (arXiv 2103.15808): depthwise convolution, batch norm, then a linear map, for each role.

    `[b n c], Grid -> one [b h n d] per role`; keys and values have fewer positions when `stride_kv` is above 1. Prefix
    tokens (the class token) skip the convolution.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        roles: str,
        *,
        kernel: int = 3,
        stride_q: int = 1,
        stride_kv: int = 2,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise InputError(f"kernel={kernel} of the convolutional projection must be odd; an even one shifts the map")
        if stride_q < 1 or stride_kv % stride_q:
            raise InputError(f"stride_kv={stride_kv} must be a multiple of stride_q={stride_q}, both 1 or more")
        self.heads, self.roles, self.stride_q, self.stride_kv = heads, roles, stride_q, stride_kv
        strides = {"q": stride_q, "k": stride_kv, "v": stride_kv}
        self.conv = nn.ModuleDict(
            {r: nn.Conv2d(dim, dim, kernel, strides[r], kernel // 2, groups=dim, bias=False) for r in roles}
        )
        self.norm = nn.ModuleDict({r: nn.BatchNorm2d(dim) for r in roles})
        self.linear = nn.ModuleDict({r: nn.Linear(dim, dim, bias=bias) for r in roles})

    @classmethod
    def with_(
        cls, *, kernel: int = 3, stride_q: int = 1, stride_kv: int = 2, bias: bool = True
    ) -> Callable[[int, int, str], ConvProjection]:
        """Return a projection with these settings, for `MultiHead(project=...)`."""
        return partial(cls, kernel=kernel, stride_q=stride_q, stride_kv=stride_kv, bias=bias)

    @property
    def key_stride(self) -> int:
        """Return how many query positions share one key position, in each direction."""
        return self.stride_kv // self.stride_q

    def forward(self, x: Float[Tensor, "b n c"], grid: Grid) -> tuple[Tensor, ...]:
        prefix, places = torch.split(x, [grid.prefix, grid.h * grid.w], dim=1)
        image = rearrange(places, "b (h w) c -> b c h w", h=grid.h)

        def heads(role: str) -> Tensor:
            mapped = rearrange(self.norm[role](self.conv[role](image)), "b c h w -> b (h w) c")
            tokens = self.linear[role](torch.cat([prefix, mapped], dim=1) if grid.prefix else mapped)
            parted: Tensor = rearrange(tokens, "b n (h d) -> b h n d", h=self.heads)
            return parted

        return tuple(heads(role) for role in self.roles)


class ReducedProjection(nn.Module):
    """PVTv2's spatial reduction (arXiv 2106.13797): keys and values come from a map that is `ratio` times coarser.

    `[b n c], Grid -> one [b h n d] per role`. A convolution whose kernel size equals its stride reduces
    `ratio` x `ratio` tokens to one; layer norm and the linear maps follow. As in PVTv2, remaining rows and columns are
    dropped; a map smaller than one patch is padded with zeros. Queries come from the unreduced tokens; prefix tokens
    (the class token) skip the convolution.
    """

    def __init__(self, dim: int, heads: int, roles: str, *, ratio: int, bias: bool = True) -> None:
        super().__init__()
        if ratio < 1:
            raise InputError(f"ratio={ratio} of the reduced projection must be 1 or more")
        self.heads, self.roles, self.ratio = heads, roles, ratio
        self.conv = nn.Conv2d(dim, dim, ratio, ratio)
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim, bias=bias) if "q" in roles else None
        self.linear = nn.Linear(dim, len(roles.replace("q", "")) * dim, bias=bias)

    @classmethod
    def with_(cls, *, ratio: int, bias: bool = True) -> Callable[[int, int, str], ReducedProjection]:
        """Return a projection with these settings, for `MultiHead(project=...)`."""
        return partial(cls, ratio=ratio, bias=bias)

    @property
    def key_stride(self) -> int:
        """Return how many query positions share one key position, in each direction."""
        return self.ratio

    def forward(self, x: Float[Tensor, "b n c"], grid: Grid) -> tuple[Tensor, ...]:
        prefix, places = torch.split(x, [grid.prefix, grid.h * grid.w], dim=1)
        image = rearrange(places, "b (h w) c -> b c h w", h=grid.h)
        below, beside = max(self.ratio - grid.h, 0), max(self.ratio - grid.w, 0)
        if below or beside:
            image = F.pad(image, (0, beside, 0, below))
        reduced = rearrange(self.conv(image), "b c h w -> b (h w) c")
        tokens = self.norm(torch.cat([prefix, reduced], dim=1) if grid.prefix else reduced)
        pattern = "b n (roles h d) -> roles b h n d"
        others = tuple(rearrange(self.linear(tokens), pattern, roles=len(self.roles.replace("q", "")), h=self.heads))
        if self.query is None:
            return others
        return (rearrange(self.query(x), "b n (h d) -> b h n d", h=self.heads), *others)
