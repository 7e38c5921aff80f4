"""k-NN attention on GPUs: Triton kernels as PyTorch operators, in memory linear in n and m.

Forward: one kernel finds where each row is cut (`gpu_select`), a second weighs and sums the values of the keys inside
(`gpu_mix`). Three numbers a row are kept. Backward (`gpu_backward`): a kernel over queries, one over keys, and one for
a bias that learns; each makes the scores again. Triton is imported when the first of them runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.gpu.refusal import refuse_arguments
from fewpairs.ops.knn import blocks


def refuse_triton(
    q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str
) -> str | None:
    """Why the GPU kernels cannot run these arguments, or None."""
    if metric != "dot":
        return f"it chooses keys by their scores alone, not by metric={metric!r}"
    return refuse_arguments((q, k, v), (q.shape[3], v.shape[3]))


def run_triton(q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str) -> Tensor:
    """`[b h n d], [b h m d], [b h m e] -> [b h n e]`; once differentiable."""
    out: Tensor = torch.ops.fewpairs.knn_triton_forward(q, k, v, bias, topk, float(scale))[0]
    return out


def _forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from fewpairs.ops.knn import gpu_launch

    return gpu_launch.forward(*arguments)


def _backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from fewpairs.ops.knn import gpu_launch

    return gpu_launch.backward(*arguments)


torch.library.define(
    "fewpairs::knn_triton_forward",
    "(Tensor q, Tensor k, Tensor v, Tensor? bias, SymInt topk, float scale) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "fewpairs::knn_triton_backward",
    "(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor out, Tensor threshold, Tensor last,"
    " Tensor log_sum, float scale, bool bias_learns) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("fewpairs::knn_triton_forward", "default", _forward)
torch.library.impl("fewpairs::knn_triton_backward", "default", _backward)


@torch.library.register_fake("fewpairs::knn_triton_forward")
def empty_results(q: Tensor, k: Tensor, v: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the output `[b h n e]`; then, `[b h n]` each, threshold, last key and the softmax's log-sum."""
    row, single = q.shape[:3], torch.float32
    return (
        q.new_empty((*row, v.shape[3])),
        q.new_empty(row, dtype=single),
        q.new_empty(row, dtype=torch.int32),
        q.new_empty(row, dtype=single),
    )


@torch.library.register_fake("fewpairs::knn_triton_backward")
def _backward_shapes(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return blocks.empty_gradients(q, k, v, bias if options[-1] else None)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, bias, _topk, scale = inputs
    ctx.save_for_backward(q, k, v, bias, *output)
    ctx.scale = scale


def _differentiate(ctx: Any, grad: Tensor, *_unused: Tensor | None) -> tuple[Tensor | None, ...]:
    bias_learns = ctx.needs_input_grad[3]
    dq, dk, dv, dbias = torch.ops.fewpairs.knn_triton_backward(grad, *ctx.saved_tensors, ctx.scale, bias_learns)
    return dq, dk, dv, dbias if bias_learns else None, None, None


def _refuse_second(_ctx: Any, *_grads: Tensor) -> None:
    raise InputError(
        "k-NN attention by Triton has no second derivative; call knn_attention with kernel='masked', which has"
    )


torch.library.register_autograd("fewpairs::knn_triton_forward", _differentiate, setup_context=_remember)
torch.library.register_autograd("fewpairs::knn_triton_backward", _refuse_second)
