"""The base class of swapped layers, whose attention a variant computes."""

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


@register_notrace_module  # one node in the graphs that timm traces to extract features
class SwappedModule(nn.Module):
    """Takes over all attributes of a layer under the same names, and adds `core`. Subclasses define the forward pass.

    A replacement is an instance of the original class too, which keeps its other methods (such as resizing windows): a
    subclass names it as its second base, or its adapter adds it. Subclasses mix heads with `mix`. Weights, buffers,
    submodules, settings and hooks stay the same objects; the core shares the layer's `attn_drop`, if it has one.

    Args:
        old: the layer to replace; it is not used again.
        scale: factor of the layer's logits; `dim_head ** -0.5` when None. It overrides the scale of the variant.
        fused: see `Core`; the attribute `fused_attn` changes it later, as in timm.
    """

    core: Core
    family: str
    """The family of its adapter."""

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

    if TYPE_CHECKING:  # only the subclasses know the attributes of the layer

        def __getattr__(self, name: str) -> Any: ...

    @property
    def fused_attn(self) -> bool:
        """Whether the variant may choose its kernel; False makes the weights explicit."""
        return self.core.fused_attn

    @fused_attn.setter
    def fused_attn(self, fused: bool) -> None:
        self.core.fused_attn = fused

    def mix(self, *roles: Tensor, bias: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """Mix the heads with the layer's own scale, from one `[b h n d]` for each role to `[b h n d]`.

        `bias` may lack leading dimensions, as `[h n m]` or `[n m]`, and any dimension may be 1.

        Raises:
            InputError: a bias or mask is given, and the variant does not accept one.
        """
        if bias is not None and has_pairs(self.core.variant) and not self.core.variant.takes_bias:
            raise InputError(
                f"this layer was called with a bias or mask on its scores, and {self.core.variant} accepts none; call "
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


def swapped_class(kind: type[SwappedModule], original: type[nn.Module]) -> type[SwappedModule]:
    """Create the subclass of a replacement and of the class that it replaces; its instances can be pickled."""

    def reduce(self: Any, _protocol: int) -> tuple[Any, ...]:
        return _blank, (kind, original), self.__getstate__()

    if (kind, original) not in _CLASSES:
        members = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce_ex__": reduce}
        _CLASSES[kind, original] = type(kind.__name__, (kind, original), members)
    return _CLASSES[kind, original]


_CLASSES: dict[tuple[type, type], type[SwappedModule]] = {}
"""The classes that `swapped_class` created."""


def _blank(kind: type[SwappedModule], original: type[nn.Module]) -> SwappedModule:
    """Create an instance without attributes, for pickle and `copy.deepcopy` to fill."""
    both = swapped_class(kind, original)
    return both.__new__(both)


def _with_scale(variant: Variant, scale: float, heads: int, dim_head: int) -> Variant:
    """Set the variant's `scale_by`, if it has one, to that of the layer, so that it prints the actual scale."""
    if is_dataclass(variant) and any(field.name == "scale_by" for field in fields(variant)):
        by = "width" if heads > 1 and scale == logit_scale("width", heads, dim_head) else "head"
        return replace(variant, scale_by=by)
    return variant


def without_rows(layer: Map, count: int, blocks: int = 1) -> Map:
    """Copy a linear map or convolution without the first `count` outputs of each of its equal blocks of outputs.

    The weights are new tensors. More blocks than one serve maps in which the roles of each head stand together.
    """
    kept = copy.copy(layer)
    kept._parameters = {name: p if p is None else _rest(p, count, blocks) for name, p in layer._parameters.items()}
    if isinstance(kept, nn.Linear):
        kept.out_features -= count * blocks
    else:
        kept.out_channels -= count * blocks
    return kept


def _rest(parameter: nn.Parameter, count: int, blocks: int) -> nn.Parameter:
    with torch.no_grad():
        rest = parameter.reshape(blocks, -1, *parameter.shape[1:])[:, count:].flatten(0, 1)
        return nn.Parameter(rest.clone(), parameter.requires_grad)


def refuse_slicing(layer: nn.Module, name: str) -> str | None:
    """Return the reason why rows of the linear map or convolution `name` cannot be removed, or None."""
    found: Any = getattr(layer, name, None)
    if found is None or type(found) in (nn.Linear, nn.Conv2d):
        return None
    return f"its projection {name!r} is a {type(found).__name__}, whose rows cannot be separated; swap before adding it"
