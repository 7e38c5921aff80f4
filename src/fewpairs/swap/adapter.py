"""Adapters: descriptions of the layer types that `swap_attention` can replace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fewpairs.attention import Variant, has_pairs, needs_grid
from fewpairs.swap.module import SwappedModule, original_class, swapped_class


def always_none(_layer: nn.Module) -> str | None:
    """Return None: no layer of the family has this property."""
    return None


def lacks_nothing(_layer: nn.Module, _variant: Variant) -> str | None:
    """Return None: the layer lacks nothing that a variant needs."""
    return None


@dataclass(frozen=True)
class Adapter:
    """Describes how layers of certain types are swapped."""

    family: str
    """The name of the family in receipts, with the library: `ViT (timm)`."""
    matches: tuple[str | type, ...]
    """The types, or their names as `module.Class` if their library should not be imported; a layer must be of exactly
    one of them, since a subclass may behave differently."""
    heads: Callable[[Any], tuple[int, int]]
    """Returns the number of heads of a layer, and the width of one head."""
    build: Callable[[Any, Variant], SwappedModule]
    """Builds the replacement with the original's weights, device, dtype, mode and hooks. The original is not used
    again; parameters that stay are the same objects. It is called only when `refuse` returns None. A subclass of
    `SwappedModule` gets the original's class as a further base, if it has not named it (see `replace`)."""
    bias: Callable[[Any], str | None] = always_none
    """Names what the layer adds to its scores (`a table of relative positions`), or None; some variants refuse it."""
    strided: Callable[[Any], str | None] = always_none
    """Says why keys and queries have different positions (`there are 64 queries to a key`), or None; variants without
    queries need equal positions."""
    queries: Callable[[Any], str | None] = always_none
    """Says why the query weights cannot be removed, or None; variants without queries remove them."""
    lacks: Callable[[Any, Variant], str | None] = lacks_nothing
    """Says what else the variant needs and the layer lacks, as a clause, or None."""
    knows_grid: bool = False
    """Whether the layer receives the positions of its tokens, which variants with a convolution need."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """The new names of submodules and parameters that a variant without queries renames: `{"qkv": "kv"}`."""

    def replace(self, layer: nn.Module, variant: Variant) -> SwappedModule:
        """Build the replacement of `layer`; it is an instance of the layer's class too."""
        build: Any = self.build
        original = original_class(layer)
        if isinstance(build, type) and issubclass(build, SwappedModule) and not issubclass(build, original):
            build = swapped_class(build, original)
        new: SwappedModule = build(layer, variant)
        return new

    def refuse(self, layer: nn.Module, variant: Variant) -> str | None:
        """Return the reason why `variant` cannot replace this layer's attention, or None."""
        has_queries = layer.queries if isinstance(layer, SwappedModule) else True
        if "q" in variant.roles and not has_queries:
            return (
                f"its query weights went when it was swapped, and {variant} needs them; undo that swap "
                "(receipt.undo()), or create the model again"
            )
        if not variant.takes_bias and (what := self.bias(layer)):
            return f"it adds {what} to its scores, and {variant} accepts no bias there"
        if variant.keys_are_queries and (why := self.strided(layer)):
            return f"{variant} uses keys as queries, and here {why}"
        if "q" not in variant.roles and has_queries and (why := self.queries(layer)):
            return f"{variant} has no queries, and {why}"
        if needs_grid(variant) and not self.knows_grid:
            return f"{variant} has a convolution over the image, and the layer gets no positions of its tokens"
        if not has_pairs(variant) and (share := _dropped(layer)):
            return f"it drops {share:g} of its attention weights in training (set that to 0), and {variant} has none"
        return self.lacks(layer, variant)


def _dropped(layer: Any) -> float:
    """Return the fraction of attention weights that a layer drops in training, read from its usual attributes."""
    for name in ("attn_drop", "drop_weights"):
        if isinstance(drop := getattr(layer, name, None), nn.Dropout):
            return drop.p
    said = (getattr(layer, name, None) for name in ("attention_dropout", "dropout_prob", "dropout"))
    return next((share for share in said if isinstance(share, float)), 0.0)


@dataclass(frozen=True)
class Unsupported:
    """Describes attention layers that no variant can replace, with the reason."""

    family: str
    matches: tuple[str | type, ...]
    reason: str


def type_name(kind: type) -> str:
    """Return `module.Class`, as in `Adapter.matches`."""
    return f"{kind.__module__}.{kind.__qualname__}"
