"""Adaptation of checkpoint tensors to a model's shapes, and rules for tensors that only one of them has."""

from __future__ import annotations

import math
from collections.abc import Mapping

from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fewpairs.models.checkpoint_names import Layout

CLASSIFIER_NAMES = tuple(
    f"{name}.{what}" for name in ("classify", "head", "head_dist", "head.fc") for what in ("weight", "bias")
)
"""Suffixes of the names of classification layers, whose shape depends on the number of classes."""

_ROLE_MAPS = ("project.linear.weight", "project.linear.bias", "attn.kv.weight", "attn.kv.bias")

Tables = dict[str, tuple[tuple[int, int], int]]
"""Position tables of a model: name -> (rows, columns) of the grid, and number of prefix tokens."""


def position_tables(model: nn.Module) -> Tables:
    """Return the learned position tables of all vision transformers in `model`."""
    return {
        f"{name}.pos_embed".lstrip("."): (tuple(part.patch_embed.grid_size), part.num_prefix_tokens)
        for name, part in model.named_modules()
        if isinstance(part, VisionTransformer)
    }


def adapt_weights(name: str, value: Tensor, target: Tensor, tables: Tables) -> tuple[Tensor | None, str]:
    """Return the tensor in the target's shape and the conversion done, or None and the reason; "" for neither."""
    if value.shape == target.shape:
        return value, ""
    if name.endswith(_ROLE_MAPS) and value.shape[1:] == target.shape[1:]:
        if value.shape[0] * 2 == target.shape[0] * 3:
            return value[-target.shape[0] :], "key and value rows kept, query rows dropped"
        if value.shape[0] * 3 == target.shape[0] * 2:
            return None, " (key-value attention has no query rows to give)"
    if name in tables and value.ndim == 3 and value.shape[-1] == target.shape[-1]:
        grid, prefix = tables[name]
        side = math.isqrt(value.shape[1] - prefix)
        if side * side != value.shape[1] - prefix:
            return None, " (only a table of a square grid can be resampled)"
        table = resample_abs_pos_embed(value, list(grid), [side, side], num_prefix_tokens=prefix)
        return table, f"positions resampled from {side}x{side} to {grid[0]}x{grid[1]}"
    if value.ndim == target.ndim == 4 and value.shape[1] == 3 and value.shape[2:] == target.shape[2:]:
        folded = adapt_input_conv(target.shape[1], value)
        if folded.shape == target.shape:
            return folded, f"3 input channels folded to {target.shape[1]}"
    return None, ""


def drop_reason(name: str, targets: Mapping[str, Tensor], layout: Layout) -> str | None:
    """Return why this tensor of the checkpoint may be dropped; None if it shows that the models differ."""
    block, found, rest = name.partition(".project.")
    if found and rest.split(".")[1] == "q" and any(target.startswith(f"{block}.project.") for target in targets):
        return "query weights, which key-value attention does not have"
    if ".core." in name:
        return "weights that only the checkpoint's attention has"
    if layout == "fewpairs":
        if name.endswith(CLASSIFIER_NAMES):
            return "part of the classifier, which the model does not have"
        return "a head for deep supervision, which the model does not have" if name.startswith("aux_heads.") else None
    if name.endswith("cls_token"):
        return "the model has no class token"
    if _is_final_norm(name) or name.endswith(CLASSIFIER_NAMES) or "pre_logits" in name:
        return "part of the classifier, which the model does not have"
    return None


def may_be_new(name: str, layout: Layout) -> bool:
    """Return whether a tensor of the model may be missing from a checkpoint of this layout."""
    if ".core." in name or name.startswith("aux_heads."):
        return True
    if layout == "fewpairs":
        return False
    return name.startswith("decoder.") or name.endswith(CLASSIFIER_NAMES) or _is_final_norm(name)


def _is_final_norm(name: str) -> bool:
    """Return whether this is the norm before a classifier; some models have it before the pooling, some after it."""
    return name.split(".")[-2:-1] in (["norm"], ["fc_norm"]) and ".blocks." not in name and "embed" not in name
