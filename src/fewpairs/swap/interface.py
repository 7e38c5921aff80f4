"""Attention functions for transformers' `AttentionInterface`, which layers of a model call by name.

A registered function changes how scores become weights, and no parameters of the model. `register_transformers` uses it
for k-NN attention without a swap; the layers of a swapped model call `mix_by_core`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.attention import KNN, check_kernel
from fewpairs.errors import InputError
from fewpairs.ops import knn_attention

CORE = "fewpairs"
"""The name under which `mix_by_core` is registered."""

BY_NAME = 'fewpairs.swap.register_transformers(topk=100); model.set_attn_implementation("knn")'
"""The line that gives a model of transformers k-NN attention by name."""

AttentionOutput = tuple[Tensor, Tensor | None]
"""The result that transformers' layers expect: the mixed heads `[b n h e]`, and the weights `[b h n m]` or None."""


def register_transformers(
    topk: int | float = 0.5, *, metric: str = "dot", name: str | None = None, kernel: str | None = None
) -> tuple[str, ...]:
    """Register the attention `knn` for transformers' `attn_implementation=` and `model.set_attn_implementation`.

    The weights of the model stay, and all layers use the same `topk`; `swap_attention` can select layers, reports costs
    and returns a receipt. `output_attentions=True` returns attention maps. Registering a name again replaces its
    function, also in existing models.

    Args:
        topk: the number of keys per query, or a fraction of all keys, as in `KNN`.
        metric: "dot" or "euclidean", as in `KNN`.
        name: the name to register; None registers `knn`, and `knn100` too if `topk` is 100.
        kernel: the kernel that computes, as in `fewpairs.ops.knn_attention`.

    Returns:
        The registered names.

    Raises:
        InputError: transformers is not installed; `topk` or `metric` is out of its range; `name` is one of
            transformers' own; there is no such kernel.
    """
    variant = KNN(topk, metric)  # type: ignore[arg-type]  # KNN checks the values itself
    check_kernel(variant, kernel)
    names = ("knn", f"knn{topk}") if name is None else (name,)
    for each in names:
        _register(each, partial(mix_by_knn, variant, kernel))
    return names


def calls_interface(layer: nn.Module) -> bool:
    """Whether this is a layer of transformers whose forward pass calls a registered attention by its name."""
    code = getattr(inspect.unwrap(type(layer).forward), "__code__", None)
    ours = type(layer).__module__.startswith("transformers.")
    return ours and code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names


def register_core() -> None:
    """Register `mix_by_core` with transformers; every process that runs swapped layers needs it."""
    _register(CORE, mix_by_core)


def _register(name: str, function: Callable[..., AttentionOutput]) -> None:
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask
    except ImportError as error:
        raise InputError(
            "transformers 5 or newer is needed for its AttentionInterface, and could not be imported "
            f"({error}); pip install 'transformers>=5.23'"
        ) from error
    own = {"eager", *AttentionInterface._global_mapping} - _REGISTERED
    if name in own:
        raise InputError(f"name={name!r} belongs to transformers; choose another name, such as 'knn'")
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)
    _REGISTERED.add(name)


_REGISTERED: set[str] = set()
"""Names registered by fewpairs, which may be registered again."""


def mix_by_core(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool | None = None,
    **options: Any,
) -> AttentionOutput:
    """Mix the heads with the core of a swapped layer, which applies its own scale and dropout."""
    if not hasattr(module, "attend"):
        raise InputError(
            "this model was saved with fewpairs' attention, which it does not have now: load it with "
            "attn_implementation='sdpa', then call fewpairs.swap.load_swapped(model, folder)"
        )
    bias = scores_bias(module, query, key, attention_mask, is_causal, options)
    attend: AttentionOutput = module.attend(query, key, value, bias, maps=wants_weights(options))
    return attend


def mix_by_knn(
    variant: KNN,
    kernel: str | None,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> AttentionOutput:
    """Compute k-NN attention for any layer that calls the interface; layers pass `dropout` 0 outside training."""
    bias = scores_bias(module, query, key, attention_mask, is_causal, options)
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    choice = partial(knn_attention, topk=variant.topk, metric=variant.metric, kernel=kernel)
    mix = partial(choice, query, key, bias=bias, scale=scaling)
    if not (dropout or wants_weights(options)):
        return mix(value).transpose(1, 2).contiguous(), None
    identity = torch.eye(key.shape[-2], dtype=key.dtype, device=key.device).expand(*key.shape[:-1], -1)
    weights = nn.functional.dropout(mix(identity).contiguous(), dropout)  # dropout draws in memory order
    return (weights @ value.to(weights.dtype)).transpose(1, 2).contiguous(), weights


def wants_weights(options: dict[str, Any]) -> bool:
    """Whether the caller of the model requested attention maps.

    Some layers (SigLIP, DPT) do not pass `output_attentions` on; then transformers' collector is read, if present.
    """
    if "output_attentions" in options:
        return bool(options["output_attentions"])
    from transformers.utils import output_capturing

    collector = getattr(output_capturing, "_active_collector", None)
    return collector is not None and "attentions" in (collector.get() or ())


def scores_bias(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    is_causal: bool | None,
    options: dict[str, Any],
) -> Tensor | None:
    """Combine transformers' mask, causality and position bias into one bias or mask `[#b #h n m]`, or None.

    `options` are the other arguments that a model passes to its attention.

    Raises:
        InputError: the model needs sinks, a soft cap or a paged cache, or the shape of the mask is not supported.
    """
    for option in ("softcap", "s_aux", "cache"):
        if options.get(option) is not None:
            raise InputError(
                f"{type(module).__name__} passes {option}= to its attention, which k-NN attention does not support; "
                "use it with another attn_implementation"
            )
    n, m = query.shape[-2], key.shape[-2]
    if mask is not None:
        mask = _as_pair_mask(mask, n, m)
    elif n > 1 and (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        mask = torch.ones(1, 1, n, m, dtype=torch.bool, device=query.device).tril()
    position: Tensor | None = options.get("position_bias")
    if position is None:
        return mask
    if mask is None:
        return position
    return torch.where(mask, position, -torch.inf) if mask.dtype == torch.bool else position + mask


def _as_pair_mask(mask: Tensor, n: int, m: int) -> Tensor:
    if isinstance(mask, Tensor) and mask.dim() == 2:
        mask = mask.bool()[:, None, None, :]
    if not isinstance(mask, Tensor) or mask.dim() != 4:
        shape = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"the attention mask is {shape}; allowed: [b m] of the keys, or [b h n m] with 1 for b or h")
    if mask.is_floating_point():  # transformers writes the lowest number where nothing is to be seen
        mask = mask.masked_fill(mask <= torch.finfo(mask.dtype).min, -torch.inf)
    return mask[..., :m].expand(-1, -1, n, -1)
