"""Names of the same weights in other people's files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

Layout = Literal["latchkey", "timm ViT", "Microsoft CvT", "CvT"]

_CVT_RULES = (
    (r"^stage(\d+)\.", r"stages.\1."),
    (r"\.patch_embed\.", r".embed."),
    (r"\.attn\.conv_proj_([qkv])\.conv\.", r".attn.project.conv.\1."),
    (r"\.attn\.conv_proj_([qkv])\.bn\.", r".attn.project.norm.\1."),
    (r"\.attn\.proj_([qkv])\.", r".attn.project.linear.\1."),
    (r"\.attn\.proj\.", r".attn.out."),
)
_VIT_RULES = (
    (r"\.attn\.qkv\.", r".attn.attention.project.linear."),
    (r"\.attn\.proj\.", r".attn.attention.out."),
)


def cvt_name(name: str) -> str:
    """A name of microsoft/CvT (`stage0.blocks.0.attn.conv_proj_q.conv.weight`) in our `CvT`; our names stay."""
    return _rename(name, _CVT_RULES) if name.startswith("stage") else name


def vit_name(name: str) -> str:
    """A name of a timm or DeiT vision transformer in one from `build_vit`."""
    return _rename(name, _VIT_RULES)


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def recognise(weights: Mapping[str, Tensor]) -> Layout | None:
    """Whose names these are, or None when nobody's that is known here."""
    if any(re.match(r"stage\d+\.blocks\.\d+\.attn\.conv_proj_k\.conv\.", name) for name in weights):
        return "Microsoft CvT"
    if any(re.match(r"stages\.\d+\.blocks\.\d+\.attn\.project\.conv\.", name) for name in weights):
        return "CvT"
    if any(re.match(r"blocks\.\d+\.attn\.qkv\.weight", name) for name in weights):
        return "timm ViT"
    if any(".attn.attention.project." in name or ".attn.project." in name for name in weights):
        return "latchkey"
    return None
