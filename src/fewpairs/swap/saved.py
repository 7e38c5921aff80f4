"""What a saved model says of its swap, and how weights are read again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fewpairs.attention import plain_variant
from fewpairs.errors import InputError, nearest
from fewpairs.swap.interface import CORE
from fewpairs.swap.module import ENTRY, SwappedModule

Source = str | Path | Mapping[str, Tensor]

Plan = dict[str, dict[str, Any]]
"""The variant of each swapped layer as plain data, by the name of the layer."""


def plan_of(model: nn.Module) -> Plan:
    """Return the swapped layers of a model with their variants."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, SwappedModule))
    return {name: plain_variant(module.core.variant) for name, module in layers}


def note_swap(model: nn.Module) -> None:
    """Write the swap into the configurations that transformers and timm save with a model, or take it out of them.

    transformers' configuration names fewpairs' attention too: without fewpairs it refuses to load the model.
    """
    config: Any
    seen: set[int] = set()
    for module in model.modules():
        if isinstance(config := getattr(module, "pretrained_cfg", None), dict):
            plan = plan_of(module)
            noted = {**{key: value for key, value in config.items() if key != ENTRY}, **({ENTRY: plan} if plan else {})}
            module.pretrained_cfg = noted  # type: ignore[assignment]  # a plain attribute of timm's models
            if getattr(module, "default_cfg", None) is config:
                module.default_cfg = noted  # type: ignore[assignment]
        transformers = sys.modules.get("transformers")
        if transformers is not None and isinstance(module, transformers.PreTrainedModel):
            config = module.config
            if id(config) in seen:
                continue
            seen.add(id(config))
            if plan := plan_of(module):
                setattr(config, ENTRY, plan)
                config.attn_implementation = CORE
            elif hasattr(config, ENTRY):
                delattr(config, ENTRY)
                vars(config).pop("attn_implementation", None)


def read_plan(source: Source) -> Plan:
    """Return the swap that a saved model says it went through.

    Raises:
        InputError: there is no such file or folder, or nothing in it says how the model was swapped.
    """
    if isinstance(source, Mapping):
        return _plan_in(source, "this state_dict")
    path = Path(source)
    if path.is_file():
        return _plan_in(_read_weights(path), str(path))
    if not path.is_dir():
        raise InputError(f"{path} is neither a folder nor a file of weights")
    config = _read_json(path / "config.json")
    plan = config.get(ENTRY) or config.get("pretrained_cfg", {}).get(ENTRY)
    if not isinstance(plan, dict) or not plan:
        raise InputError(f"{path / 'config.json'} says nothing of a swap; {_REMEDY}")
    return plan


def load_weights(model: nn.Module, source: Source, swap: Callable[[nn.Module], object]) -> None:
    """Load the weights that were saved with a swapped model into `model`, which is swapped already.

    Args:
        swap: swaps another model of the class in the same way.

    Raises:
        InputError: the weights do not fit.
    """
    weights: Mapping[str, Tensor]
    transformers = sys.modules.get("transformers")
    folder = not isinstance(source, Mapping) and Path(source).is_dir()
    if folder and transformers is not None and isinstance(model, transformers.PreTrainedModel):
        found = _weights_by_transformers(type(model), str(source), swap)
        there = model.state_dict()
        weights = {name: tensor for name, tensor in found.items() if name in there}  # its class may have more parts
    elif isinstance(source, Mapping):
        weights = source
    else:
        weights = _weights_in(Path(source)) if folder else _read_weights(Path(source))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        what = "this state_dict" if isinstance(source, Mapping) else source
        raise InputError(f"the weights of {what} do not fit this model: {error}") from error


def _weights_by_transformers(kind: Any, folder: str, swap: Callable[[nn.Module], object]) -> Mapping[str, Tensor]:
    """Read a folder by transformers, whose files name weights otherwise than its models do."""

    def build(self: nn.Module, config: object, *arguments: object, **options: object) -> None:
        kind.__init__(self, config, *arguments, **options)
        swap(self)

    members = {"__init__": build, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    loaded, told = type(kind.__name__, (kind,), members).from_pretrained(  # type: ignore[attr-defined]
        folder, attn_implementation="sdpa", output_loading_info=True
    )
    wrong = sorted(map(str, (*told["unexpected_keys"], *told["mismatched_keys"])))
    if wrong:
        raise InputError(f"the weights of {folder} do not fit this model: {', '.join(wrong[:3])}")
    return {name: tensor for name, tensor in loaded.state_dict().items() if name not in told["missing_keys"]}


def fitting_names(model: nn.Module, plan: Plan, names: Sequence[str]) -> Plan:
    """Return the plan with the layers' names in this model, in its order.

    transformers saves one configuration for a model with a head and for its part without.

    Raises:
        InputError: the model has no layer of a name.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    for rename in (str, lambda name: f"{prefix}{name}", lambda name: name.removeprefix(prefix)):
        renamed = {rename(name): variant for name, variant in plan.items()}
        if renamed.keys() <= set(names):
            return {name: renamed[name] for name in names if name in renamed}
    missing = next(name for name in plan if name not in names)
    raise InputError(
        f"{type(model).__name__} has no attention layer {missing!r}, which was swapped in the saved model; "
        f"{nearest(missing, names)}"
    )


_REMEDY = "swap with swap_attention as before it was saved, then load the weights with load_state_dict"


def _plan_in(weights: Mapping[str, Tensor], what: str) -> Plan:
    metadata: dict[str, dict[str, Any]] = getattr(weights, "_metadata", {})
    plan = {name: entry[ENTRY] for name, entry in metadata.items() if ENTRY in entry}
    if not plan:
        raise InputError(
            f"{what} says nothing of a swap (safetensors files and copied dictionaries keep only tensors); {_REMEDY}"
        )
    return plan


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no configuration of a model: it holds a {type(content).__name__}")
    return content


def _weights_in(folder: Path) -> dict[str, Tensor]:
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).exists():
            parts = sorted(set(_read_json(folder / index)["weight_map"].values()))
            return {name: tensor for part in parts for name, tensor in _read_weights(folder / part).items()}
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return dict(_read_weights(folder / name))
    raise InputError(f"{folder} has no model.safetensors and no pytorch_model.bin")


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        tensors: Mapping[str, Tensor] = load_file(path)
        return tensors
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state_dict")
    return content
