"""Conversion of weight names in checkpoints of other projects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

Layout = Literal["fewpairs", "timm ViT", "Microsoft CvT", "CvT", "T2T-ViT", "the model's own"]

_CVT_RULES = (
    (r"^stage(\d+)\.", r"stages.\1."),
    (r"\.patch_embed\.", r".embed."),
    (r"\.attn\.conv_proj_([qkv])\.conv\.", r".attn.project.conv.\1."),
    (r"\.attn\.conv_proj_([qkv])\.bn\.", r".attn.project.norm.\1."),
    (r"\.attn\.proj_([qkv])\.", r".attn.project.linear.\1."),
    (r"\.attn\.proj\.", r".attn.out."),
)
_T2T_RULES = (
    (r"^tokens_to_token\.attention1\.", r"patch_embed.layers.0."),
    (r"^tokens_to_token\.attention2\.", r"patch_embed.layers.1."),
    (r"^tokens_to_token\.", r"patch_embed."),
    (r"\.attn\.qkv\.", r".attn.project.linear."),
    (r"\.attn\.proj\.", r".attn.out."),
)
_VIT_RULES = (
    (r"\.attn\.qkv\.", r".attn.attention.project.linear."),
    (r"\.attn\.proj\.", r".attn.attention.out."),
)


def cvt_name(name: str) -> str:
    """Convert a name of microsoft/CvT (`stage0.blocks.0.attn.conv_proj_q.conv.weight`) to our `CvT`."""
    return _rename(name, _CVT_RULES) if name.startswith("stage") else name


def vit_name(name: str) -> str:
    """Convert a name of a timm or DeiT vision transformer to a model from `build_vit`."""
    return _rename(name, _VIT_RULES)


def t2t_name(name: str) -> str:
    """Convert a name of yitu-opensource/T2T-ViT (`tokens_to_token.attention1.attn.qkv.weight`) to our `T2TViT`."""
    return _rename(name, _T2T_RULES)


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def distilled_encoder(weights: Mapping[str, Any], part: Literal["teacher", "student"] = "teacher") -> Mapping[str, Any]:
    """Return the encoder weights of a self-distillation run, without the head; other weights are returned unchanged.

    Recognised are DINO's training checkpoints (one dictionary each for teacher and student, with names that begin
    `module.backbone.` or `backbone.`), one of these dictionaries, and the weights of our `DinoPair`
    (`teacher.encoder.`).
    """
    ours = _without(weights, f"{part}.encoder.")
    if ours:
        return ours
    if all(isinstance(weights.get(one), Mapping) for one in ("teacher", "student")):
        weights = weights[part]
    plain = {str(name).removeprefix("module."): value for name, value in weights.items()}
    if all(name.startswith(("backbone.", "head.")) for name in plain):
        return _without(plain, "backbone.") or weights
    return weights


def _without(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the weights whose names begin with `prefix`, and strip it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if str(name).startswith(prefix)}


def swapped_name(name: str, targets: Mapping[str, Tensor]) -> str:
    """Convert a name of a dense timm model to the model with swapped attention, which may have only keys and values."""
    keys_and_values = name.replace(".qkv.", ".kv.")
    return keys_and_values if name not in targets and keys_and_values in targets else name


def matches_model(weights: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> bool:
    """Return whether most names are those of the model's tensors, and its attention is where timm has it."""
    if any(".attn.attention." in name for name in targets):
        return False
    return 2 * sum(swapped_name(name, targets) in targets for name in weights) > max(len(weights), len(targets))


def detect_layout(weights: Mapping[str, Tensor]) -> Layout | None:
    """Return the layout that the names belong to; None if it is unknown."""
    if any(re.match(r"stage\d+\.blocks\.\d+\.attn\.conv_proj_k\.conv\.", name) for name in weights):
        return "Microsoft CvT"
    if any(re.match(r"stages\.\d+\.blocks\.\d+\.attn\.project\.conv\.", name) for name in weights):
        return "CvT"
    if "tokens_to_token.attention1.attn.qkv.weight" in weights:
        return "T2T-ViT"
    if any(re.match(r"blocks\.\d+\.attn\.qkv\.weight", name) for name in weights):
        return "timm ViT"
    if any(".attn.attention.project." in name or ".attn.project." in name for name in weights):
        return "fewpairs"
    return None
