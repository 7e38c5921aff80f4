"""Conversion of recipes, YAML files and `a.b=c` overrides to experiments, with error messages."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from fewpairs.attention import Variant, parse_attention, variant_name
from fewpairs.errors import InputError, nearest
from fewpairs.kinds import DEFAULT_KIND, experiment_kind
from fewpairs.kinds.kind import Experiment
from fewpairs.recipes import RECIPES
from fewpairs.runs.following_steps import following_steps
from fewpairs.runs.former_settings import renamed
from fewpairs.runs.plain_yaml import parse_yaml

Result = TypeVar("Result")


def load_experiment(source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Return the experiment of a recipe or a YAML file, changed by `a.b=c` overrides.

    A YAML file may start from a recipe with `recipe: NAME` and change its fields. Former names of settings are read
    everywhere, see `former_settings`; what is counted in steps follows `fit.steps`, see `following_steps`.

    Raises:
        InputError: the recipe, a field or a value is wrong; the text names it, what is allowed and the nearest name.
    """
    content = _read(str(source))
    changes = every_result([partial(parse_override, text) for text in overrides])
    return validate(_changed(content, content["kind"], changes))


def _changed(start: Mapping[str, Any], kind: str, leaves: Iterable[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    return merge(start, following_steps(start, renamed(kind, leaves, start)))


def every_result(calls: Iterable[Callable[[], Result]]) -> list[Result]:
    """Return the results of all calls. Raises InputError with the messages of all that raise it."""
    found, problems = [], []
    for call in calls:
        try:
            found.append(call())
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return found


def _read(source: str) -> dict[str, Any]:
    if Path(source).suffix not in (".yaml", ".yml"):
        return to_dict(_recipe(source))
    path = Path(source)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise InputError(f"there is no configuration file {path}") from None
    except OSError as error:
        raise InputError(f"the configuration file {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold fields such as `fit: {{steps: 1000}}`, not {type(content).__name__}")
    recipe = content.pop("recipe", None)
    start = to_dict(_defaults(content.get("kind")) if recipe is None else _recipe(str(recipe)))
    kind = str(content.get("kind", start["kind"]))
    return _changed(start, kind, _leaves(content))


def _defaults(kind: Any) -> Experiment:
    """Return an experiment of a kind with default settings; None stands for `DEFAULT_KIND`."""
    return experiment_kind(DEFAULT_KIND if kind is None else kind)()


def _recipe(name: str) -> Experiment:
    if name not in RECIPES:
        raise InputError(
            f"recipe {name!r} is not known; {nearest(name, RECIPES, 'fewpairs train --list')}. A configuration file "
            "must end in .yaml or .yml"
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
    shown = text if len(text) <= 100 else f"{text[:97]}..."
    return keys, parse_yaml(value, f"override {shown!r}: the value", "is no YAML")


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
    """Make an experiment from plain data; errors are those of `load_experiment`, all mistakes in one."""
    plain = json.loads(json.dumps(content))
    kind = experiment_kind(plain.pop("kind", DEFAULT_KIND))
    problems = _wrong_names(kind, plain, ())
    changes: dict[str, Any] = {}
    if isinstance(plain.get("model"), dict) and "attention" in plain["model"]:
        asked = plain["model"].pop("attention")
        try:
            changes["attention"] = None if asked is None and _may_be_own(kind) else parse_attention(asked)
        except InputError as error:
            problems.append(str(error))
    hints = typing.get_type_hints(kind)
    problems += [text for name, value in plain.items() for text in _wrong_values(name, hints[name], value)]
    if problems:
        raise InputError("\n".join(problems))
    experiment = _adapter(kind).validate_json(json.dumps(plain), strict=True)
    if not changes:
        return experiment
    model = dataclasses.replace(experiment.model, **changes)
    changed: Experiment = dataclasses.replace(experiment, model=model)
    return changed


def _wrong_values(name: str, hint: Any, value: Any) -> list[str]:
    """Return a sentence for each value of a section, or of one setting, that is wrong."""
    try:
        _adapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return [_sentence(name, dict(problem)) for problem in error.errors()]
    except InputError as error:
        return [str(error)]
    return []


def _may_be_own(kind: type[Experiment]) -> bool:
    """Return whether models of this kind may keep the attention of their encoder: `attention: null`."""
    model = typing.get_type_hints(kind)["model"]
    return (
        type(None) in _options(typing.get_type_hints(model)["attention"]) if dataclasses.is_dataclass(model) else False
    )


@cache
def _adapter(what: Any) -> TypeAdapter[Any]:
    return TypeAdapter(what)


def _sentence(name: str, problem: Mapping[str, Any]) -> str:
    parts = (name, *(str(part) for part in problem["loc"] if not str(part).startswith("function-")))
    message = str(problem["msg"])
    return f"{'.'.join(parts)}={problem['input']!r}: {message[0].lower()}{message[1:]}"


def _wrong_names(kind: type, content: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    """Take every key that is no field of the dataclass `kind` out of `content`, also in sections; say what is wrong."""
    hints = typing.get_type_hints(kind)
    known = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    problems = []
    for key, value in list(content.items()):
        inner = next((part for part in _options(known.get(key)) if dataclasses.is_dataclass(part)), None)
        if key not in known:
            section = ".".join(path)
            where = f"in {section!r} " if section else ""
            problems.append(f"field {'.'.join((*path, key))!r} is not known; {where}{nearest(key, known)}")
        elif not isinstance(inner, type) or key == "attention" or value is None:
            continue
        elif isinstance(value, dict):
            problems += _wrong_names(inner, value, (*path, key))
            continue
        else:
            fields = ", ".join(field.name for field in dataclasses.fields(inner))
            problems.append(f"{'.'.join((*path, key))}={value!r} is a section; set one of its fields: {fields}")
        del content[key]
    return problems


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
