"""Registers kernels as PyTorch operators with shapes and a derivative, so that `torch.compile` sees one node.

The two schemas define what the derivative needs. Each argument of the backward operator is the gradient of the first
result (the first one), an argument or a result of the forward operator (the same name), or whether an argument needs a
gradient (`bias_learns`). Its result `d_bias` is the gradient of the argument `bias`. No other tensors are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewpairs.errors import InputError

LEARNS = "_learns"


class Operator(NamedTuple):
    """A PyTorch operator: its schema, the function that computes it, and one that allocates its results."""

    schema: str
    """`name(Tensor x, ...) -> (Tensor out, ...)`, without the namespace."""
    compute: Callable[..., Any]
    shapes: Callable[..., Any]
    """A function of the same arguments, called for fake tensors and on the meta device."""


def register(forward: Operator, backward: Operator, *, refusal: str, device: str = "default") -> None:
    """Define both operators in the namespace `fewpairs`; the first result of `forward` is differentiable, once.

    Args:
        refusal: the error of the second derivative, such as "k-NN attention in C++ has no second derivative; ...".
        device: the device type of `compute`, as in `torch.library.impl`.
    """
    for operator in (forward, backward):
        name, separator, rest = operator.schema.partition("(")
        torch.library.define(f"fewpairs::{name}", separator + rest)
        torch.library.impl(f"fewpairs::{name}", device, operator.compute)
        torch.library.register_fake(f"fewpairs::{name}", operator.shapes)

    first, second = (_schema(operator) for operator in (forward, backward))
    taken = [argument.name for argument in first.arguments]
    known = taken + [result.name for result in first.returns]
    wanted = [argument.name for argument in second.arguments[1:]]
    kept = [name for name in wanted if not name.endswith(LEARNS)]
    tensors = [name for name in kept if name not in taken or "Tensor" in str(first.arguments[taken.index(name)].type)]
    learned = [taken.index(result.name.removeprefix("d_")) for result in second.returns]
    call = getattr(torch.ops.fewpairs, second.name.removeprefix("fewpairs::"))

    def remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        results = (output,) if isinstance(output, Tensor) else output
        values = dict(zip(known, (*inputs, *results), strict=True))
        ctx.save_for_backward(*(values[name] for name in tensors))
        ctx.options = {name: values[name] for name in kept if name not in tensors}
        ctx.mark_non_differentiable(*results[1:])
        ctx.set_materialize_grads(False)

    def differentiate(ctx: Any, grad: Tensor | None, *_others: Tensor | None) -> tuple[Tensor | None, ...] | None:
        gradients: list[Tensor | None] = [None] * len(taken)
        if grad is not None:
            learns = {name + LEARNS: needed for name, needed in zip(taken, ctx.needs_input_grad, strict=True)}
            values = learns | ctx.options | dict(zip(tensors, ctx.saved_tensors, strict=True))
            for place, gradient in zip(learned, call(grad, *(values[name] for name in wanted)), strict=True):
                gradients[place] = gradient if ctx.needs_input_grad[place] else None
        return tuple(gradients)

    def refuse(_ctx: Any, *_grads: Tensor | None) -> None:
        raise InputError(refusal)

    torch.library.register_autograd(first.name, differentiate, setup_context=remember)
    torch.library.register_autograd(second.name, refuse)


def lazy_function(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports `module` on its first call and calls `name` in it."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def _schema(operator: Operator) -> torch.FunctionSchema:
    return getattr(torch.ops.fewpairs, operator.schema.partition("(")[0]).default._schema  # type: ignore[no-any-return]
