"""Assignment of a model's modules to the terms of the cost breakdown."""

from __future__ import annotations

from timm.layers import Mlp
from timm.models.resnetv2 import ResNetV2
from torch import nn

from fewpairs.attention import Core, MultiHead

TERMS = (
    "embedding",
    "stem",
    "convolutions",
    "projections",
    "scores",
    "values",
    "position",
    "feed-forward",
    "norm",
    "decoder",
    "auxiliary",
    "head",
    "other",
)
"""All terms, in the order of a table.

Embedding: patches, positions and tokens, and downsampling. Stem: the convolutional encoder before a transformer.
Convolutions: convolution blocks that alternate with attention blocks (LinGlo). Projections: input and output maps of
attention. Scores, values, position: products and tables of attention itself. Norm: norms and layer scales of the
transformer; norms in stem, convolutions and decoder count there. Head: a classifier. Other: linear maps and
convolutions whose name and type do not tell their purpose.
"""

_BY_NAME = {
    "decoder": "decoder",
    "aux_heads": "auxiliary",
    "head": "head",
    "heads": "head",
    "head_dist": "head",
    "aux_head": "head",
    "classifier": "head",
    "fc_norm": "head",
    "second_order": "head",
    "stem": "stem",
}
_EMBEDDINGS = ("patch_embed", "embed", "pos_", "pixel_", "downsample", "pool", "tokens_to_token")
"""Prefixes of the names of modules that make, position or merge tokens."""
_FEED_FORWARD = ("mlp", "ffn", "feed_forward")
_ATTENTION = ("attn", "attention", "self_attn", "self_attention")
_CONVOLUTIONS = ("MBConv",)
"""Types of convolution blocks between attention blocks."""
_WITHOUT_SCORES = ("OutlookAttention",)
"""Attention types whose weights come from a linear map: their only product is with the values."""


def assign_terms(model: nn.Module) -> dict[nn.Module, str]:
    """Return the term of every module; an attention layer itself, without its projections, has "scores"."""
    assigned: dict[nn.Module, str] = {}

    def visit(module: nn.Module, term: str, *, settled: bool) -> None:
        assigned[module] = term
        for name, child in module.named_children():
            mine, known = _own_term(name, child)
            within_embedding = term == "embedding" and mine == "feed-forward"
            if _is_attention(name, child):
                visit(child, "values" if type(child).__name__ in _WITHOUT_SCORES else "scores", settled=True)
            elif settled and term in ("scores", "values"):
                visit(child, _inside_attention(name, child), settled=True)
            elif known and (within_embedding or not settled):
                visit(child, mine, settled=True)
            elif settled or _holds_others(child) or not any(True for _ in child.parameters()):
                visit(child, term, settled=settled)
            else:
                visit(child, "other", settled=True)

    root = "scores" if _is_attention("", model) else "embedding"
    visit(model, root, settled=root == "scores")
    return assigned


def _own_term(name: str, module: nn.Module) -> tuple[str, bool]:
    """Return the term that the name or the type of a module implies, and whether they imply one."""
    kind = type(module).__name__
    if name in _BY_NAME:
        return _BY_NAME[name], True
    if isinstance(module, ResNetV2):
        return "stem", True
    if isinstance(module, Mlp) or kind.endswith("Mlp") or name.startswith(_FEED_FORWARD):
        return "feed-forward", True
    if kind in _CONVOLUTIONS:
        return "convolutions", True
    if "norm" in kind.lower() or kind == "LayerScale":
        return "norm", True
    return "embedding", name.startswith(_EMBEDDINGS)


def _holds_others(module: nn.Module) -> bool:
    return any(True for _ in module.children())


def _is_attention(name: str, module: nn.Module) -> bool:
    if isinstance(module, MultiHead):
        return True
    if isinstance(module, Core) or not _holds_others(module):
        return False
    kind = type(module).__name__
    return name.startswith(_ATTENTION) or "Attention" in kind or kind.endswith("Attn")


def _inside_attention(name: str, module: nn.Module) -> str:
    if isinstance(module, Core) or name in ("bias", "rope") or "pos" in name:
        return "position"
    return "projections"
