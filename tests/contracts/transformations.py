"""What PyTorch can do with a function, applied to each operator and to a model with swapped attention.

Each function of `TRANSFORMATIONS` takes a `Subject`, computes with it what the transformation computes, and returns
pairs of a result and the same by the reference in float64. `python tests/contracts/transformations.py` writes the table
of docs/transforms.md.
"""

from __future__ import annotations

import copy
import io
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.checkpoint import checkpoint
from transformed_subjects import (
    OPERATORS,
    SWAPS,
    Named,
    Operator,
    Subject,
    Wrapper,
    operator,
    plain_tensor,
    swapped,
)

from fewpairs.errors import InputError

Pairs = list[tuple[Any, Any]]


def meta_tensor(subject: Subject) -> Pairs:
    from monai.data import MetaTensor

    x = MetaTensor(subject.sample(2, subject.sizes[0]), affine=torch.eye(4) * 2)
    out = subject.module(x)
    assert isinstance(out, MetaTensor)
    assert torch.equal(out.affine, x.affine)
    return [(out, subject.truth(x))]


def parameter(subject: Subject) -> Pairs:
    x = nn.Parameter(subject.sample(2, subject.sizes[0]))
    out = subject.module(x)
    return [(out, subject.truth(x))]


def function_subclass(subject: Subject) -> Pairs:
    x = subject.sample(2, subject.sizes[0]).as_subclass(Named)
    out = subject.module(x)
    assert type(out) is Named
    return [(out, subject.truth(x))]


def dispatch_subclass(subject: Subject) -> Pairs:
    x = Wrapper(subject.sample(2, subject.sizes[0]))
    module = copy.deepcopy(subject.module)
    for part in module.modules():
        for name, value in list(part._parameters.items()):
            if value is not None:
                part._parameters[name] = nn.Parameter(Wrapper(value.detach()), requires_grad=False)
        for name, value in list(part._buffers.items()):
            if value is not None:
                part._buffers[name] = Wrapper(value)
    with torch.no_grad():
        return [(module(x).held, subject.truth(x))]


def fake_tensors(subject: Subject) -> Pairs:
    x = subject.sample(2, subject.sizes[0])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        out = subject.module(mode.from_tensor(x))
    return [(torch.zeros(out.shape), torch.zeros(subject.truth(x).shape))]


# Derivatives


def loss_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: module(x).sin().sum()


