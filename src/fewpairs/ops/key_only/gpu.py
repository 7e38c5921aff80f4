"""Key-only attention on GPUs: Triton kernels as PyTorch operators (see `gpu_kernels`), imported when the first runs.

Beside inputs and output, one vector and one number a head are kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.gpu.refusal import refuse_arguments


def refuse_triton(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> str | None:
    """Why the GPU kernels cannot run these arguments, or None."""
    if any(term is not None and term.device != k.device for term in (saliency, mask, gate)):
        return "saliency, mask and gate must be on the device of the keys"
    return refuse_arguments((k, v), (k.shape[3],))


def key_only_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """See `reference.key_only_attention`; once differentiable."""
    out: Tensor = torch.ops.fewpairs.key_only_triton_forward(k, v, saliency, mask, gate)[0]
    return out


def _forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from fewpairs.ops.key_only import gpu_launch

    return gpu_launch.forward(*arguments)


def _backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from fewpairs.ops.key_only import gpu_launch

    return gpu_launch.backward(*arguments)


torch.library.define(
    "fewpairs::key_only_triton_forward",
    "(Tensor k, Tensor v, Tensor saliency, Tensor? mask, Tensor? gate) -> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "fewpairs::key_only_triton_backward",
    "(Tensor grad, Tensor k, Tensor v, Tensor saliency, Tensor? mask, Tensor? gate, Tensor pooled, Tensor log_sum)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("fewpairs::key_only_triton_forward", "default", _forward)
torch.library.impl("fewpairs::key_only_triton_backward", "default", _backward)


@torch.library.register_fake("fewpairs::key_only_triton_forward")
def empty_results(k: Tensor, v: Tensor, saliency: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the output, the pooled value `[b h d]`, and the weights' log-sum `[b h 1]` or `[b h d]`."""
    b, h, _, d = k.shape
    single = torch.float32
    return (
        v.new_empty(v.shape),
        v.new_empty((b, h, d), dtype=single),
        v.new_empty((b, h, d if saliency.ndim == 4 else 1), dtype=single),
    )


@torch.library.register_fake("fewpairs::key_only_triton_backward")
def empty_gradients(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    saliency: Tensor,
    mask: Tensor | None,
    gate: Tensor | None,
    pooled: Tensor,
    log_sum: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the gradients of keys, values, saliency and gate (of no elements where the keys are the gate)."""
    d_gate = k.new_empty(0) if gate is None else gate.new_empty(gate.shape)
    return k.new_empty(k.shape), v.new_empty(v.shape), saliency.new_empty(saliency.shape), d_gate


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, pooled, log_sum = output
    ctx.save_for_backward(*inputs, pooled, log_sum)


def _differentiate(ctx: Any, grad: Tensor, *_unused: Tensor | None) -> tuple[Tensor | None, ...]:
    d_k, d_v, d_saliency, d_gate = torch.ops.fewpairs.key_only_triton_backward(grad, *ctx.saved_tensors)
    return d_k, d_v, d_saliency, None, d_gate if ctx.needs_input_grad[4] else None


def _refuse_second(_ctx: Any, *_grads: Tensor) -> None:
    raise InputError(
        "key-only attention by Triton has no second derivative; call key_only_attention with kernel='reference', "
        "which has"
    )


torch.library.register_autograd("fewpairs::key_only_triton_forward", _differentiate, setup_context=_remember)
torch.library.register_autograd("fewpairs::key_only_triton_backward", _refuse_second)
