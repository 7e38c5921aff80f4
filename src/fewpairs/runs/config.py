"""Conversion of recipes, YAML files and `a.b=c` overrides to experiments, with error messages."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from fewpairs.attention import Variant, parse_attention, variant_name
from fewpairs.errors import InputError, nearest
from fewpairs.kinds import DEFAULT_KIND, experiment_kind
from fewpairs.kinds.kind import Experiment
from fewpairs.recipes import RECIPES
from fewpairs.runs.former_settings import renamed


class _Loader(yaml.SafeLoader):
    """Safe YAML loader with the numbers of YAML 1.2: `1e-3` is a number, not text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+"), list("-+.0123456789")
)


def _parse(text: str) -> Any:
    return yaml.load(text, _Loader)


def load_experiment(source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Return the experiment of a recipe or a YAML file, changed by `a.b=c` overrides.

    A YAML file may start from a recipe with `recipe: NAME` and change its fields. Former names of settings are read
    everywhere, see `former_settings`.

    Raises:
        InputError: the recipe, a field or a value is wrong; the text names it, what is allowed and the nearest name.
    """
    content = _read(str(source))
    changes = [parse_override(text) for text in overrides]
    return validate(merge(content, renamed(content["kind"], changes, content)))


def _read(source: str) -> dict[str, Any]:
    if Path(source).suffix not in (".yaml", ".yml"):
        return to_dict(_recipe(source))
    path = Path(source)
    try:
        content = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no configuration file {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold fields such as `fit: {{steps: 1000}}`, not {type(content).__name__}")
    recipe = content.pop("recipe", None)
    start = to_dict(_defaults(content.get("kind")) if recipe is None else _recipe(str(recipe)))
    kind = str(content.get("kind", start["kind"]))
    return merge(start, renamed(kind, _leaves(content), start))


def _defaults(kind: Any) -> Experiment:
    """Return an experiment of a kind with default settings; None stands for `DEFAULT_KIND`."""
    return experiment_kind(DEFAULT_KIND if kind is None else kind)()


def _recipe(name: str) -> Experiment:
    if name not in RECIPES:
        raise InputError(
            f"recipe {name!r} is not known; {nearest(name, RECIPES)}. A configuration file must end in .yaml or .yml"
        )
    return RECIPES[name]()


def _leaves(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Yield (path, value) of everything in `content` that is not a section."""
    for key, value in content.items():
        here = (*path, str(key))
        if isinstance(value, Mapping) and here[-1] != "attention":
            yield from _leaves(value, here)
        else:
            yield here, value


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Parse `"fit.steps=200"` to `(("fit", "steps"), 200)`; the value is read as YAML.

    Raises:
        InputError: there is no `=`, a part of the path is empty, or the value is no YAML.
    """
    path, equals, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        raise InputError(f"override {text!r} must have the form field.name=value, as in fit.steps=200")
    try:
        return keys, _parse(value)
    except yaml.YAMLError as error:
        raise InputError(f"override {text!r}: the value is no YAML: {' '.join(str(error).split())}") from None


def merge(content: Mapping[str, Any], changes: Iterable[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """Return `content` changed by each (path, value); missing sections are made."""
    merged: dict[str, Any] = json.loads(json.dumps(content))
    for keys, value in changes:
        section = merged
        for key in keys[:-1]:
            if not isinstance(section.get(key), dict):
                section[key] = {"name": section[key]} if isinstance(section.get(key), str) else {}
            section = section[key]
        section[keys[-1]] = value
    return merged


def validate(content: Mapping[str, Any]) -> Experiment:
    """Make an experiment from plain data; errors are those of `load_experiment`."""
    plain = json.loads(json.dumps(content))
    kind = experiment_kind(plain.pop("kind", DEFAULT_KIND))
    _check_names(kind, plain, ())
    changes: dict[str, Any] = {}
    if isinstance(plain.get("model"), dict) and "attention" in plain["model"]:
        asked = plain["model"].pop("attention")
        changes["attention"] = None if asked is None and _may_be_own(kind) else parse_attention(asked)
    try:
        experiment = _adapter(kind).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        raise InputError("; ".join(_sentence(dict(problem)) for problem in error.errors())) from None
    if not changes:
        return experiment
    model = dataclasses.replace(experiment.model, **changes)
    return dataclasses.replace(experiment, model=model)  # type: ignore[type-var]  # every kind is a dataclass


def _may_be_own(kind: type[Experiment]) -> bool:
    """Return whether models of this kind may keep the attention of their encoder: `attention: null`."""
    model = typing.get_type_hints(kind)["model"]
    return (
        type(None) in _options(typing.get_type_hints(model)["attention"]) if dataclasses.is_dataclass(model) else False
    )


@cache
def _adapter(kind: type[Experiment]) -> TypeAdapter[Experiment]:
    return TypeAdapter(kind)


def _sentence(problem: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
    message = str(problem["msg"])
    return f"{path}={problem['input']!r}: {message[0].lower()}{message[1:]}"


def _check_names(kind: type, content: Any, path: tuple[str, ...]) -> None:
    """Raise InputError unless every key of `content` is a field of the dataclass `kind`, also in sections."""
    if not isinstance(content, dict):
        return
    hints = typing.get_type_hints(kind)
    known = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    for key, value in content.items():
        if key not in known:
            section = ".".join(path)
            where = f"in {section!r} " if section else ""
            raise InputError(f"field {'.'.join((*path, key))!r} is not known; {where}{nearest(key, known)}")
        inner = next((part for part in _options(known[key]) if dataclasses.is_dataclass(part)), None)
        if isinstance(inner, type) and key != "attention":
            if value is not None and not isinstance(value, dict):
                raise InputError(
                    f"{'.'.join((*path, key))}={value!r} is a section; set one of its fields: "
                    f"{', '.join(field.name for field in dataclasses.fields(inner))}"
                )
            _check_names(inner, value, (*path, key))


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Return plain data from which `validate` makes the same experiment."""

    def plain(value: Any) -> Any:
        if isinstance(value, Variant):
            options = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}  # type: ignore[arg-type]
            return {"name": variant_name(value), **options}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        return value

    return {"kind": experiment.kind, **plain(experiment)}


def to_yaml(experiment: Experiment) -> str:
    """Return the text of the `config.yaml` of a run."""
    return yaml.safe_dump(to_dict(experiment), sort_keys=False, allow_unicode=True)
