"""Key-value attention on GPUs: Triton kernels as PyTorch operators, in memory linear in n.

The forward pass keeps one number a row and, in half precision, what the output lost when it was rounded: where a key
attends to little but itself, as it does here, its gradient is a small difference of `dY . Y` and `dY . v`. The backward
pass (`gpu_backward`) uses that logits without biases are
symmetric: each block of K K^T is made once, for its rows and for its columns. Triton is imported when the first kernel
runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.gpu.refusal import refuse_arguments


def refuse_triton(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> str | None:
    """Why the GPU kernels cannot run these arguments, or None."""
    if not k.shape[2]:
        return "there are no keys"
    if any(term is not None and term.device != k.device for term in (gain, key_bias, bias)):
        return "gain and biases must be on the device of the keys"
    return refuse_arguments((k, v), (k.shape[3], v.shape[3]))


def run_triton(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> Tensor:
    """`[b h n d], [b h n e] -> [b h n e]`; once differentiable. Keys and values in autocast's dtype where it is on."""
    device = k.device.type
    if not k.is_meta and torch.is_autocast_enabled(device):
        k, v = k.to(torch.get_autocast_dtype(device)), v.to(torch.get_autocast_dtype(device))
    out: Tensor = torch.ops.fewpairs.kv_triton_forward(k, v, gain, key_bias, bias, float(scale))[0]
    return out


def _forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from fewpairs.ops.kv import gpu_launch

    return gpu_launch.forward(*arguments)


def _backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    from fewpairs.ops.kv import gpu_launch

    return gpu_launch.backward(*arguments)


torch.library.define(
    "fewpairs::kv_triton_forward",
    "(Tensor k, Tensor v, Tensor? gain, Tensor? key_bias, Tensor? bias, float scale) -> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "fewpairs::kv_triton_backward",
    "(Tensor grad, Tensor k, Tensor v, Tensor? gain, Tensor? key_bias, Tensor? bias, Tensor out, Tensor log_sum,"
    " Tensor rest, float scale, bool bias_learns) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("fewpairs::kv_triton_forward", "default", _forward)
torch.library.impl("fewpairs::kv_triton_backward", "default", _backward)


@torch.library.register_fake("fewpairs::kv_triton_forward")
def empty_results(k: Tensor, v: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the output `[b h n e]`, the logarithm of each row's softmax sum `[b h n]`, and what rounding took.

    The last is as the output, or of no elements in float32.
    """
    rest = v.new_empty(0 if v.dtype == torch.float32 else v.shape)
    return v.new_empty(v.shape), k.new_empty(k.shape[:3], dtype=torch.float32), rest


@torch.library.register_fake("fewpairs::kv_triton_backward")
def empty_gradients(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    gain: Tensor | None,
    key_bias: Tensor | None,
    bias: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Room for the gradients of keys, values, gain, key bias and bias; of no elements where there is none."""
    nothing = (0,)
    return (
        k.new_empty(k.shape),
        v.new_empty(v.shape),
        k.new_empty(nothing) if gain is None else gain.new_empty(gain.shape),
        k.new_empty(nothing) if key_bias is None else key_bias.new_empty(key_bias.shape),
        bias.new_empty(bias.shape) if bias is not None and options[-1] else k.new_empty(nothing),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.scale = scale


def _differentiate(ctx: Any, grad: Tensor, *_unused: Tensor | None) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.fewpairs.kv_triton_backward(grad, *ctx.saved_tensors, ctx.scale, ctx.needs_input_grad[4])
    wanted = zip(gradients, ctx.needs_input_grad[:5], strict=True)
    return (*(each if needed else None for each, needed in wanted), None)


def _refuse_second(_ctx: Any, *_grads: Tensor) -> None:
    raise InputError(
        "key-value attention by Triton has no second derivative; call kv_attention with kernel='reference', which has"
    )


torch.library.register_autograd("fewpairs::kv_triton_forward", _differentiate, setup_context=_remember)
torch.library.register_autograd("fewpairs::kv_triton_backward", _refuse_second)
