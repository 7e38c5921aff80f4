"""What `swap_attention` must know of one kind of attention layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fewpairs.attention import Variant, has_pairs, needs_grid
from fewpairs.swap.module import SwappedModule


def always_none(_layer: nn.Module) -> str | None:
    """The layer has nothing of the kind."""
    return None


def lacks_nothing(_layer: nn.Module, _variant: Variant) -> str | None:
    """The layer has all that any variant needs."""
    return None


@dataclass(frozen=True)
class Adapter:
    """How layers of some types are swapped."""

    family: str
    """What the receipt calls them, with the library: `ViT (timm)`."""
    matches: tuple[str, ...]
    """Their types, as `module.Class`: only layers of exactly these are touched, no subclass with ways of its own."""
    heads: Callable[[Any], tuple[int, int]]
    """Number of heads of a layer, and the width of one."""
    build: Callable[[Any, Variant], SwappedModule]
    """The layer that takes the original's place, with its weights, device, dtype, mode and hooks. The original is not
    used again; parameters that stay are the same objects. Called only when `refuse` gives no reason."""
    bias: Callable[[Any], str | None] = always_none
    """What the layer adds to its scores (`a table of relative positions`), if anything: some variants take nothing."""
    strided: Callable[[Any], str | None] = always_none
    """Why its keys are not at its queries' places (`there are 64 queries to a key`), if they are not: variants without
    queries need them there."""
    queries: Callable[[Any], str | None] = always_none
    """Why its query weights cannot be taken away, if they cannot; else a variant without queries does that."""
    lacks: Callable[[Any, Variant], str | None] = lacks_nothing
    """What else the layer has not got that the variant needs, as a clause, or None."""
    knows_grid: bool = False
    """Whether the layer is told where its tokens lie, which variants with a convolution need."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Submodules and parameters that a variant without queries keeps under another name: `{"qkv": "kv"}`."""

    def refuse(self, layer: nn.Module, variant: Variant) -> str | None:
        """Why `variant` cannot take this layer's place, or None."""
        if not variant.takes_bias and (what := self.bias(layer)):
            return f"it adds {what} to its scores, and {variant} takes nothing there"
        if variant.keys_are_queries and (why := self.strided(layer)):
            return f"{variant} has a key in each query's place, and here {why}"
        if "q" not in variant.roles and (why := self.queries(layer)):
            return f"{variant} has no queries, and {why}"
        if needs_grid(variant) and not self.knows_grid:
            return f"{variant} has a convolution over the image, and the layer is not told where its tokens lie"
        if not has_pairs(variant) and (share := _dropped(layer)):
            return f"it drops {share:g} of its attention weights in training (set that to 0), and {variant} has none"
        return self.lacks(layer, variant)


def _dropped(layer: Any) -> float:
    """The share of its weights that a layer drops in training, as far as it says so in the usual words."""
    if isinstance(drop := getattr(layer, "attn_drop", None), nn.Dropout):
        return drop.p
    said = (getattr(layer, name, None) for name in ("attention_dropout", "dropout_prob", "dropout"))
    return next((share for share in said if isinstance(share, float)), 0.0)


@dataclass(frozen=True)
class Unsupported:
    """Layers that look like attention, and that no variant can replace."""

    family: str
    matches: tuple[str, ...]
    reason: str


def type_name(kind: type) -> str:
    """`module.Class`, as `matches` has it."""
    return f"{kind.__module__}.{kind.__qualname__}"
