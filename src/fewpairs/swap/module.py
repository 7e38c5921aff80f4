"""The base class of swapped layers, whose attention a variant computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass, replace
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from timm.layers import register_notrace_module
from torch import Tensor, nn
from torch.nn.modules.module import _WrappedHook

from fewpairs.attention import Core, Variant, has_pairs, logit_scale, plain_variant
from fewpairs.errors import InputError
from fewpairs.types import Grid

ENTRY = "fewpairs"
"""The name under which saved models say how they were swapped."""

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
            bound = isinstance(value, MethodType) and value.__self__ is old
            self.__dict__[name] = value.copy() if own else MethodType(value.__func__, self) if bound else value
        rebind_hooks(self, old)
        for name in ("forward", "fused_attn"):
            self.__dict__.pop(name, None)
        scale = logit_scale("head", heads, dim_head) if scale is None else scale
        self.logit_factor = scale
        self.core = Core(_with_scale(variant, scale, heads, dim_head), heads, dim_head, fused=fused)
        if isinstance(drop := self._modules.get("attn_drop"), nn.Dropout):
            self.core.attn_drop = drop
        self.queries = "q" in variant.roles
        self.core.to(*place(old)).train(old.training)

    if TYPE_CHECKING:  # only the subclasses know the attributes of the layer

        def __getattr__(self, name: str) -> Any: ...

    @property
    def fused_attn(self) -> bool:
        """Whether the variant may choose its kernel; False makes the weights explicit."""
        return self.core.fused_attn

    @fused_attn.setter
    def fused_attn(self, fused: bool) -> None:
        self.core.fused_attn = fused

    @property
    def role_scale(self) -> float:
        """The factor of queries and keys that gives the variant's logits the layer's own scale."""
        return (self.logit_factor / self.core.scale) ** 0.5 if has_pairs(self.core.variant) else 1.0

    def exchange(self, variant: Variant, kernel: str | None = None) -> Callable[[], None]:
        """Compute another variant of the same roles; weights of the core that fit stay. Return how to undo that."""
        core = self.core
        former, named, weights = core.variant, core.kernel, dict(core.named_parameters())
        mix = core.exchange(_with_scale(variant, self.logit_factor, core.heads, core.dim_head))
        core.to(*place(self)).train(self.training)
        for name, parameter in list(core.named_parameters()):
            if name in weights and weights[name].shape == parameter.shape:
                owner, _, last = name.rpartition(".")
                core.get_submodule(owner)._parameters[last] = weights[name]
        core.kernel = kernel

        def undo() -> None:
            core.exchange(former, mix)
            core.to(*place(self)).train(self.training)
            core.kernel = named

        return undo

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if (metadata := getattr(destination, "_metadata", None)) is not None:
            metadata[prefix[:-1]][ENTRY] = plain_variant(self.core.variant)

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


def original_class(layer: nn.Module) -> type[nn.Module]:
    """Return the class of a layer, or of the layer that a swapped one replaced."""
    kinds: tuple[type[nn.Module], ...] = type(layer).__mro__
    return next(kind for kind in kinds if not issubclass(kind, SwappedModule))


_CLASSES: dict[tuple[type, type], type[SwappedModule]] = {}
"""The classes that `swapped_class` created."""


def _blank(kind: type[SwappedModule], original: type[nn.Module]) -> SwappedModule:
    """Create an instance without attributes, for pickle and `copy.deepcopy` to fill."""
    both = swapped_class(kind, original)
    return both.__new__(both)


def place(layer: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device of a layer, and the dtype that it computes in, whatever quantised weights are stored as."""
    tensors = [*layer.parameters(), *layer.buffers()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.element_size() > 1]
    device = tensors[0].device if tensors else torch.device("cpu")
    return (floats[0].device, floats[0].dtype) if floats else (device, torch.get_default_dtype())


def rebind_hooks(new: nn.Module, old: nn.Module) -> None:
    """Call hooks that get their module with `new` instead of `old`."""
    for name, hooks in vars(new).items():
        if name.endswith("_hooks") and isinstance(hooks, dict):
            for key, hook in hooks.items():
                if isinstance(hook, _WrappedHook) and hook.with_module and hook.module() is old:
                    hooks[key] = _WrappedHook(hook.hook, new)


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
    vars(kept).pop("forward", None)  # the class's own, bound to `layer`
    kept._parameters = {
        name: p if p is None else without_first(p, count, blocks) for name, p in layer._parameters.items()
    }
    if isinstance(kept, nn.Linear):
        kept.out_features -= count * blocks
    else:
        kept.out_channels -= count * blocks
    return kept


def without_first(parameter: nn.Parameter, count: int, blocks: int = 1) -> nn.Parameter:
    """Copy a parameter without the first `count` rows of each of its equal blocks of rows.

    Within `shared_rows`, layers that share a parameter share the copy.
    """
    shared = _SHARED.get({})
    if (known := shared.get((parameter, count, blocks))) is not None:
        return known
    with torch.no_grad():
        rest = parameter.reshape(blocks, -1, *parameter.shape[1:])[:, count:].flatten(0, 1)
        kept = nn.Parameter(rest.clone(), parameter.requires_grad)
    shared[parameter, count, blocks] = kept
    return kept


_SHARED: ContextVar[dict[tuple[nn.Parameter, int, int], nn.Parameter]] = ContextVar("shared")


@contextmanager
def shared_rows() -> Iterator[set[nn.Parameter]]:
    """Keep weights tied that lose the same rows; the set gets the parameters that lost some."""
    token = _SHARED.set({})
    lost: set[nn.Parameter] = set()
    try:
        yield lost
    finally:
        lost |= {parameter for parameter, *_ in _SHARED.get()}
        _SHARED.reset(token)
