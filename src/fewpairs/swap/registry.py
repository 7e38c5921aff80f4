"""The table of layer types that `swap_attention` knows, and the way into it for everybody."""

from __future__ import annotations

from typing import TypeVar

from fewpairs.errors import InputError
from fewpairs.swap.adapter import Adapter, Unsupported, type_name

Entry = TypeVar("Entry", Adapter, Unsupported)

_BY_TYPE: dict[str, Adapter | Unsupported] = {}
"""The adapter of each layer type, by `module.Class`."""


def register_adapter(adapter: Entry, *, override: bool = False) -> Entry:
    """Add an adapter for its layer types, in this process; fewpairs' own adapters come in by this function too.

    The types are named, so their library need not be imported, nor be installed.

    Args:
        override: replace the adapters that these types have, instead of refusing to.

    Returns:
        The adapter.

    Raises:
        InputError: the adapter names no type, or names one wrongly; or a type has an adapter and `override` is False.
    """
    if not isinstance(adapter, (Adapter, Unsupported)):
        raise InputError(f"register_adapter takes an Adapter or an Unsupported; {type(adapter).__name__} is neither")
    if isinstance(adapter.matches, str) or not adapter.matches:
        raise InputError(
            f"the adapter {adapter.family!r} has matches={adapter.matches!r}; allowed: a tuple of layer types, "
            "such as ('library.module.Attention',)"
        )
    names = [_checked_name(each, adapter.family) for each in adapter.matches]
    taken = [name for name in names if name in _BY_TYPE]
    if taken and not override:
        raise InputError(
            f"{taken[0]} has the adapter {_BY_TYPE[taken[0]].family!r} already; pass override=True to replace it, or "
            "remove it with unregister_adapter"
        )
    _BY_TYPE.update(dict.fromkeys(names, adapter))
    return adapter


def unregister_adapter(kind: str | type) -> Adapter | Unsupported:
    """Remove the adapter of one layer type, and return it; layers that were swapped stay as they are.

    Raises:
        InputError: the type has no adapter.
    """
    name = kind if isinstance(kind, str) else type_name(kind)
    if name not in _BY_TYPE:
        raise InputError(f"{name} has no adapter that could be removed")
    return _BY_TYPE.pop(name)


def adapter_of(kind: type) -> Adapter | Unsupported | None:
    """Return the adapter of exactly this type, or None."""
    return _BY_TYPE.get(type_name(kind))


def adapters() -> tuple[Adapter | Unsupported, ...]:
    """Return all adapters, each once, in the order of their registration."""
    return tuple({id(adapter): adapter for adapter in _BY_TYPE.values()}.values())


def families() -> list[str]:
    """Return all families that can be swapped."""
    return sorted({adapter.family for adapter in adapters() if isinstance(adapter, Adapter)})


def _checked_name(kind: str | type, family: str) -> str:
    name = type_name(kind) if isinstance(kind, type) else str(kind)
    if "." not in name or not all(part.isidentifier() or part == "<locals>" for part in name.split(".")):
        raise InputError(f"the adapter {family!r} matches {kind!r}; allowed: a type as 'module.Class'")
    return name
