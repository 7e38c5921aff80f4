"""Reading of weights from a file or timm's hub, without running code from the file."""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fewpairs.errors import CheckpointError
from fewpairs.models.checkpoint_names import distilled_encoder

HUB = "timm:"
"""Prefix of weights on timm's hub, as in `timm:vit_base_patch16_224.augreg_in21k`."""

_HARMLESS: list[Any] = [argparse.Namespace, PosixPath]
"""Classes with plain values that training scripts (DeiT's, DINO's) save beside the weights."""

_NESTS = ("model", "state_dict", "model_state_dict")


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """Return names and tensors, on the CPU, from a safetensors or PyTorch file, or timm's hub (`timm:NAME.TAG`).

    Raises:
        CheckpointError: the file is missing or damaged, or holds anything but tensors by name; the hub does not answer
            or has no such weights.
    """
    if str(source).startswith(HUB):
        return _from_hub(str(source)[len(HUB) :])
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give a .safetensors or .pth file, or {HUB}NAME.TAG")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return _only_weights(unnest(content), path)


def _from_hub(name: str) -> dict[str, Tensor]:
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # timm, huggingface_hub and the network raise many kinds
        raise CheckpointError(
            f"{HUB}{name}: timm could not load these weights ({type(error).__name__}: {first_line(error)}); "
            "check the name with timm.list_pretrained(), or download the file and give its path"
        ) from error


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged or truncated, or not a safetensors file ({first_line(error)}); copy or download it again"
        ) from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # torch warns of an unusual pickle protocol before it reads or refuses the file
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            with torch.serialization.safe_globals(_HARMLESS):
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, because it holds more than tensors and plain values, and reading that could run code; "
            "if you trust its origin, save only its state_dict (torch.save(model.state_dict(), ...) or safetensors)"
        ) from error
    except Exception as error:  # arbitrary bytes make torch's reader fail in any way
        raise CheckpointError(
            f"{path}: damaged or truncated, or not a PyTorch file ({first_line(error)}); copy or download it again"
        ) from error


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def unnest(content: Any) -> Any:
    """Return the weights in a training checkpoint: under "model" or "state_dict", or with the prefix "model.".

    For a self-distillation run they are the encoder of its teacher.
    """
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if isinstance(content, Mapping):
        for prefix in ("model.", "module."):
            inner = {name[len(prefix) :]: value for name, value in content.items() if str(name).startswith(prefix)}
            content = inner or content
        return distilled_encoder(content)
    return content


def _only_weights(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}: holds no tensors by name, so it is not a checkpoint of a model")
    other = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        names = ", ".join(other[:5])
        raise CheckpointError(f"{path}: these entries are not tensors: {names}; save only the state_dict")
    return dict(content)
