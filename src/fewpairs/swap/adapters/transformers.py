"""Layers of transformers that call its `AttentionInterface`: ViT and similar, Swin, SegFormer, DINOv3, CLIP and more.

They keep transformers' forward pass with its projections, rotations and relative positions. A swapped layer has a core
and a copy of its configuration that names fewpairs' attention. Without queries, the query projection becomes `NoQuery`.

transformers is imported when the first of its layers is swapped, not before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter, Unsupported, always_none
from fewpairs.swap.explicit import mix_and_weights
from fewpairs.swap.interface import CORE, AttentionOutput, register_core
from fewpairs.swap.module import SwappedModule


@dataclass(frozen=True)
class Names:
    """The attribute names of a layer."""

    heads: str = "num_attention_heads"
    width: str = "head_dim"
    """It suffices that a layer has one of `heads` and `width`."""
    scale: str = "scaling"
    dropout: str = "attention_dropout"
    """A layer without this attribute drops no attention weights."""
    query: str = "q_proj"


VIT = Names()
CLIP = Names(heads="num_heads", scale="scale", dropout="dropout")
DINOV3 = Names(heads="num_heads", dropout="dropout")
OLDER = Names(width="attention_head_size", dropout="dropout_prob", query="query")

LAYERS: dict[str, tuple[str, str, Names]] = {
    "ViTAttention": ("ViT", "vit", VIT),
    "DeiTAttention": ("DeiT", "deit", VIT),
    "Dinov2Attention": ("DINOv2", "dinov2", VIT),
    "Dinov2WithRegistersAttention": ("DINOv2 with registers", "dinov2_with_registers", VIT),
    "DINOv3ViTAttention": ("DINOv3", "dinov3_vit", DINOV3),
    "IJepaAttention": ("I-JEPA", "ijepa", VIT),
    "ViTMSNAttention": ("ViT-MSN", "vit_msn", VIT),
    "ViTMAEAttention": ("ViT-MAE", "vit_mae", VIT),
    "BeitAttention": ("BEiT", "beit", VIT),
    "SwinAttention": ("Swin", "swin", VIT),
    "SegformerAttention": ("SegFormer", "segformer", VIT),
    "DPTSelfAttention": ("DPT", "dpt", OLDER),
    "YolosSelfAttention": ("YOLOS", "yolos", OLDER),
    "CLIPAttention": ("CLIP", "clip", CLIP),
    "SiglipAttention": ("SigLIP", "siglip", CLIP),
    "Siglip2Attention": ("SigLIP 2", "siglip2", CLIP),
    "DetrSelfAttention": ("DETR", "detr", VIT),
    "DetrCrossAttention": ("DETR", "detr", VIT),
    "MaskFormerDetrSelfAttention": ("MaskFormer", "maskformer", VIT),
    "MaskFormerDetrCrossAttention": ("MaskFormer", "maskformer", VIT),
    "EomtAttention": ("EoMT", "eomt", CLIP),
    "VideoMAESelfAttention": ("VideoMAE", "videomae", OLDER),
    "SamAttention": ("SAM", "sam", VIT),
}
"""Maps a layer class to its family, the model's folder in transformers, and its attribute names."""


class NoQuery(nn.Module):
    """Replaces a query projection, `[... c] -> [... out_features]`; its output has the right shape and is not used."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :1].expand(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"out_features={self.out_features}"


class SwappedTransformersLayer(SwappedModule):
    """A layer whose original forward pass calls `attend` through transformers' interface."""

    names: Names

    def __init__(self, old: Any, variant: Variant) -> None:
        heads, width = _heads(old, self.names)
        super().__init__(old, variant, heads, width, scale=getattr(old, self.names.scale))
        self.core.attn_drop = nn.Dropout(getattr(old, self.names.dropout, 0.0)).train(old.training)
        self.config = copy.copy(old.config)
        self.config._attn_implementation_internal = CORE
        if not self.queries:
            setattr(self, self.names.query, NoQuery(heads * width).train(old.training))
        register_core()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or unpickled layer; the process may not have swapped any layer before."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # PyTorch's own gap
        register_core()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, maps: bool) -> AttentionOutput:
        """Mix one `[b h n d]` per role to `[b n h e]`; with `maps` return the weights after dropout too."""
        roles = (q, k, v) if self.queries else (k, v)
        if not maps:
            return self.mix(*roles, bias=bias).transpose(1, 2).contiguous(), None
        mixed, weights = mix_and_weights(self, *roles, bias=bias)
        return mixed.transpose(1, 2).contiguous(), weights


