"""Operators from two schemas: what is kept for the derivative, what gets a gradient, and that there is no second."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewpairs.ops.register import Operator, lazy_function, register

CALLS: list[tuple[Any, ...]] = []


def scaled(x: Tensor, y: Tensor | None, factor: float) -> tuple[Tensor, Tensor]:
    return x * factor if y is None else x * factor + y, x.sum()


def back(
    grad: Tensor, x: Tensor, y: Tensor | None, total: Tensor, factor: float, y_learns: bool
) -> tuple[Tensor, Tensor]:
    CALLS.append((total.item(), factor, y_learns))
    return grad * factor, grad.clone()


register(
    Operator(
        "register_test(Tensor x, Tensor? y, float factor) -> (Tensor out, Tensor total)",
        scaled,
        lambda x, _y, _factor: (torch.empty_like(x), x.new_empty(())),
    ),
    Operator(
        "register_test_backward(Tensor grad, Tensor x, Tensor? y, Tensor total, float factor, bool y_learns)"
        " -> (Tensor d_x, Tensor d_y)",
        back,
        lambda grad, *_rest: (torch.empty_like(grad), torch.empty_like(grad)),
    ),
    reference=lambda x, y, factor: scaled(x, y, factor)[0],
)


def run(*arguments: Any) -> tuple[Tensor, Tensor]:
    out: tuple[Tensor, Tensor] = torch.ops.fewpairs.register_test(*arguments)
    return out


@pytest.mark.parametrize("learns", [True, False])
def test_the_schemas_say_what_the_derivative_gets(learns: bool) -> None:
    CALLS.clear()
    x, y = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=learns)
    out, total = run(x, y, 2.0)
    assert not total.requires_grad
    out.sum().backward()
    assert [(3.0, 2.0, learns)] == CALLS
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
    assert (y.grad is not None) == learns


def test_an_optional_tensor_may_be_missing() -> None:
    x = torch.ones(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(run(x, None, 3.0)[0].sum(), x)
    assert gradient.tolist() == [3.0, 3.0, 3.0]


def test_the_second_derivative_is_the_references() -> None:
    """f = sum (2 x + x)^2 has the gradient 18 x, of one tensor that is two arguments, and the second derivative 18."""
    CALLS.clear()
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad((run(x, x, 2.0)[0] ** 2).sum(), x, create_graph=True)
    assert gradient.tolist() == [18.0, 36.0, 54.0]
    assert CALLS == []
    gradient.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [18.0] * 3


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
def test_the_whole_passes_pytorchs_own_check() -> None:
    x = torch.randn(3, requires_grad=True)
    torch.library.opcheck(torch.ops.fewpairs.register_test.default, (x, torch.randn(3), 2.0))


def test_a_module_is_imported_on_the_first_call() -> None:
    call = lazy_function("colorsys", "rgb_to_hsv")
    assert call(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)
    with pytest.raises(ModuleNotFoundError):
        lazy_function("fewpairs.nowhere", "forward")()
