"""Loading of pretrained weights into a model with any attention, with a report on each tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fewpairs.attention import MultiHead
from fewpairs.errors import CheckpointError
from fewpairs.models.adapt_weights import CLASSIFIER_NAMES, adapt_weights, drop_reason, may_be_new, position_tables
from fewpairs.models.checkpoint_names import (
    Layout,
    cvt_name,
    detect_layout,
    matches_model,
    swapped_name,
    t2t_name,
    vit_name,
)
from fewpairs.models.encoders import CvT, T2TViT
from fewpairs.models.weights import read_weights, unnest

Part = TypeVar("Part", bound=nn.Module)
Named = dict[str, tuple[str, Tensor]]
"""A checkpoint's tensors by the model's names, each with its own name in the checkpoint."""


@dataclass
class LoadReport:
    """Report on the tensors of a checkpoint (`dropped`) and of a model (the others); printing it shows all."""

    layout: Layout
    matched: list[str] = field(default_factory=list)
    """Tensors copied without a change."""
    converted: dict[str, str] = field(default_factory=dict)
    """Tensors copied after a conversion: name in the model -> conversion."""
    new: list[str] = field(default_factory=list)
    """Tensors of the model that are not in the checkpoint; they keep their initial values."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Tensors of the checkpoint that are not in the model: name -> reason."""
    notes: list[str] = field(default_factory=list)
    """Further hints for training."""

    def __str__(self) -> str:
        lines = [
            f"read as {self.layout}: {len(self.matched)} tensors as they are, {len(self.converted)} converted, "
            f"{len(self.new)} new, {len(self.dropped)} dropped"
        ]
        lines += [f"  converted {name}: {how}" for name, how in self.converted.items()]
        lines += [f"  dropped {name}: {why}" for name, why in self.dropped.items()]
        lines += [f"  new {name}" for name in self.new]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def load_pretrained(
    model: nn.Module, source: str | Path | Mapping[str, Tensor], *, strict_shapes: bool = False
) -> LoadReport:
    """Load a checkpoint of timm, DeiT, Microsoft CvT, T2T-ViT or fewpairs into `model`, and return a report.

    Weights of softmax attention go into key-value attention: the key and value rows are kept, the query rows dropped.
    Position tables are resampled to the model's grid, class and distillation tokens that the model lacks are left out,
    and the first convolution is folded to the model's channels as in timm. If this raises, the model is unchanged.

    Args:
        source: a .safetensors or PyTorch file, `timm:NAME.TAG` for weights from timm's hub, or the tensors themselves.
        strict_shapes: refuse a last layer with another number of classes; otherwise it keeps its initial values.

    Raises:
        CheckpointError: the file cannot be read as plain weights, or belongs to another model; the message names the
            keys that differ.
    """
    weights = dict(unnest(source)) if isinstance(source, Mapping) else read_weights(source)
    layout = detect_layout(weights)
    if layout in (None, "timm ViT") and matches_model(weights, model.state_dict()):
        layout = "the model's own"
    if layout is None:
        raise CheckpointError(
            "the checkpoint's names are not those of the model, nor of a timm or DeiT vision transformer, of CvT, "
            f"T2T-ViT or a fewpairs model: {_join_limited(weights)}"
        )
    report = LoadReport(layout)
    ready = _fit_all(model, _in_model_names(model, weights, report), report, strict_shapes)
    with torch.no_grad():
        for name, target in model.state_dict().items():
            if name in ready:
                target.copy_(ready[name])
    if "CvT" in layout and any(isinstance(m, MultiHead) and not _scaled_by_width(m) for m in model.modules()):
        report.notes.append(
            "CvT was trained with logits scaled by the whole width; an attention with scale_by='width' starts from it"
        )
    return report


def _scaled_by_width(layer: MultiHead) -> bool:
    return getattr(layer.variant, "scale_by", None) == "width"


