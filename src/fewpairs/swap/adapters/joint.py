"""Layers of timm with one projection `qkv` for all roles, tokens in and tokens out."""

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
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.module import SwappedModule, refuse_slicing, without_rows


class JointAttention(SwappedModule):
    """A layer with a projection `qkv`; for a variant without queries it becomes `kv`, and `q_norm` goes."""

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
        """The projection for all roles."""
        projection: nn.Module = self.qkv if self.queries else self.kv
        return projection

    def split(self, projected: Tensor) -> tuple[Tensor, ...]:
        """The projection's output `[b n roles*h*d]` -> one `[b h n d]` for each role."""
        return split_heads(projected, self.core.heads, 3 if self.queries else 2)

    def normed(self, roles: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The roles with queries and keys normed as the layer does."""
        if not self.queries:
            k, v = roles
            return self.k_norm(k), v
        q, k, v = roles
        return self.q_norm(q), self.k_norm(k), v

    def out(self, mixed: Tensor) -> Tensor:
        """Heads together, then the output projection: `[b h n d] -> [b n c]`."""
        projected: Tensor = self.proj_drop(self.proj(rearrange(mixed, "b h n d -> b n (h d)")))
        return projected


def split_heads(projected: Tensor, heads: int, roles: int) -> tuple[Tensor, ...]:
    """What one map gives for all roles, `[b n roles*h*d]` -> one `[b h n d]` for each."""
    return tuple(rearrange(projected, "b n (roles h d) -> roles b h n d", roles=roles, h=heads))


def heads(layer: Any) -> tuple[int, int]:
    """Heads of a layer with a projection `qkv`, and the width of one."""
    return layer.num_heads, layer.qkv.out_features // 3 // layer.num_heads


def joint_adapter(family: str, matches: tuple[str, ...], build: type[JointAttention], bias: Any = None) -> Adapter:
    """The adapter of layers with a projection `qkv`. `bias`: see `Adapter.bias`."""
    plain = partial(refuse_slicing, name="qkv")
    given = {} if bias is None else {"bias": bias}
    return Adapter(family, matches, heads, build, queries=plain, renames={"qkv": "kv"}, **given)


def experimental_fused(layer: Any) -> bool:
    """timm does not fuse these layers unless told to twice; a variant's kernels need no such caution."""
    return bool(layer.fused_attn) or bool(use_fused_attn())


def scores_mask(n: int, mask: Tensor | None, is_causal: bool, device: torch.device) -> Tensor | None:
    """timm's two arguments as one mask or bias of the scores.

    Raises:
        InputError: both were given.
    """
    if is_causal and mask is not None:
        raise InputError("attn_mask and is_causal=True exclude one another; put the causal mask into attn_mask")
    if is_causal:
        return torch.ones(1, 1, n, n, dtype=torch.bool, device=device).tril()
    return mask
