"""timm layers with one projection `qkv` for all roles, from tokens to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from timm.layers import use_fused_attn
from torch import Tensor, nn

from fewpairs.attention import Variant
from fewpairs.errors import InputError
from fewpairs.swap.adapter import Adapter, always_none
from fewpairs.swap.condition import refuse_slicing
from fewpairs.swap.module import SwappedModule, without_rows


class JointAttention(SwappedModule):
    """A layer with a projection `qkv`; a variant without queries makes it `kv` and removes `q_norm`."""

    def __init__(self, old: Any, variant: Variant, *, fused: bool | None = None) -> None:
        fused = getattr(old, "fused_attn", use_fused_attn()) if fused is None else fused
        super().__init__(old, variant, *heads(old), scale=getattr(old, "scale", None), fused=fused)
        if not self.queries:
            self.kv = without_rows(old.qkv, self.core.heads * self.core.dim_head)
            del self.qkv
            if "q_norm" in self._modules:
                del self.q_norm

    @property
    def joint(self) -> nn.Module:
        """The projection for all roles: `qkv` or `kv`."""
        projection: nn.Module = self.qkv if self.queries else self.kv
        return projection

    def split(self, projected: Tensor) -> tuple[Tensor, ...]:
        """Split the projection's output `[b n roles*h*d]` into one `[b h n d]` for each role."""
        return split_heads(projected, self.core.heads, 3 if self.queries else 2)

    def normed(self, roles: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Normalise queries and keys as the layer does."""
        if not self.queries:
            k, v = roles
            return self.k_norm(k), v
        q, k, v = roles
        return self.q_norm(q), self.k_norm(k), v

    def out(self, mixed: Tensor) -> Tensor:
        """Join the heads and apply the output projection: `[b h n d] -> [b n c]`."""
        projected: Tensor = self.proj_drop(self.proj(rearrange(mixed, "b h n d -> b n (h d)")))
        return projected


def split_heads(projected: Tensor, heads: int, roles: int) -> tuple[Tensor, ...]:
    """Split the output of a joint projection, `[b n roles*h*d]`, into one `[b h n d]` for each role."""
    return tuple(rearrange(projected, "b n (roles h d) -> roles b h n d", roles=roles, h=heads))


def heads(layer: Any) -> tuple[int, int]:
    """Return the number of heads of a layer with a projection `qkv`, and the width of one head."""
    count = layer.heads if hasattr(layer, "heads") else layer.num_heads
    if hasattr(layer.qkv, "out_features"):
        return count, layer.qkv.out_features // 3 // count
    return count, layer.head_dim  # somebody put another module in the place of the projection


def joint_adapter(
    family: str,
    matches: tuple[str, ...],
    build: type[SwappedModule],
    bias: Any = always_none,
    strided: Any = always_none,
    heads: Any = heads,
) -> Adapter:
    """Create the adapter of layers with a projection `qkv`; the other arguments are those of `Adapter`."""
    plain = partial(refuse_slicing, name="qkv")
    return Adapter(family, matches, heads, build, bias=bias, strided=strided, queries=plain, renames={"qkv": "kv"})


def experimental_fused(layer: Any) -> bool:
    """Whether to choose fused kernels; timm itself fuses these layers only with `TIMM_FUSED_ATTN=2`."""
    return bool(layer.fused_attn) or bool(use_fused_attn())


def scores_mask(n: int, mask: Tensor | None, is_causal: bool, device: torch.device) -> Tensor | None:
    """Combine timm's two arguments into one mask or bias of the scores.

    Raises:
        InputError: both are given.
    """
    if is_causal and mask is not None:
        raise InputError("attn_mask and is_causal=True exclude one another; include the causal mask in attn_mask")
    if is_causal:
        return torch.ones(1, 1, n, n, dtype=torch.bool, device=device).tril()
    return mask