def _in_model_names(model: nn.Module, weights: dict[str, Tensor], report: LoadReport) -> Named:
    """Return the checkpoint's tensors under the model's names, without tokens that the model lacks."""
    if report.layout == "fewpairs":
        return {name: (name, value) for name, value in weights.items()}
    if report.layout == "the model's own":
        targets = model.state_dict()
        if isinstance(model, VisionTransformer):
            weights = _without_tokens(weights, model, report)
        return {swapped_name(name, targets): (name, value) for name, value in weights.items()}
    if report.layout == "T2T-ViT":
        root, _ = _find(model, T2TViT, report.layout)
        report.dropped["pos_embed"] = "the positions are computed"
        return {root + t2t_name(name): (name, value) for name, value in weights.items() if name != "pos_embed"}
    if report.layout != "timm ViT":
        root, _ = _find(model, CvT, report.layout)
        return {root + cvt_name(name): (name, value) for name, value in weights.items()}
    root, vit = _find(model, VisionTransformer, report.layout)
    stem = next((f"{name}." for name, part in model.named_modules() if isinstance(part, ResNetV2)), None)
    named = {}
    for name, value in _without_tokens(weights, vit, report).items():
        inside = name.removeprefix("patch_embed.backbone.")
        plain = stem is None or inside == name
        named[root + vit_name(name) if plain else f"{stem}{inside}"] = (name, value)
    return named


def _find(model: nn.Module, kind: type[Part], layout: Layout) -> tuple[str, Part]:
    """Return the first submodule of this type, and the prefix of its tensors' names."""
    for name, part in model.named_modules():
        if isinstance(part, kind):
            return f"{name}." if name else "", part
    raise CheckpointError(f"this is a {layout} checkpoint, but the model contains no {kind.__name__}")


def _without_tokens(weights: dict[str, Tensor], vit: VisionTransformer, report: LoadReport) -> dict[str, Tensor]:
    """Leave out class and distillation tokens that the model lacks, and their rows of the position table."""
    kept = dict(weights)
    tokens = [name for name in ("cls_token", "dist_token") if name in weights]
    wanted = tokens[: vit.num_prefix_tokens]
    for name in tokens[len(wanted) :]:
        report.dropped[name] = "the model has no such token"
        del kept[name]
    table = weights.get("pos_embed")
    # in some models tokens have no position: then the table has only the grid
    if table is not None and math.isqrt(table.shape[1] - len(tokens)) ** 2 == table.shape[1] - len(tokens):
        kept["pos_embed"] = torch.cat([table[:, : len(wanted)], table[:, len(tokens) :]], dim=1)
    return kept


def _fit_all(model: nn.Module, named: Named, report: LoadReport, strict_shapes: bool) -> dict[str, Tensor]:
    """Return the tensors for the model, in its shapes, and fill the report.

    Raises:
        CheckpointError: names or shapes differ in more than attention, tokens, decoder and last layer.
    """
    targets, tables = model.state_dict(), position_tables(model)
    ready: dict[str, Tensor] = {}
    wrong: list[str] = []
    for name, (theirs, value) in named.items():
        if name not in targets:
            why = drop_reason(name, targets, report.layout)
            if why is None:
                wrong.append(f"{theirs} {list(value.shape)} is not in the model")
            else:
                report.dropped[theirs] = why
            continue
        fitted, how = adapt_weights(name, value, targets[name], tables)
        if fitted is not None:
            ready[name] = fitted
            if how:
                report.converted[name] = how
            else:
                report.matched.append(name)
        elif name.endswith(CLASSIFIER_NAMES) and not strict_shapes:
            report.dropped[theirs] = f"{value.shape[0]} classes, where the model has {targets[name].shape[0]}"
        else:
            wrong.append(f"{theirs} is {list(value.shape)}, and {list(targets[name].shape)} in the model{how}")
    report.new = [name for name in targets if name not in ready]
    wrong += [
        f"{name} is not in the checkpoint"
        for name in report.new
        if name not in named and not may_be_new(name, report.layout)
    ]
    if wrong:
        raise CheckpointError(
            f"the checkpoint belongs to another model; {len(wrong)} keys differ: {_join_limited(wrong)}"
        )
    return ready


def _join_limited(names: Iterable[str], limit: int = 6) -> str:
    names = list(names)
    more = f"; and {len(names) - limit} more" if len(names) > limit else ""
    return "; ".join(names[:limit]) + more
