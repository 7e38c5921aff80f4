"""k-NN attention in bounded memory: no tensor of n x m numbers, neither in the forward pass nor in the backward pass.

Two PyTorch operators around the loops of `fewpairs.ops.knn.blocks`, so that `torch.compile` sees one node and never the
loop. Beside the inputs and the output, three numbers a query and head are kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.knn import blocks


def refuse_bounded(
    q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str
) -> str | None:
    """Why the blocks cannot run these arguments, or None."""
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "an exported graph may hold only PyTorch's own operators"
    return None


def run_bounded(
    q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str
) -> Tensor:
    """`[b h n d], [b h m d], [b h m e] -> [b h n e]`; once differentiable."""
    out: Tensor = torch.ops.fewpairs.knn_forward(q, k, v, bias, topk, float(scale), metric)[0]
    return out


torch.library.define(
    "fewpairs::knn_forward",
    "(Tensor q, Tensor k, Tensor v, Tensor? bias, SymInt topk, float scale, str metric)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "fewpairs::knn_backward",
    "(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor out, Tensor threshold, Tensor last,"
    " Tensor log_sum, float scale, str metric, bool bias_learns) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("fewpairs::knn_forward", "default", blocks.forward)
torch.library.impl("fewpairs::knn_backward", "default", blocks.backward)


@torch.library.register_fake("fewpairs::knn_forward")
def _forward_shapes(q: Tensor, k: Tensor, v: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return blocks.empty_results(q, k, v)


@torch.library.register_fake("fewpairs::knn_backward")
def _backward_shapes(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return blocks.empty_gradients(q, k, v, bias if options[-1] else None)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, bias, _topk, scale, metric = inputs
    ctx.save_for_backward(q, k, v, bias, *output)
    ctx.scale, ctx.metric = scale, metric


def _differentiate(ctx: Any, grad: Tensor, *_unused: Tensor | None) -> tuple[Tensor | None, ...]:
    bias_learns = ctx.needs_input_grad[3]
    options = (ctx.scale, ctx.metric, bias_learns)
    dq, dk, dv, dbias = torch.ops.fewpairs.knn_backward(grad, *ctx.saved_tensors, *options)
    return dq, dk, dv, dbias if bias_learns else None, None, None, None


def _refuse_second(_ctx: Any, *_grads: Tensor) -> None:
    raise InputError(
        "k-NN attention in bounded memory has no second derivative; call knn_attention with kernel='masked', which has"
    )


torch.library.register_autograd("fewpairs::knn_forward", _differentiate, setup_context=_remember)
torch.library.register_autograd("fewpairs::knn_backward", _refuse_second)
