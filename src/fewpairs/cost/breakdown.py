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
    """Cost of one term; `saved_bytes` are the activations kept for the backward pass."""

    parameters: int = 0
    macs: int = 0
    saved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CostBreakdown:
    """Cost of one image.

    `macs` counts the multiply-adds of linear maps, convolutions and attention products, as the literature does; norms,
    activations, softmax, additions and resizing do not count. `saved_bytes` is the training peak: the bytes of distinct
    tensors that autograd keeps from the forward pass for the backward pass, for one image in float32 with PyTorch's
    fused attention and auxiliary heads; weights, their gradients, the optimiser's state and the image do not count.
    `inference_bytes` is the peak of bytes of tensors alive at once without gradients; workspaces inside kernels do not
    count.
    """

    terms: dict[str, TermCost]
    """The terms that the model has, in the order of `TERMS`."""
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
    """Return the cost of `model` for one image of `size` (h, w) in pixels, from shapes only.

    `model` may be on any device and is not changed. All matrix products and convolutions count, those of `Core`
    modules by the formulas of their variant.

    Raises:
        InputError: the image is so small that batch norm cannot train on it alone.
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
            f"{size[0]}x{size[1]} pixels are too few: one of the model's maps has a single position, on which batch "
            "norm cannot train; give a larger size"
        ) from error
    macs, parameters = trace_model(model, size, channels=channels).macs, _parameters(model, terms)
    rows = {name: TermCost(parameters[name], macs[name], saved.by_term[name]) for name in TERMS}
    with torch.no_grad(), FusedAttention(), LiveBytes() as live:
        model.eval()(image)
    return CostBreakdown({name: row for name, row in rows.items() if row != TermCost()}, live.peak)


def parameters_and_macs(model: nn.Module, size: Size, *, channels: int = 3) -> tuple[int, int]:
    """Return parameters and multiply-adds, as in `cost_breakdown`, but faster because memory is not computed."""
    return sum(p.numel() for p in model.parameters()), trace_model(model, size, channels=channels).macs.total()


def trace_model(model: nn.Module, size: Size, *, channels: int = 3) -> Trace:
    """Return multiply-adds by term and the attention sites with their queries and keys, with auxiliary heads."""
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
