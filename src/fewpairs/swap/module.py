"""A layer of somebody else's model with its heads mixed by a variant."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from timm.layers import register_notrace_module
from torch import Tensor, nn

from fewpairs.attention import Core, Variant, has_pairs, logit_scale
from fewpairs.errors import InputError
from fewpairs.types import Grid

Map = TypeVar("Map", nn.Linear, nn.Conv2d)


@register_notrace_module  # timm traces models for their features; this is one node of the graph
class SwappedModule(nn.Module):
    """Takes over all that a layer has, under the same names, and adds `core`. A family writes the forward pass.

    Derived classes name the original's class as their second base, so that its other methods (a window's new size)
    stay, and mix their heads with `mix`. What the layer has, weights, buffers, submodules, settings and hooks, are the
    same objects as before; its `attn_drop`, if it has one, is the core's too.

    Args:
        old: the layer; it is not used again.
        scale: factor of the layer's logits; `dim_head ** -0.5` when None. Whatever scale the variant has, this is kept.
        fused: see `Core`; afterwards the attribute `fused_attn` switches it, as in timm.
    """

    core: Core
    family: str
    """Of its adapter."""

    def __init__(
        self,
        old: nn.Module,
        variant: Variant,
        heads: int,
        dim_head: int,
        *,
        scale: float | None = None,
        fused: bool = True,
    ) -> None:
        nn.Module.__init__(self)
        for name, value in vars(old).items():
            own = name in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
            self.__dict__[name] = value.copy() if own else value
        self.__dict__.pop("fused_attn", None)
        scale = logit_scale("head", heads, dim_head) if scale is None else scale
        self.core = Core(_with_scale(variant, scale, heads, dim_head), heads, dim_head, fused=fused)
        if isinstance(drop := self._modules.get("attn_drop"), nn.Dropout):
            self.core.attn_drop = drop
        self.queries = "q" in variant.roles
        self.role_scale = (scale / self.core.scale) ** 0.5 if has_pairs(variant) else 1.0
        like = next(old.parameters())
        self.core.to(like.device, like.dtype).train(old.training)

    if TYPE_CHECKING:  # the layer's own parts are known to its family alone

        def __getattr__(self, name: str) -> Any: ...

    @property
    def fused_attn(self) -> bool:
        """Whether the variant may choose its kernel; False makes the weights explicit."""
        return self.core.fused_attn

    @fused_attn.setter
    def fused_attn(self, fused: bool) -> None:
        self.core.fused_attn = fused

    def mix(self, *roles: Tensor, bias: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """The heads mixed with the layer's own scale: one `[b h n d]` for each role in, `[b h n d]` out.

        `bias` may lack its first letters, as `[h n m]` and `[n m]` do, and have 1 for any; that is how layers give it.

        Raises:
            InputError: a bias or mask meets a variant that takes none.
        """
        if bias is not None and has_pairs(self.core.variant) and not self.core.variant.takes_bias:
            raise InputError(
                f"this layer was called with a bias or mask on its scores, and {self.core.variant} takes none; call "
                "the model without it, or swap in a variant with queries"
            )
        if bias is not None:
            bias = bias[(None,) * (4 - bias.ndim)]
            sizes = roles[0].shape[-2], roles[-1].shape[-2]
            bias = bias.expand(-1, -1, *(n if of == 1 else -1 for n, of in zip(sizes, bias.shape[-2:], strict=True)))
        if self.role_scale != 1:
            *logits, values = roles
            roles = (*(role * self.role_scale for role in logits), values)
        mixed: Tensor = self.core(*roles, bias=bias, grid=grid)
        return mixed


def _with_scale(variant: Variant, scale: float, heads: int, dim_head: int) -> Variant:
    """The variant whose own scale is the layer's, where it has the choice; so it prints what happens."""
    if is_dataclass(variant) and any(field.name == "scale_by" for field in fields(variant)):
        by = "width" if heads > 1 and scale == logit_scale("width", heads, dim_head) else "head"
        return replace(variant, scale_by=by)
    return variant


def without_rows(layer: Map, count: int) -> Map:
    """The map without its first `count` outputs: new weights, the rest of the old ones."""
    kept = copy.copy(layer)
    kept._parameters = {name: p if p is None else _rest(p, count) for name, p in layer._parameters.items()}
    if isinstance(kept, nn.Linear):
        kept.out_features -= count
    else:
        kept.out_channels -= count
    return kept


def _rest(parameter: nn.Parameter, count: int) -> nn.Parameter:
    with torch.no_grad():
        return nn.Parameter(parameter[count:].clone(), parameter.requires_grad)


def refuse_slicing(layer: nn.Module, name: str) -> str | None:
    """Why rows of the linear map or convolution `name` cannot be taken away, or None."""
    found: Any = getattr(layer, name, None)
    if found is None or type(found) in (nn.Linear, nn.Conv2d):
        return None
    return f"its projection {name!r} is a {type(found).__name__}, whose rows cannot be taken apart; swap before that"
