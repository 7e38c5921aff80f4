"""The state of a run, as tensors and JSON, from which it resumes exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewpairs.errors import CheckpointError
from fewpairs.train.checkpoint import Weights, check_same_model, read_checkpoint, with_prefix, write_checkpoint
from fewpairs.train.config import FitConfig
from fewpairs.train.ema import Ema
from fewpairs.train.metrics_log import json_safe


@dataclass(slots=True)
class Position:
    """Progress of a run."""

    step: int = 0
    """Optimiser steps done; epoch, position in the epoch and learning rate follow from it."""
    best_step: int | None = None
    best_score: float | None = None
    misses: int = 0
    """Evaluations in a row without a better score."""
    seconds: float = 0.0
    training_seconds: float = 0.0
    waiting_seconds: float = 0.0
    peak_memory_bytes: int = 0

    @classmethod
    def read(cls, metadata: Mapping[str, Any], path: Path) -> Position:
        """Return the position in the metadata of the checkpoint `path`.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        found = metadata.get("position")
        known = {one.name: one.default for one in fields(cls)}
        if (
            not isinstance(found, dict)
            or not set(found) <= set(known)
            or type(found.get("step")) is not int
            or not all(value is None or type(value) in (int, float) for value in found.values())
            or any(value is None and known[name] is not None for name, value in found.items())
        ):
            raise CheckpointError(f"{path} does not say how far its training was; use another checkpoint of the run")
        return cls(**found)


@dataclass(slots=True)
class TrainingState:
    """The state of a run: model, optimiser, moving average, gradient scaler and position."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    scaler: torch.amp.GradScaler | None
    identity: dict[str, Any]
    """Settings that must not change when a run is resumed: seed, batch sizes, processes, optimiser, ..."""
    position: Position = field(default_factory=Position)
    score_ema: bool = True
    """Whether the moving average is evaluated, if there is one."""

    @property
    def scored(self) -> Weights:
        """Which weights this run evaluates."""
        return "ema" if self.ema and self.score_ema else "model"

    def save_best(self, path: Path, monitor: str, scores: dict[str, float]) -> None:
        """Write the evaluated weights and their `scores`; `weights` in the metadata says which weights these are.

        Raises:
            TrainingError: as `write_checkpoint`.
        """
        weights = self.ema.state if self.ema and self.score_ema else self.model.state_dict()
        metadata = {
            "kind": "best",
            "step": self.position.step,
            "weights": self.scored,
            "monitor": monitor,
            "scores": json_safe(scores),
        }
        write_checkpoint(path, {f"model.{name}": value for name, value in weights.items()}, metadata)

    def save_last(self, path: Path, rng: list[dict[str, Tensor]], config: FitConfig, *, finished: bool) -> None:
        """Write the state; `rng` has the random states of each process, `finished` tells whether training is over.

        Raises:
            TrainingError: as `write_checkpoint`.
        """
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        metadata: dict[str, Any] = {
            "kind": "last",
            "step": self.position.step,
            "steps": config.steps,
            "scored": self.scored,
            "monitor": config.monitor,
            "finished": finished,
            "identity": self.identity,
            "position": asdict(self.position),
        }
        if self.ema:
            tensors |= {f"ema.{name}": value for name, value in self.ema.state.items()}
            metadata["ema_updates"] = self.ema.updates
        for name, parameter in _named_parameters(self.optimizer):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{name}.{key}"] = value
        if self.scaler:
            metadata["scaler"] = self.scaler.state_dict()
        for rank, states in enumerate(rng):
            tensors |= {f"rng.{rank}.{name}": value for name, value in states.items()}
        write_checkpoint(path, tensors, metadata)

    def restore(self, path: Path, rank: int) -> None:
        """Restore the state from `path`, including the random states of process `rank`.

        Raises:
            CheckpointError: the file cannot be read, or belongs to another model or a run with other settings.
        """
        tensors, metadata = read_checkpoint(path)
        if metadata.get("kind") != "last":
            raise CheckpointError(f"{path} holds only weights; training resumes from last.safetensors")
        try:
            self._check_identity(path, metadata["identity"])
            weights = with_prefix(tensors, "model.")
            check_same_model(path, self.model, weights)
            self.model.load_state_dict(weights)
            if self.ema:
                self.ema.load(with_prefix(tensors, "ema."), metadata["ema_updates"])
            self._restore_optimizer(with_prefix(tensors, "optimizer."))
            if self.scaler:
                self.scaler.load_state_dict(metadata["scaler"])
            self.position = Position.read(metadata, path)
            restore_rng(with_prefix(tensors, f"rng.{rank}."))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is damaged and cannot be resumed ({type(error).__name__}: {error}); start a new run, or copy "
                "the checkpoint again"
            ) from error

    def _check_identity(self, path: Path, saved: dict[str, Any]) -> None:
        before, now = _flat(saved), _flat(self.identity)
        differing = [
            f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if differing:
            raise CheckpointError(
                f"{path} cannot be resumed under other settings: {'; '.join(differing)}. "
                f"Restore them, or start a new run"
            )

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        entries: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, entry = key.rpartition(".")
            entries.setdefault(name, {})[entry] = value
        names = [name for name, _ in _named_parameters(self.optimizer)]
        states = {index: entries[name] for index, name in enumerate(names) if name in entries}
        present = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": states, "param_groups": present["param_groups"]})


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _named_parameters(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """Return names and parameters in the optimiser's order."""
    return [
        (name, parameter)
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    ]


def seed_everything(seed: int, rank: int) -> None:
    """Seed Python, NumPy and PyTorch, differently in each process."""
    process_seed = int(np.random.SeedSequence((seed, rank)).generate_state(1)[0])
    random.seed(process_seed)
    np.random.seed(process_seed)
    torch.manual_seed(process_seed)


def capture_rng(device: torch.device) -> dict[str, Tensor]:
    """Return the random states of this process as tensors."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = {
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor(np.asarray(keys, dtype=np.int64)),
        "numpy_position": torch.tensor([position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(states: dict[str, Tensor]) -> None:
    """Set the random states to those of `capture_rng`."""
    gauss = states["python_gauss"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
    position, has_gauss = states["numpy_position"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, states["numpy_gauss"].item()))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
