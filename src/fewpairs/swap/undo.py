"""Takes a swap back: the original layers return to their places."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from fewpairs.errors import InputError
from fewpairs.swap.guard import check_swappable
from fewpairs.swap.module import SwappedModule, place, rebind_hooks
from fewpairs.swap.saved import note_swap

_TABLES = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True)
class Replaced:
    """A layer that a swap replaced by another one."""

    name: str
    old: nn.Module
    new: SwappedModule
    built: dict[str, dict[str, object]] = field(default_factory=dict)
    """What `new` held when it was built: what has changed since is given to `old` as well."""

    def __post_init__(self) -> None:
        self.built.update({table: dict(vars(self.new)[table]) for table in _TABLES})
        self.built["attributes"] = {name: value for name, value in vars(self.new).items() if name not in _TABLES}
        self.built["settings"] = {"place": place(self.new), "fused_attn": self.new.fused_attn}

    def is_there(self, modules: set[nn.Module]) -> bool:
        return self.new in modules

    def restore(self) -> nn.Module:
        """Return the original layer, with the mode, device and submodules that the swapped layer has now."""
        old, new = self.old, self.new
        for table in _TABLES:
            _carry(vars(old)[table], vars(new)[table], self.built[table])
        _carry(vars(old), {k: v for k, v in vars(new).items() if k not in _TABLES}, self.built["attributes"])
        rebind_hooks(old, new)
        if "fused_attn" in vars(old) and new.fused_attn != self.built["settings"]["fused_attn"]:
            vars(old)["fused_attn"] = new.fused_attn
        if (now := place(new)) != self.built["settings"]["place"]:
            old.to(*now)
        old.train(new.training)  # which returns nothing in some of timm's layers
        return old

    def kept(self) -> Iterator[torch.Tensor]:
        """Yield the tensors of the original layer that the swapped one does not have."""
        shared = {id(tensor) for tensor in (*self.new.parameters(), *self.new.buffers())}
        yield from (t for t in (*self.old.parameters(), *self.old.buffers()) if id(t) not in shared)


def _carry(old: dict[str, object], new: dict[str, object], built: dict[str, object]) -> None:
    for name, value in new.items():
        if name in old and name in built and value is not built[name]:
            old[name] = value


@dataclass(frozen=True)
class Exchanged:
    """A swapped layer that got another variant."""

    name: str
    layer: SwappedModule
    back: Callable[[], None]
    mix: object
    """What computes in the layer since then."""

    def is_there(self, modules: set[nn.Module]) -> bool:
        return self.layer in modules and self.layer.core.mix is self.mix


@dataclass(frozen=True)
class Undo:
    """All that a swap changed in a model."""

    model: weakref.ref[nn.Module]
    changes: tuple[Replaced | Exchanged, ...]

    def run(self) -> None:
        """Take the changes back.

        Raises:
            InputError: the model is gone, compiled or wrapped, or a layer was changed since.
        """
        if (model := self.model()) is None:
            raise InputError("this swap cannot be undone: the model is gone")
        check_swappable(model)
        modules = set(model.modules())
        for change in self.changes:
            if not change.is_there(modules):
                raise InputError(
                    f"this swap cannot be undone: {change.name} was changed since; undo the last swap first"
                )
        replaced = {change.new: change for change in self.changes if isinstance(change, Replaced)}
        put_in_place(model, {new: change.restore() for new, change in replaced.items()})
        for change in self.changes:
            if isinstance(change, Exchanged):
                change.back()
        note_swap(model)


def kept_bytes(changes: Iterable[Replaced | Exchanged]) -> int:
    """Return the memory of the tensors that the model has no more."""
    tensors = {id(t): t for change in changes if isinstance(change, Replaced) for t in change.kept()}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def put_in_place(model: nn.Module, new: dict[nn.Module, nn.Module]) -> None:
    """Replace every reference to the modules that are keys by their values."""
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child in new:
                setattr(module, name, new[child])
