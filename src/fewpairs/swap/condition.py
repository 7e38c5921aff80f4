"""Reasons why a layer is not what its class says: a replaced forward pass; pruned, normed, quantised, wrapped weights.

A swap that ignored these would be one in name only, or would lose what they do.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def refuse_condition(layer: nn.Module) -> str | None:
    """Return the reason why the attention layer itself cannot be swapped as it is, or None."""
    return _replaced_forward(layer) or _reparametrised(layer)


def refuse_slicing(layer: nn.Module, name: str) -> str | None:
    """Return the reason why rows of the linear map or convolution `name` cannot be removed, or None."""
    found: Any = getattr(layer, name, None)
    if found is None:
        return None
    if (why := _replaced_forward(found) or _reparametrised(found) or _wrapped(found) or _hooked(found)) is None:
        return None
    return f"the rows of its projection {name!r} cannot be separated: {why}"


def unplain_parameters(layer: nn.Module) -> str | None:
    """Return the reason why rows of the layer's own parameters cannot be removed, or None."""
    kinds = {type(p) for p in layer._parameters.values() if p is not None} - {nn.Parameter}
    return f"its weights are stored as {_name(kinds.pop())}; swap before that" if kinds else None


def wrapped_by(parent: nn.Module, name: str) -> str | None:
    """Return the reason why a layer that `parent` wraps under this name cannot be swapped, or None."""
    if name.rpartition(".")[2] != "base_layer":
        return None
    kind = _name(type(parent))
    return f"{kind} wraps it and uses its weights; {_MERGE if kind.startswith('peft.') else 'swap before adding that'}"


_MERGE = "merge it first (merge_and_unload()), or swap before adding it"


def _replaced_forward(layer: nn.Module) -> str | None:
    own = vars(layer).get("forward")
    if own is not None and own != types.MethodType(type(layer).forward, layer):  # accelerate leaves that one behind
        if hasattr(layer, "_hf_hook"):
            return (
                "accelerate has hooks on it in place of its forward pass; remove them "
                "(accelerate.hooks.remove_hook_from_submodules), swap, then dispatch the model again"
            )
        return (
            "its forward pass was replaced on the instance, and the swap would drop that; delete the attribute "
            "'forward' first if it is not needed"
        )
    forward: Callable[..., object] = inspect.unwrap(type(layer).forward)
    known = {kind.__module__ for kind in type(layer).__mro__}
    if getattr(forward, "__module__", None) not in known:
        return (
            f"the forward pass of {type(layer).__qualname__} was replaced by one of "
            f"{getattr(forward, '__module__', None)}, which the swap would drop; restore it first"
        )
    return None


def _reparametrised(layer: nn.Module) -> str | None:
    if parametrize.is_parametrized(layer):
        names = ", ".join(repr(name) for name in layer.parametrizations)  # type: ignore[union-attr]  # a ModuleDict
        return (
            f"{names} is parametrised; make that permanent first (torch.nn.utils.parametrize.remove_parametrizations)"
        )
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            return f"{name!r} is pruned; make that permanent first (torch.nn.utils.prune.remove(layer, {name!r}))"
        if isinstance(hook, (WeightNorm, SpectralNorm)):
            norm = "weight_norm" if isinstance(hook, WeightNorm) else "spectral_norm"
            return f"{hook.name!r} has a {norm}; make that permanent first (torch.nn.utils.remove_{norm})"
    return None


def _wrapped(projection: nn.Module) -> str | None:
    """Return what a projection is, if it is no plain linear map or convolution."""
    if type(projection) in (nn.Linear, nn.Conv2d):
        if projection._parameters.keys() - {"weight", "bias"} or projection._buffers or projection._modules:
            return "it has more than a weight and a bias; swap before adding that"
        return unplain_parameters(projection)
    kind = _name(type(projection))
    if kind.startswith("peft."):
        return f"it is a {kind}; {_MERGE}"
    return f"it is a {kind}; swap before replacing or quantising it"


def _hooked(projection: nn.Module) -> str | None:
    hooks = (
        projection._forward_pre_hooks,
        projection._forward_hooks,
        projection._backward_pre_hooks,
        projection._backward_hooks,
    )
    if not any(hooks):
        return None
    return "it has hooks, made for all of its rows; remove them, swap, and add them to the new projection"


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def unknown_type(layer: nn.Module) -> str:
    """Return the reason why a layer of a type without adapter is left alone."""
    if (why := _reparametrised(layer)) is not None:
        return why
    return f"there is no adapter for {_name(type(layer))}"
