"""Parameters, multiply-adds and activation bytes of a model, term by term."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.cost.fused import FusedAttention
from fewpairs.cost.memory import LiveBytes, SavedBytes
from fewpairs.cost.terms import TERMS, assign_terms
from fewpairs.cost.tracing import Trace, meta_copy, traced
from fewpairs.errors import InputError
from fewpairs.types import Size


@dataclass(frozen=True, slots=True)
class TermCost:
    """One row of a ledger."""

    parameters: int = 0
    macs: int = 0
    saved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CostBreakdown:
    """What one image costs.

    `macs` counts the multiply-adds of linear maps, convolutions and attention products, as the literature does; norms,
    activations, softmax, additions and resizing are left out. `saved_bytes` is the training peak: the bytes of distinct
    tensors that autograd keeps from the forward pass for the backward pass, for one image in float32 with PyTorch's
    fused attention, auxiliary heads running; weights, their gradients, the optimiser's state and the image are left
    out. `inference_bytes` is the most bytes of tensors that are alive at once without gradients; workspaces inside
    single kernels are left out.
    """

    terms: dict[str, TermCost]
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


def cost_breakdown(model: nn.Module, size: Size, *, channels: int = 3) -> CostBreakdown:
    """The cost of `model` for one image of `size` (h, w) in pixels, from shapes alone: nothing is computed.

    `model` may lie on any device; it is left as it is. All matrix products and convolutions are counted, those of
    `Core` modules as their variant says.

    Raises:
        InputError: the image is so small that batch norm could not train on it alone.
    """
    model = meta_copy(model)
    terms, image = assign_terms(model), torch.empty(1, channels, *size, device="meta")
    try:
        with SavedBytes(model.train(), image, terms) as saved:
            _run(model, image)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"{size[0]}x{size[1]} pixels are too few: one of the model's maps has a single place, on which batch "
            "norm cannot train; give a larger size"
        ) from error
    macs, parameters = trace_model(model, size, channels=channels).macs, _parameters(model, terms)
    rows = {name: TermCost(parameters[name], macs[name], saved.by_term[name]) for name in TERMS}
    with torch.no_grad(), FusedAttention(), LiveBytes() as live:
        model.eval()(image)
    return CostBreakdown({name: row for name, row in rows.items() if row != TermCost()}, live.peak)


def parameters_and_macs(model: nn.Module, size: Size, *, channels: int = 3) -> tuple[int, int]:
    """Parameters and multiply-adds of `ledger`, without the memory and so in less time."""
    return sum(p.numel() for p in model.parameters()), trace_model(model, size, channels=channels).macs.total()


def trace_model(model: nn.Module, size: Size, *, channels: int = 3) -> Trace:
    """Multiply-adds by term, and where attention happens with how many queries and keys, auxiliary heads running."""
    if not all(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        model = meta_copy(model)
    training = [module for module in model.modules() if module.training]
    try:
        with traced(model.eval(), assign_terms(model)) as found:
            _run(model, torch.empty(1, channels, *size, device="meta"))
    finally:
        for module in training:
            module.training = True
    return found


def _run(model: nn.Module, image: Tensor) -> Any:
    return model(image, auxiliary=True) if len(getattr(model, "aux_heads", ())) else model(image)


def _parameters(model: nn.Module, terms: dict[nn.Module, str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    seen: set[int] = set()
    for module, term in terms.items():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                table = "projections" if name.endswith("_bias") else "position"
                counted[table if term == "scores" else term] += parameter.numel()
    return counted
