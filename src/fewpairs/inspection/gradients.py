"""Norms of the gradients that reach each attention layer from one class's logit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.attention import Core
from fewpairs.errors import InputError
from fewpairs.inspection.layers import ancestors, block_of
from fewpairs.inspection.measures import joint_norm


@dataclass(frozen=True, slots=True)
class GradientNorms:
    """Euclidean norms of the gradient of one logit at one attention layer."""

    attention: float
    """Norm over all parameters of the attention module, its projections included."""
    block: float
    """Norm over all parameters of the block."""
    roles: dict[str, float]
    """Norm for each input of the attention: "q", "k" and "v", or "k" and "v"."""


def logits_of(output: Any) -> Tensor | None:
    """`[k]`, the first image's logit of each class, averaged over the pixels of a map; None without logits."""
    logits = getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.ndim in (2, 4):
        return logits[0].flatten(1).mean(1) if logits.ndim == 4 else logits[0]
    return None


def choose_target(logits: Tensor | None, target: int | None) -> int | None:
    """The class whose logit is differentiated: `target`, or the predicted one; None without classes.

    Raises:
        InputError: the model has no such class, or no classes.
    """
    if logits is None:
        if target is not None:
            raise InputError(f"target={target}: the model gives no class logits; leave the target out")
        return None
    if target is None:
        return int(logits.argmax())
    if not 0 <= target < len(logits):
        raise InputError(f"target={target} is no class of the model; allowed: 0 to {len(logits) - 1}")
    return target


def gradient_norms(model: nn.Module, image: Tensor, target: int, cores: dict[str, Core]) -> dict[str, GradientNorms]:
    """Gradient norms of the logit `target` at each attention layer, for the model as it stands.

    The parameters' `.grad` stays as it is.
    """
    modules = dict(model.named_modules())
    taken: dict[str, tuple[Tensor, ...]] = {}

    def keep(name: str) -> Any:
        def note(_core: nn.Module, roles: tuple[Tensor, ...]) -> None:
            taken[name] = roles

        return note

    parts = {name: (modules[next(ancestors(name))], modules[block_of(name)]) for name in cores}
    parameters = {id(p): p for pair in parts.values() for part in pair for p in part.parameters()}
    with ExitStack() as stack:
        stack.enter_context(_requiring_gradients(list(parameters.values())))
        stack.enter_context(torch.enable_grad())
        for name, core in cores.items():
            stack.callback(core.register_forward_pre_hook(keep(name)).remove)
        logits = logits_of(model(image))
        if logits is None:
            raise ValueError("the model gives no class logits")
        tensors = [*parameters.values(), *(role for roles in taken.values() for role in roles)]
        unique = list({id(tensor): tensor for tensor in tensors if tensor.requires_grad}.values())
        gradients = torch.autograd.grad(logits[target], unique, allow_unused=True)
    by_id = {id(tensor): gradient for tensor, gradient in zip(unique, gradients, strict=True)}
    return {
        name: GradientNorms(
            attention=joint_norm([by_id.get(id(p)) for p in parts[name][0].parameters()]),
            block=joint_norm([by_id.get(id(p)) for p in parts[name][1].parameters()]),
            roles={
                role: joint_norm([by_id.get(id(tensor))])
                for role, tensor in zip(cores[name].variant.roles, taken[name], strict=True)
            },
        )
        for name in taken
    }


@contextmanager
def _requiring_gradients(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Frozen parameters get gradients in this context."""
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(parameter.is_floating_point())
    try:
        yield
    finally:
        for parameter, required in zip(parameters, before, strict=True):
            parameter.requires_grad_(required)
