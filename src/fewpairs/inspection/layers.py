"""Finds the attention layers of a model, their names, and the blocks that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from fewpairs.attention import Core
from fewpairs.errors import InputError


def find_cores(model: nn.Module) -> dict[str, Core]:
    """The attention layers of a model by name, in the order of its modules.

    Raises:
        InputError: the model has none, or is compiled.
    """
    if hasattr(model, "_orig_mod"):
        raise InputError("a compiled model cannot be inspected; give the model as it was before torch.compile")
    cores = {name: module for name, module in model.named_modules() if isinstance(module, Core)}
    if not cores:
        raise InputError(
            f"{type(model).__name__} has no attention of fewpairs; call fewpairs.swap_attention(model, 'knn') "
            "first, or with 'softmax' to inspect the model as it is"
        )
    return cores


def ancestors(name: str) -> Iterator[str]:
    """Names of the modules that hold a module, the nearest first; the model itself, "", comes last."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def layer_name(core: str) -> str:
    """The name of the module that holds a `Core`, which users know as the attention layer."""
    return next(ancestors(core))


def block_of(core: str) -> str:
    """The name of an attention layer's block: the nearest module that holds it and whose name ends in a number."""
    holder, *around = ancestors(core)
    return next((ancestor for ancestor in around if ancestor[-1:].isdecimal()), holder)


def choose_layers(names: Sequence[str], wanted: Sequence[int | str] | None) -> set[str]:
    """The names chosen by indices or shell patterns; all names for None.

    Raises:
        InputError: an index is out of range, or a pattern matches no layer.
    """
    if wanted is None:
        return set(names)
    chosen: set[str] = set()
    for item in wanted:
        if isinstance(item, int):
            if not -len(names) <= item < len(names):
                raise InputError(
                    f"layer {item} does not exist; the model has {len(names)} attention layers, 0 to {len(names) - 1}"
                )
            fitting = [names[item]]
        else:
            fitting = [name for name in names if fnmatchcase(name, item)]
            if not fitting:
                raise InputError(f"no attention layer's name fits {item!r}; there are: {', '.join(names)}")
        chosen.update(fitting)
    return chosen
