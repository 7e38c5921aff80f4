"""Which term of the ledger each part of a model belongs to."""

from __future__ import annotations

from timm.layers import Mlp
from timm.models.resnetv2 import ResNetV2
from torch import nn

from latchkey.attention import MultiHead

TERMS = (
    "embedding",
    "stem",
    "projections",
    "scores",
    "values",
    "position",
    "feed-forward",
    "norm",
    "decoder",
    "auxiliary",
    "head",
)
"""All terms, in the order of a table.

Embedding: patches, positions and tokens. Stem: the convolutional encoder before a transformer. Projections: of the
attention, in and out. Scores, values, position: the attention's own products. Norm: the transformer's, those of stem
and decoder being counted there. Head: a classifier.
"""

_BY_NAME = {"decoder": "decoder", "aux_heads": "auxiliary", "head": "head", "fc_norm": "head"}
_BY_TYPE = ((Mlp, "feed-forward"), (ResNetV2, "stem"), (nn.LayerNorm, "norm"))


def assign_terms(model: nn.Module) -> dict[nn.Module, str]:
    """The term of every module. The attention layer itself, without its projections, has the term "scores"."""
    assigned: dict[nn.Module, str] = {}

    def visit(module: nn.Module, term: str, *, settled: bool) -> None:
        if not settled:
            for kind, name in _BY_TYPE:
                if isinstance(module, kind):
                    term, settled = name, True
        assigned[module] = term
        for name, child in module.named_children():
            if isinstance(module, MultiHead):
                inside = {"project": "projections", "out": "projections", "core": "position"}.get(name, "scores")
                visit(child, inside, settled=True)
            elif isinstance(child, MultiHead):
                visit(child, "scores", settled=True)
            elif not settled and name in _BY_NAME:
                visit(child, _BY_NAME[name], settled=True)
            else:
                visit(child, term, settled=settled or _embeds(name))

    visit(model, "embedding", settled=False)
    return assigned


def _embeds(name: str) -> bool:
    return name in ("patch_embed", "embed")
