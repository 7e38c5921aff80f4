"""Checkpoints are single safetensors files: they are written atomically, and reading them never unpickles code.

A file holds tensors under the prefixes `model.`, `ema.`, `optimizer.<parameter>.` and `rng.<process>.`; everything else
is JSON in its metadata entry `fewpairs` (`latchkey` in files that version 0.1.0 wrote under its first name).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fewpairs.errors import CheckpointError, TrainingError
from fewpairs.writing import replaced

FORMAT = 1
_ENTRY = "fewpairs"
_FORMER_ENTRY = "latchkey"
_TORCH_SUFFIXES = {".pt", ".pth"}
_SHOWN = 4

Weights = Literal["model", "ema"]


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write one safetensors file; `path` holds either the previous checkpoint or the complete new one at any time.

    A temporary file in the same folder is written, flushed to the disk and then renamed. Tensors that share memory
    (tied weights) are stored once for each name.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; the previous file is untouched.
    """
    entry = json.dumps({"format": FORMAT, **metadata}, allow_nan=False)
    try:
        with replaced(path) as temporary:
            save_file(_unshared(tensors), temporary, metadata={"format": "pt", _ENTRY: entry})
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: Exception) -> TrainingError:
    kept = f"the previous {path.name} is intact" if path.exists() else f"no {path.name} was there before"
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return TrainingError(
        f"could not write checkpoint {path}: {reason}; {kept}. "
        f"Free disk space or fix the folder's permissions, then resume the run"
    )


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        result[name] = value
    return result


def _to_disk(path: Path) -> None:
    # Windows flushes only what is open for writing, POSIX opens a folder only for reading.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the metadata of a checkpoint that fewpairs wrote.

    Raises:
        CheckpointError: the file is missing, truncated or pickled, or fewpairs did not write it.
    """
    tensors, metadata = _read_safetensors(path)
    if metadata is None:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of fewpairs (no {_ENTRY!r} entry)")
    return tensors, metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the JSON part of a checkpoint (step, scores, which weights it holds) without its tensors.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    with _opened(path) as file:
        metadata = _metadata(path, file.metadata())
    if metadata is None:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of fewpairs (no {_ENTRY!r} entry)")
    return metadata


def load_weights(path: Path | str, model: nn.Module, *, weights: Weights | None = None) -> dict[str, Any]:
    """Load a checkpoint's weights into `model`, all of them or none.

    `best.safetensors` holds the weights that were evaluated. `last.safetensors` may also hold their moving average:
    `weights` chooses, and None takes those that the run evaluates (`scored` in its metadata). Plain state dicts are
    accepted too, as safetensors, or as `.pt`/`.pth` read by `torch.load(weights_only=True)`.

    Returns the checkpoint's metadata (`step`, `weights`, `scores`, ...), empty for a plain state dict.

    Raises:
        CheckpointError: the file is missing or truncated, holds pickled code, or belongs to another model (the message
            lists the names and shapes that differ).
    """
    path = Path(path)
    if path.suffix in _TORCH_SUFFIXES:
        state, metadata = _read_torch(path), None
    else:
        state, metadata = _read_safetensors(path)
    if metadata is not None:
        held = {prefix for prefix in ("model", "ema") if any(name.startswith(f"{prefix}.") for name in state)}
        chosen = weights or metadata.get("scored") or ("ema" if "ema" in held else "model")
        if chosen not in held:
            raise CheckpointError(f"{path} holds no {chosen!r} weights; it holds: {', '.join(sorted(held)) or 'none'}")
        state = with_prefix(state, f"{chosen}.")
    elif weights == "ema":
        raise CheckpointError(f"{path} is a plain state dict without a moving average; leave weights unset")
    check_same_model(path, model, state)
    model.load_state_dict(state)
    return metadata or {}


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, and strip it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def check_same_model(path: Path, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError, listing names and shapes, unless `state` fits `model` exactly."""
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    shapes = [
        f"{name} ({_shape(state[name])} in the file, {_shape(own[name])} in the model)"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    problems = [
        f"{len(names)} {what}: {_first(names)}"
        for what, names in (
            ("missing from the file", missing),
            ("unknown to the model", unknown),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not belong to this {type(model).__name__} "
            f"({len(own)} tensors in the model, {len(state)} in the file): {'; '.join(problems)}. "
            f"Build the model with the configuration beside the checkpoint"
        )


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _opened(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        raise CheckpointError(
            f"{path} is a pickled file, which could run code when read; fewpairs reads safetensors, and plain weights "
            f"from files named .pt or .pth"
        )
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} ({size} bytes) is truncated or not a safetensors file ({error}); "
            f"use another checkpoint of the run, or copy this one again"
        ) from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    with _opened(path) as file:
        metadata = _metadata(path, file.metadata())
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (safe_open is not a dict)


def _metadata(path: Path, entries: Mapping[str, str] | None) -> dict[str, Any] | None:
    entry = next((name for name in (_ENTRY, _FORMER_ENTRY) if entries and name in entries), None)
    if entry is None or entries is None:
        return None
    try:
        metadata = json.loads(entries[entry])
    except (ValueError, RecursionError) as error:  # no JSON, or nested too deeply
        raise CheckpointError(f"the metadata of {path} is damaged: {error}") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        version = metadata.get("format") if isinstance(metadata, dict) else metadata
        raise CheckpointError(f"{path} has checkpoint format {version!r}; this fewpairs reads format {FORMAT}")
    return metadata


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    except Exception as error:
        # torch.load reports damage and refusals as UnpicklingError, RuntimeError, EOFError, KeyError and others.
        raise CheckpointError(
            f"{path} is truncated or holds more than plain tensors, and is refused because reading it could run code "
            f"({type(error).__name__}); save its state dict as safetensors instead"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no state dict (names with tensors)")
    return content