@cache
def swapped_class(layer: str) -> type[SwappedTransformersLayer]:
    """Create a subclass of `SwappedTransformersLayer` and the transformers class of a name in `LAYERS`."""
    _, folder, names = LAYERS[layer]
    original = getattr(import_module(f"transformers.models.{folder}.modeling_{folder}"), layer)
    members = {"__module__": __name__, "__doc__": original.__doc__, "names": names}
    return type(f"Swapped{layer}", (SwappedTransformersLayer, original), members)


def __getattr__(name: str) -> type[SwappedTransformersLayer]:
    """Create `SwappedViTAttention` etc. on demand, so that pickle finds them in a new process."""
    layer = name.removeprefix("Swapped")
    if layer == name or layer not in LAYERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return swapped_class(layer)


def _heads(layer: Any, names: Names) -> tuple[int, int]:
    heads, width = getattr(layer, names.heads, None), getattr(layer, names.width, None)
    total = getattr(layer, names.query).out_features
    return heads or total // width, width or total // heads


def _build(old: nn.Module, variant: Variant) -> SwappedModule:
    return swapped_class(type(old).__name__.removeprefix("Swapped"))(old, variant)


def _table(_layer: Any) -> str:
    return "a table of relative positions, and the mask of a shift,"


def _mask(_layer: Any) -> str:
    return "a mask for each query, in its last blocks,"


def _relative(layer: Any) -> str | None:
    config = layer.config
    used = config.use_relative_position_bias or config.use_shared_relative_position_bias
    return "a table of relative positions" if used else None


def _reduced(layer: Any) -> str | None:
    ratio = layer.sequence_reduction_ratio
    return f"there is one key for {ratio} x {ratio} queries" if ratio > 1 else None


def _crossing(_layer: Any) -> str:
    return "queries are objects and keys are the image"


def _sam_crossing(layer: Any) -> str | None:
    if layer.config.attention_downsample_rate == 1:
        return "it cannot be told from cross-attention (attention_downsample_rate=1)"
    between = layer.internal_dim < layer.hidden_size
    return "queries and keys are the tokens of the prompt and the image, or the reverse" if between else None


STRIDED: dict[str, Callable[[Any], str | None]] = {
    "SegformerAttention": _reduced,
    "DetrCrossAttention": _crossing,
    "MaskFormerDetrCrossAttention": _crossing,
    "SamAttention": _sam_crossing,
}
"""Maps a layer class to the reason why its keys are not where its queries are."""


def _adapter(layer: str) -> Adapter:
    family, folder, names = LAYERS[layer]
    return Adapter(
        family=f"{family} (transformers)",
        matches=(f"transformers.models.{folder}.modeling_{folder}.{layer}",),
        heads=partial(_heads, names=names),
        build=_build,
        bias={"SwinAttention": _table, "BeitAttention": _relative, "EomtAttention": _mask}.get(layer, always_none),
        strided=STRIDED.get(layer, always_none),
    )


def _unsupported(family: str, *layers: str) -> Unsupported:
    reason = "its scores are computed in its own forward pass, not through transformers' AttentionInterface"
    return Unsupported(f"{family} (transformers)", tuple(f"transformers.models.{layer}" for layer in layers), reason)


ADAPTERS: tuple[Adapter | Unsupported, ...] = (
    *(_adapter(layer) for layer in LAYERS),
    _unsupported("PVT", "pvt.modeling_pvt.PvtEfficientSelfAttention"),
    _unsupported("PVTv2", "pvt_v2.modeling_pvt_v2.PvtV2SelfAttention"),
    _unsupported("CvT", "cvt.modeling_cvt.CvtSelfAttention"),
    _unsupported("Hiera", "hiera.modeling_hiera.HieraMaskUnitAttention"),
    _unsupported("LeViT", "levit.modeling_levit.LevitAttention", "levit.modeling_levit.LevitAttentionSubsample"),
    _unsupported("MobileViT", "mobilevit.modeling_mobilevit.MobileViTSelfAttention"),
)
