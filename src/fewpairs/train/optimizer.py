"""Parameter groups with learning rates and weight decays of their own, and the optimiser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fewpairs.errors import InputError
from fewpairs.train.config import OptimizerConfig

BETAS = (0.9, 0.999)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning-rate scale and weight decay.

    Each group has `params`, `names` (as in `model.named_parameters()`), `scale` (factor of the scheduled rate),
    `decayed` (whether weight decay applies), `lr` and `weight_decay`. The layers come from `model.layer_groups()`,
    lists of parameter names from input to output, the last one with decoder and head; a model without that method
    counts as one layer.

    Raises:
        InputError: the model has nothing to train, lacks the `layer_groups` that `layer_decay` and `head_lr` need, or
            its layers do not hold every trainable parameter exactly once.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise InputError(f"{type(model).__name__} has no trainable parameter; unfreeze some before training")
    scales = _scales(model, config, trainable)
    undecayed = set(_call_optional(model, "no_weight_decay") or ())
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in trainable.items():
        scale, decayed = key = scales[name], parameter.ndim > 1 and name not in undecayed
        if key not in groups:
            groups[key] = {"params": [], "names": [], "scale": scale, "decayed": decayed, "lr": config.lr * scale}
            groups[key]["weight_decay"] = config.weight_decay if decayed else 0.0
        groups[key]["params"].append(parameter)
        groups[key]["names"].append(name)
    return list(groups.values())


def _scales(model: nn.Module, config: OptimizerConfig, trainable: Iterable[str]) -> dict[str, float]:
    trainable = set(trainable)
    layers: list[list[str]] | None = _call_optional(model, "layer_groups")
    if layers is None:
        for field in ("layer_decay", "head_lr"):
            if getattr(config, field) != 1.0:
                raise InputError(
                    f"optimizer.{field} is {getattr(config, field)}, but {type(model).__name__} has no layer_groups() "
                    f"to tell its layers apart; set optimizer.{field} to 1"
                )
        return dict.fromkeys(trainable, 1.0)
    scales: dict[str, float] = {}
    for depth, names in enumerate(layers):
        above = len(layers) - 1 - depth
        for name in names:
            if name in scales:
                raise InputError(f"{type(model).__name__}.layer_groups() names parameter {name!r} twice")
            scales[name] = config.layer_decay**above * (config.head_lr if above == 0 else 1.0)
    if missing := sorted(trainable - scales.keys()):
        raise InputError(
            f"{type(model).__name__}.layer_groups() leaves out {len(missing)} trainable parameters, such as "
            f"{', '.join(missing[:3])}; every parameter must belong to a layer"
        )
    return scales


def _call_optional(model: nn.Module, method: str) -> Any:
    """Return the result of an optional method of the model; None if it has no such method."""
    return getattr(model, method)() if hasattr(model, method) else None


def build_optimizer(
    groups: list[dict[str, Any]], config: OptimizerConfig, *, fused: bool = True
) -> torch.optim.Optimizer:
    """Build AdamW or SGD for the `parameter_groups` of a model; `fused` updates in one kernel (on CPU and CUDA)."""
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, betas=BETAS, fused=fused)


def set_rates(optimizer: torch.optim.Optimizer, rate: float, weight_decay: float | None = None) -> None:
    """Set the learning rate of every group to `rate` times its scale, and the weight decay of the decayed groups.

    None does not change the weight decay.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
        if weight_decay is not None and group["decayed"]:
            group["weight_decay"] = weight_decay
