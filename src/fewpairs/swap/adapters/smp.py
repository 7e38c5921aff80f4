"""The MiT encoders of segmentation_models_pytorch, SegFormer's; the library is not imported here."""

from __future__ import annotations

from typing import Any

from einops import rearrange
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter, Unsupported
from fewpairs.swap.adapters.strided import SeparateQuery, query_heads


class SwappedMixAttention(SeparateQuery):
    """Maps `[b n c] -> [b n c]`; keys come from a strided convolution where `sr_ratio` is above 1."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, fused=True)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        places = x
        if self.sr_ratio > 1:
            image = self.sr(rearrange(x, "b (H W) c -> b c H W", H=height))
            places = self.norm(rearrange(image, "b c H W -> b (H W) c"))
        return self.out(self.mix(*self.roles(x, places)))


def _stride(layer: Any) -> str | None:
    return f"there is one key for {layer.sr_ratio} x {layer.sr_ratio} queries" if layer.sr_ratio > 1 else None


ADAPTERS = (
    Adapter(
        "MiT (segmentation_models_pytorch)",
        ("segmentation_models_pytorch.encoders.mix_transformer.Attention",),
        query_heads,
        SwappedMixAttention,
        strided=_stride,
    ),
    Unsupported(
        "Decoder gates (segmentation_models_pytorch)",
        ("segmentation_models_pytorch.base.modules.Attention",),
        "it is a gate of the decoder, or nothing: there are no queries and keys",
    ),
)
