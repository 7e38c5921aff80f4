"""YAML that holds plain data alone: sections, lists, text, numbers, true, false and null."""

from __future__ import annotations

import re
from typing import Any

import yaml

from fewpairs.errors import InputError

_MOST_VALUES = 100_000
_DEEPEST = 40
_LARGEST = 2**63


class _Loader(yaml.SafeLoader):
    """Safe YAML loader with the numbers of YAML 1.2: `1e-3` is a number, not text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str, fault: str = "is not readable as YAML") -> Any:
    """Return plain data from YAML; messages begin with `where`, such as the name of the file.

    Aliases (`*a`) are followed; one that holds itself, or that would make the whole grow beyond all bounds, is refused.

    Raises:
        InputError: the text is no YAML, or holds dates, bytes, sets, keys that are no text, numbers of more than 64
            bits, or more or deeper sections than any settings have.
    """
    try:
        _check_depth(text, where)
        return _plain(yaml.load(text, _Loader), (), [_MOST_VALUES], where)
    except yaml.YAMLError as error:
        raise InputError(f"{where} {fault}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply for settings") from None
    except (ValueError, TypeError, OverflowError, AttributeError) as error:  # 2024-02-30, or a number of 5,000 digits
        raise InputError(f"{where} {fault}: {' '.join(str(error).split())[:200]}") from None


def _check_depth(text: str, where: str) -> None:
    """Raise InputError before a text is composed that would take long or run out of stack."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, _Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or count > _MOST_VALUES:
            raise InputError(f"{where} holds more or deeper values than any settings have")


def _plain(value: Any, path: tuple[str, ...], left: list[int], where: str) -> Any:
    """Return a copy without aliases."""
    left[0] -= 1
    if left[0] < 0 or len(path) > _DEEPEST:
        raise InputError(f"{where} holds itself, or more or deeper values than any settings have, {_at(path)}")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise InputError(f"{where}: a name of a setting must be text, got {_shown(key)} {_at(path)}")
        return {str(key): _plain(inner, (*path, str(key)[:40]), left, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, (*path, str(place)), left, where) for place, inner in enumerate(value)]
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise InputError(f"{where}: a number of {value.bit_length()} bits {_at(path)}; whole numbers have 64 at most")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    remedy = "put it in quotes if it is meant as text" if type(value).__name__ in ("date", "datetime") else ""
    allowed = remedy or "allowed are sections, lists, text, numbers, true, false and null"
    raise InputError(f"{where}: {_shown(value)} {_at(path)} is a {type(value).__name__}; {allowed}")


def _at(path: tuple[str, ...]) -> str:
    shown = ".".join(path[:6])
    return f"at {shown}" + ("..." if len(path) > 6 else "") if path else "at its top"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
