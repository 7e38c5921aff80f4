"""timm layers that pool their queries or keys after the projection: Hiera, the encoder of SAM 2, and MViT V2."""

from __future__ import annotations

from typing import Any

from einops import rearrange
from timm.models.hiera import MaskUnitAttention
from timm.models.hieradet_sam2 import MultiScaleAttention as HieraDetAttention
from timm.models.mvitv2 import MultiScaleAttention, cal_rel_pos_type, reshape_post_pool, reshape_pre_pool
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapters.joint import JointAttention, joint_adapter


class SwappedMaskUnitAttention(JointAttention, MaskUnitAttention):
    """Hiera's layer, `[b n c] -> [b m c]`, over mask units or the image; queries may be the largest of several."""

    def forward(self, x: Tensor) -> Tensor:
        units = x.shape[1] // (self.q_stride * self.window_size) if self.use_mask_unit_attn else 1
        *queries, k, v = self.split(self.joint(rearrange(x, "b (n w) c -> (b w) n c", w=units)))
        if queries and self.q_stride > 1:
            queries = [rearrange(q, "b h (s n) d -> s b h n d", s=self.q_stride).amax(dim=0) for q in queries]
        projected: Tensor = self.proj(rearrange(self.mix(*queries, k, v), "(b w) h n d -> b (n w) (h d)", w=units))
        return projected


class SwappedHieraDetAttention(JointAttention, HieraDetAttention):
    """The layer of SAM 2's encoder, `[b H W c] -> [b H W c]`, over a window or the whole map; queries may be pooled."""

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[1]
        *queries, k, v = self.split(self.joint(rearrange(x, "b H W c -> b (H W) c")))
        if queries and self.q_pool is not None:
            pooled = self.q_pool(rearrange(queries[0], "b h (H W) d -> b (h d) H W", H=height))
            height = pooled.shape[2]
            queries = [rearrange(pooled, "b (h d) H W -> b h (H W) d", h=self.core.heads)]
        projected: Tensor = self.proj(rearrange(self.mix(*queries, k, v), "b h (H W) d -> b H W (h d)", H=height))
        return projected


class SwappedMultiScaleAttention(JointAttention, MultiScaleAttention):
    """MViT V2's layer, `[b n c], (H, W) -> [b m c], (H, W)`: each role is pooled, and queries are added to the output.

    Relative positions depend on the queries; without queries they depend on the keys, and keys are added to the output.
    """

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant)
        if not self.queries:
            for name in ("pool_q", "norm_q"):
                if name in self._modules:
                    del self._modules[name]

    def forward(self, x: Tensor, feat_size: list[int]) -> tuple[Tensor, list[int]]:
        roles = self.split(self.joint(x))
        pooled = [self.pooled(role, name, feat_size) for role, name in zip(roles, "qkv"[-len(roles) :], strict=True)]
        (first, size), (keys, key_size), _ = pooled if self.queries else (pooled[0], *pooled)
        bias = None
        if self.rel_pos_type == "spatial":
            bias = first.new_zeros(*first.shape[:3], keys.shape[2])
            tables = self.rel_pos_h, self.rel_pos_w
            bias = cal_rel_pos_type(bias, first, self.has_cls_token, size, key_size, *tables)
        mixed = self.mix(*(role for role, _ in pooled), bias=bias)
        mixed = mixed + first if self.residual_pooling else mixed
        return self.proj(rearrange(mixed, "b h n d -> b n (h d)")), size

    def pooled(self, role: Tensor, name: str, size: list[int]) -> tuple[Tensor, list[int]]:
        """Pool and normalise the places of a role, `[b h n d] -> [b h m d]`; return it with the new (height, width)."""
        if (pool := getattr(self, f"pool_{name}")) is not None:
            places, tokens = reshape_pre_pool(role, size, self.has_cls_token)
            role, size = reshape_post_pool(pool(places), self.core.heads, tokens)
        norm = getattr(self, f"norm_{name}")
        return (role if norm is None else norm(role)), size


def _hiera_stride(layer: Any) -> str | None:
    return f"there is one query for {layer.q_stride} keys" if layer.q_stride > 1 else None


def _hieradet_stride(layer: Any) -> str | None:
    return None if layer.q_pool is None else "queries are pooled and keys are not"


def _mvit_stride(layer: Any) -> str | None:
    q, k = (1 if pool is None else pool.stride for pool in (layer.pool_q, layer.pool_k))
    q, k = (stride if isinstance(stride, int) else stride[0] for stride in (q, k))
    return None if q == k else f"one place in {q} x {q} is a query, and one in {k} x {k} is a key"


def _mvit_bias(layer: Any) -> str | None:
    return "a bias of relative positions that depends on the queries" if layer.rel_pos_type == "spatial" else None


ADAPTERS = (
    joint_adapter(
        "Hiera (timm)", ("timm.models.hiera.MaskUnitAttention",), SwappedMaskUnitAttention, strided=_hiera_stride
    ),
    joint_adapter(
        "SAM 2 (timm)",
        ("timm.models.hieradet_sam2.MultiScaleAttention",),
        SwappedHieraDetAttention,
        strided=_hieradet_stride,
    ),
    joint_adapter(
        "MViT V2 (timm)",
        ("timm.models.mvitv2.MultiScaleAttention",),
        SwappedMultiScaleAttention,
        bias=_mvit_bias,
        strided=_mvit_stride,
    ),
)
