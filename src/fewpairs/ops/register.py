"""Registers kernels as PyTorch operators with shapes and a derivative, so that `torch.compile` sees one node.

The two schemas define what the derivative needs. Each argument of the backward operator is the gradient of the first
result (the first one), an argument or a result of the forward operator (the same name), or whether an argument needs a
gradient (`bias_learns`). Its result `d_bias` is the gradient of the argument `bias`. No other tensors are kept. A
gradient that must itself be differentiable (`create_graph=True`) comes from the operator's reference instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

LEARNS = "_learns"


class Operator(NamedTuple):
    """A PyTorch operator: its schema, the function that computes it, and one that allocates its results."""

    schema: str
    """`name(Tensor x, ...) -> (Tensor out, ...)`, without the namespace."""
    compute: Callable[..., Any]
    shapes: Callable[..., Any]
    """A function of the same arguments, called for fake tensors and on the meta device."""


def register(
    forward: Operator, backward: Operator, *, reference: Callable[..., Tensor], device: str = "default"
) -> None:
    """Define both operators in the namespace `fewpairs`; the first result of `forward` is differentiable.

    Args:
        reference: a function of the arguments of `forward`, by name, that computes its first result by PyTorch's own
            operators; it has all derivatives from the second on.
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
    plain = [argument.name for argument in first.arguments if "Tensor" not in str(argument.type)]
    tensors = [name for name in wanted if not name.endswith(LEARNS) and name not in plain]
    learned = [taken.index(result.name.removeprefix("d_")) for result in second.returns]
    call = getattr(torch.ops.fewpairs, second.name.removeprefix("fewpairs::"))

    def remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        results = (output,) if isinstance(output, Tensor) else output
        values = dict(zip(known, (*inputs, *results), strict=True))
        ctx.save_for_backward(*(values[name] for name in tensors))
        ctx.options = {name: values[name] for name in plain}
        ctx.mark_non_differentiable(*results[1:])
        ctx.set_materialize_grads(False)

    def differentiate(ctx: Any, grad: Tensor | None, *_others: Tensor | None) -> tuple[Tensor | None, ...] | None:
        gradients: list[Tensor | None] = [None] * len(taken)
        if grad is not None and torch.is_grad_enabled():
            values = ctx.options | dict(zip(tensors, ctx.saved_tensors, strict=True))
            return differentiable_gradients(
                reference, {name: values[name] for name in taken}, ctx.needs_input_grad, grad
            )
        if grad is not None:
            learns = {name + LEARNS: needed for name, needed in zip(taken, ctx.needs_input_grad, strict=True)}
            values = learns | ctx.options | dict(zip(tensors, ctx.saved_tensors, strict=True))
            for place, gradient in zip(learned, call(grad, *(values[name] for name in wanted)), strict=True):
                gradients[place] = gradient if ctx.needs_input_grad[place] else None
        return tuple(gradients)

    torch.library.register_autograd(first.name, differentiate, setup_context=remember)


def differentiable_gradients(
    function: Callable[..., Tensor], values: dict[str, Any], needed: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return one gradient for each argument of `function`, differentiable with respect to arguments and `grad`.

    Each argument is aliased, since one tensor may be several arguments, whose gradients are counted apart.
    """
    seen = {
        name: value.view_as(value) if isinstance(value, Tensor) and learns else value
        for (name, value), learns in zip(values.items(), needed, strict=True)
    }
    learned = [name for name, learns in zip(values, needed, strict=True) if learns]
    found = torch.autograd.grad(
        function(**seen), [seen[name] for name in learned], grad, create_graph=True, allow_unused=True
    )
    gradients = dict(zip(learned, found, strict=True))
    return tuple(gradients.get(name) for name in values)


def lazy_function(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports `module` on its first call and calls `name` in it."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def _schema(operator: Operator) -> torch.FunctionSchema:
    return getattr(torch.ops.fewpairs, operator.schema.partition("(")[0]).default._schema  # type: ignore[no-any-return]
