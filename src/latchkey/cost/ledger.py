"""Parameters, multiply-adds and activation bytes of a model, term by term."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latchkey.attention import MultiHead
from latchkey.cost.memory import FusedAttention, LiveBytes, SavedBytes
from latchkey.cost.terms import TERMS, assign_terms
from latchkey.errors import InputError
from latchkey.types import Size


@dataclass(frozen=True, slots=True)
class Term:
    """One row of a ledger."""

    parameters: int = 0
    macs: int = 0
    saved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """What one image costs.

    `macs` counts the multiply-adds of linear maps, convolutions and attention products, as the literature does; norms,
    activations, softmax, additions and resizing are left out. `saved_bytes` is the training peak: the bytes of distinct
    tensors that autograd keeps from the forward pass for the backward pass, for one image in float32 with PyTorch's
    fused attention, auxiliary heads running; weights, their gradients, the optimiser's state and the image are left
    out. `inference_bytes` is the most bytes of tensors that are alive at once without gradients; workspaces inside
    single kernels are left out.
    """

    terms: dict[str, Term]
    """Only terms that the model has, in the order of `TERMS`."""
    inference_bytes: int

    @property
    def parameters(self) -> int:
        return sum(term.parameters for term in self.terms.values())

    @property
    def macs(self) -> int:
        return sum(term.macs for term in self.terms.values())

    @property
    def saved_bytes(self) -> int:
        return sum(term.saved_bytes for term in self.terms.values())


def ledger(model: nn.Module, size: Size, *, channels: int = 3) -> Ledger:
    """The cost of `model` for one image of `size` (h, w) in pixels, from shapes alone: nothing is computed.

    `model` may lie on any device; it is left as it is. Counted are `nn.Linear`, `nn.Conv2d` and `MultiHead`.

    Raises:
        InputError: the image is so small that batch norm could not train on it alone.
    """
    model = copy.deepcopy(model).to("meta")
    terms = assign_terms(model)
    image = torch.empty(1, channels, *size, device="meta")
    try:
        with _count_macs(model, terms) as macs, SavedBytes(model.train(), image, terms) as saved:
            _run(model, image)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"{size[0]}x{size[1]} pixels are too few: one of the model's maps has a single place, on which batch "
            "norm cannot train; give a larger size"
        ) from error
    parameters = _parameters(model, terms)
    rows = {name: Term(parameters[name], macs[name], saved.by_term[name]) for name in TERMS}
    with torch.no_grad(), FusedAttention(), LiveBytes() as live:
        model.eval()(image)
    return Ledger({name: row for name, row in rows.items() if row != Term()}, live.peak)


def totals(model: nn.Module, size: Size, *, channels: int = 3) -> tuple[int, int]:
    """Parameters and multiply-adds of `ledger`, without the memory and so in less time."""
    parameters = sum(p.numel() for p in model.parameters())
    model = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FusedAttention(), _count_macs(model, assign_terms(model)) as macs:
        _run(model, torch.empty(1, channels, *size, device="meta"))
    return parameters, macs.total()


def _run(model: nn.Module, image: Tensor) -> Any:
    return model(image, auxiliary=True) if len(getattr(model, "aux_heads", ())) else model(image)


def _parameters(model: nn.Module, terms: dict[nn.Module, str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for module, term in terms.items():
        counted[term] += sum(p.numel() for p in module.parameters(recurse=False))
    return counted


@contextmanager
def _count_macs(model: nn.Module, terms: dict[nn.Module, str]) -> Iterator[Counter[str]]:
    """Fills the counter, by term, with what passes through `model` meanwhile."""
    counted: Counter[str] = Counter()

    def linear(module: nn.Linear, _args: Any, out: Tensor) -> None:
        counted[terms[module]] += out.numel() * module.in_features

    def convolution(module: nn.Conv2d, _args: Any, out: Tensor) -> None:
        counted[terms[module]] += out.numel() * module.weight[0].numel()

    def attention(layer: MultiHead, heads: tuple[Tensor, ...]) -> None:
        counted.update(layer.variant.terms(heads[0].shape[-2], heads[-1].shape[-2], layer.heads, layer.dim_head))

    handles = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(linear))
        elif isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(convolution))
        elif isinstance(module, MultiHead):
            hook = module.project.register_forward_hook(lambda _m, _args, heads, layer=module: attention(layer, heads))
            handles.append(hook)
    try:
        yield counted
    finally:
        for handle in handles:
            handle.remove()