def one(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The loss of one example, without the batch."""
    return lambda x: module(x[None]).sin().sum()


def func_grad(subject: Subject) -> Pairs:
    x = subject.sample(2, subject.sizes[0])
    return [(grad(loss_of(subject.module))(x), grad(loss_of(subject.plain))(x.double()))]


def func_vmap(subject: Subject) -> Pairs:
    x = torch.stack([subject.sample(b, subject.sizes[0]) for b in (2, 2, 2)])
    x = x * torch.tensor([1.0, 0.5, -1.0]).reshape(3, *[1] * (x.ndim - 1))
    return [(vmap(subject.module)(x), torch.stack([subject.truth(each) for each in x]))]


def vmap_of_grad(subject: Subject) -> Pairs:
    x = subject.sample(3, subject.sizes[0])
    wanted = torch.stack([grad(one(subject.plain))(each) for each in x.double()])
    return [(vmap(grad(one(subject.module)))(x), wanted)]


def gradients_per_example(subject: Subject) -> Pairs:
    x = subject.sample(3, subject.sizes[0])

    def gradients(module: nn.Module, example: Tensor) -> Callable[[Any], Any]:
        weights = {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}
        floating = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}
        loss = lambda given, image: functional_call(module, given, (image[None],)).sin().sum()  # noqa: E731
        return vmap(grad(loss), in_dims=(None, 0))(floating, example)

    ours, truth = gradients(subject.module, x), gradients(subject.plain, x.double())
    return [(ours[name], truth[name]) for name in truth]


def func_jvp(subject: Subject) -> Pairs:
    x = subject.sample(2, subject.sizes[0])
    direction = x.flip(0).contiguous()
    ours = jvp(subject.module, (x,), (direction,))
    return list(zip(ours, jvp(subject.plain, (x.double(),), (direction.double(),)), strict=True))


def forward_mode(subject: Subject) -> Pairs:
    x = subject.sample(2, subject.sizes[0])

    def tangent(module: nn.Module, x: Tensor) -> Tensor:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(module(forward_ad.make_dual(x, x.flip(0).contiguous()))).tangent

    return [(tangent(subject.module, x), jvp(subject.plain, (x.double(),), (x.double().flip(0),))[1])]


def second_derivative(subject: Subject) -> Pairs:
    def gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
        module = copy.deepcopy(module)
        leaf = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(loss_of(module)(leaf), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        return [first.detach(), second]

    x = subject.sample(2, subject.sizes[0])
    return list(zip(gradients(subject.module, x), gradients(subject.plain, x.double()), strict=True))


def hessian(subject: Subject) -> Pairs:
    x = subject.sample(1, subject.sizes[2])[0]
    direction = x.flip(0).contiguous()
    product = lambda f, x, v: jvp(grad(f), (x,), (v,))[1]  # noqa: E731
    return [(product(one(subject.module), x, direction), product(one(subject.plain), x.double(), direction.double()))]


def checkpointed(subject: Subject, reentrant: bool) -> Pairs:
    x = subject.sample(2, subject.sizes[0])

    def gradients(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_()
        (found,) = torch.autograd.grad(run(leaf).sin().sum(), leaf) if not reentrant else (backward(run, leaf),)
        return found

    def backward(run: Callable[[Tensor], Tensor], leaf: Tensor) -> Tensor:
        run(leaf).sin().sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    again = lambda x: checkpoint(subject.module, x, use_reentrant=reentrant)  # noqa: E731
    return [(gradients(again, x), gradients(subject.plain, x.double()))]


# Graphs


def others(subject: Subject) -> list[Tensor]:
    """Arguments of other batches and sizes than the traced ones."""
    return [subject.sample(b, n) for n in subject.sizes for b in (1, 2, 5)]


def compiled(subject: Subject) -> Pairs:
    torch._dynamo.reset()
    run = torch.compile(subject.module, fullgraph=True, backend="aot_eager", dynamic=True)
    pairs: Pairs = []
    for x in others(subject):
        leaf, exact = x.clone().requires_grad_(), x.double().requires_grad_()
        out = run(leaf)
        pairs += [(out, subject.plain(exact))]
        pairs += [(torch.autograd.grad(out.sin().sum(), leaf)[0], grad(loss_of(subject.plain))(exact.detach()))]
    return pairs


def exported(subject: Subject) -> Pairs:
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {0: batch} | dict.fromkeys(subject.dynamic, torch.export.Dim.DYNAMIC)
    x = subject.sample(2, subject.sizes[0])
    program = torch.export.export(subject.module, (x,), dynamic_shapes=(shapes,))
    return [(program.module()(x), subject.truth(x)) for x in others(subject)]


def onnx(subject: Subject) -> Pairs:
    import onnxruntime

    names = {0: "batch", **subject.dynamic}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "model.onnx"
        x = subject.sample(2, subject.sizes[0])
        torch.onnx.export(subject.module, (x,), file, dynamo=True, dynamic_shapes=(names,), verbose=False)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return [(torch.from_numpy(session.run(None, {name: x.numpy()})[0]), subject.truth(x)) for x in others(subject)]


def traced(subject: Subject) -> Pairs:
    x = subject.sample(2, subject.sizes[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(subject.module, x, check_trace=False), buffer)
    graph = torch.jit.load(io.BytesIO(buffer.getvalue()))
    any_size = isinstance(subject.module, Operator)  # timm's own position embedding holds the size that it saw
    seen = others(subject) if any_size else [subject.sample(b, subject.sizes[0]) for b in (1, 2, 5)]
    return [(graph(x), subject.truth(x)) for x in seen]


TRANSFORMATIONS: dict[str, Callable[[Subject], Pairs]] = {
    "MONAI's `MetaTensor`": meta_tensor,
    "`nn.Parameter`": parameter,
    "a subclass with `__torch_function__`": function_subclass,
    "a subclass with `__torch_dispatch__`": dispatch_subclass,
    "`FakeTensorMode`": fake_tensors,
    "checkpointing, reentrant": lambda subject: checkpointed(subject, True),
    "checkpointing, not reentrant": lambda subject: checkpointed(subject, False),
    "`torch.func.grad`": func_grad,
    "`vmap`": func_vmap,
    "`vmap(grad)`": vmap_of_grad,
    "`vmap(grad)` of the weights": gradients_per_example,
    "`jvp`": func_jvp,
    "forward mode, dual tensors": forward_mode,
    "second derivative": second_derivative,
    "`jvp(grad)`": hessian,
    "`torch.compile`": compiled,
    "`torch.export`": exported,
    "ONNX": onnx,
    "`torch.jit.trace`": traced,
}

SUBJECTS: dict[str, Callable[[], Subject]] = {f"ops.{name}": partial(operator, name) for name in OPERATORS}
SUBJECTS |= {f"swap.{name}": partial(swapped, name) for name in SWAPS}
PAGE = Path(__file__).parents[2] / "docs" / "transforms.md"


def outcome(transformation: str, subject: Subject) -> str:
    """Return "yes" if all values are right, or the sentence that refuses.

    Raises:
        AssertionError: a value is wrong.
    """
    try:
        pairs = TRANSFORMATIONS[transformation](subject)
    except InputError as refusal:
        return str(refusal)
    assert pairs
    for ours, truth in pairs:
        torch.testing.assert_close(
            plain_tensor(ours).double(), truth.double(), rtol=1e-4, atol=1e-4 * max(1.0, float(truth.abs().max()))
        )
    return "yes"


def rows() -> dict[str, dict[str, str]]:
    """Return the first table of the page: subject -> outcome for each transformation."""
    table = PAGE.read_text().partition("\n| |")[2].partition("\n\n")[0]
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in f"| |{table}".splitlines()]
    head, _, *body = lines
    return {name: dict(zip(head[1:], cells, strict=True)) for name, *cells in body}


def main() -> None:
    """Run everything, and write the table into the page."""
    made = {name: make() for name, make in SUBJECTS.items()}
    table = [f"| | {' | '.join(made)} |", f"| --- |{' --- |' * len(made)}"]
    for name in TRANSFORMATIONS:
        table.append(f"| {name} | {' | '.join(outcome(name, subject) for subject in made.values())} |")
    before, _, after = PAGE.read_text().partition("| |")
    rest = after[after.index("\n\n") :]
    PAGE.write_text(before + "\n".join(table) + rest)


if __name__ == "__main__":
    main()
