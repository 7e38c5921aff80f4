"""PyTorch's own `nn.MultiheadAttention`: as in torchvision's ViT and `nn.TransformerEncoder`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fewpairs.attention import Variant
from fewpairs.errors import InputError
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.condition import unplain_parameters
from fewpairs.swap.explicit import mix_and_weights
from fewpairs.swap.module import SwappedModule, without_first


class SwappedMultihead(SwappedModule, nn.MultiheadAttention):
    """Self- or cross-attention with the arguments and results of `nn.MultiheadAttention`.

    Without queries the last two thirds of `in_proj_weight` and `in_proj_bias` become `kv_proj_weight` and
    `kv_proj_bias`, and the layer supports only self-attention.
    """

    def __init__(self, old: nn.MultiheadAttention, variant: Variant) -> None:
        super().__init__(old, variant, old.num_heads, old.head_dim)
        self.core.attn_drop = nn.Dropout(old.dropout).train(old.training)
        # nn.TransformerEncoderLayer checks this before its fast path, which calls no attention layer at all.
        self._qkv_same_embed_dim = False
        if not self.queries:
            for name in ("weight", "bias"):
                whole = self._parameters.pop(f"in_proj_{name}")
                kept = None if whole is None else without_first(whole, old.embed_dim)
                self.register_parameter(f"kv_proj_{name}", kept)
            self._parameters["q_proj_weight"] = None

    @property
    def in_proj_weight(self) -> Tensor | None:  # type: ignore[override]
        """The joint projection; `nn.TransformerEncoder` reads whether it needs a gradient."""
        return self._parameters["in_proj_weight" if self.queries else "kv_proj_weight"]

    @property
    def in_proj_bias(self) -> Tensor | None:  # type: ignore[override]
        """The bias of `in_proj_weight`."""
        return self._parameters["in_proj_bias" if self.queries else "kv_proj_bias"]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute attention as `nn.MultiheadAttention` does; tokens are `[n b c]`, `[b n c]` (`batch_first`), `[n c]`.

        Returns:
            The tokens, and the weights if `need_weights`: `[b n m]`, or `[b h n m]` without the average over heads.

        Raises:
            InputError: a mask does not fit; `is_causal` is given without `attn_mask`; the variant has no queries and
                query and key differ.
        """
        if not self.queries and query is not key:
            raise InputError(
                f"{self.core.variant} uses keys as queries, and this layer is called with different query and key, "
                "as in cross-attention; exclude it from the swap with where="
            )
        if is_causal and attn_mask is None:
            raise InputError("is_causal=True needs attn_mask, which is not given; pass the causal attn_mask")
        if query.is_nested:
            if not (query is key is value and key_padding_mask is None and attn_mask is None):
                raise InputError("nested tensors work only in self-attention without masks; pad them and pass a mask")
            return self._attend_nested(query, need_weights, average_attn_weights)
        batch, tokens = ("1", "n") if query.dim() == 2 else ("b", "b n" if self.batch_first else "n b")
        roles = [
            rearrange(F.linear(x, weight, bias), f"{tokens} (h d) -> {batch} h n d", h=self.num_heads)
            for x, weight, bias in self._projected(query, key, value)
        ]
        if key_padding_mask is not None and batch == "1":
            key_padding_mask = key_padding_mask.unsqueeze(0)
        b, _, n, _ = roles[0].shape
        bias = pair_bias(attn_mask, key_padding_mask, (b, self.num_heads, n, roles[-1].shape[2]))
        if not need_weights:
            return self._out(self.mix(*roles, bias=bias), tokens), None
        mixed, weights = mix_and_weights(self, *roles, bias=bias)
        weights = weights.mean(dim=1) if average_attn_weights else weights
        return self._out(mixed, tokens), weights.squeeze(0) if batch == "1" else weights

    def _out(self, mixed: Tensor, tokens: str) -> Tensor:
        """Join the heads and apply the output projection: `[b h n d]` -> the layout of the layer's input.

        In memory tokens precede images, as in PyTorch's layer, so that later dropout draws the same numbers.
        """
        projected: Tensor = self.out_proj(rearrange(mixed, "b h n d -> n b (h d)"))
        return rearrange(projected, f"n b c -> {tokens} c" if "b" in tokens else "n 1 c -> n c")

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Return the tokens, weight and bias of each role."""
        tokens = [query, key, value] if self.queries else [key, value]
        packed, bias = self.in_proj_weight, self.in_proj_bias
        apart = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight][-len(tokens) :]
        weights = apart if packed is None else packed.chunk(len(tokens))
        biases = [None] * len(tokens) if bias is None else bias.chunk(len(tokens))
        return list(zip(tokens, weights, biases, strict=True))

    def _attend_nested(self, x: Tensor, need_weights: bool, average: bool) -> tuple[Tensor, Tensor | None]:
        """Compute self-attention of a nested tensor, which `nn.TransformerEncoder` creates from padded input."""
        lengths = [len(image) for image in x.unbind()]
        padded = torch.nested.to_padded_tensor(x, 0.0)
        padding = torch.arange(padded.shape[1], device=x.device) >= torch.tensor(lengths, device=x.device)[:, None]
        mixed, weights = self(padded, padded, padded, padding, need_weights, average_attn_weights=average)
        return torch.nested.as_nested_tensor([image[:n] for image, n in zip(mixed, lengths, strict=True)]), weights


def pair_bias(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, shape: tuple[int, int, int, int]
) -> Tensor | None:
    """Combine PyTorch's two masks into one bias or mask over pairs, `[#b #h n m]`, in which True keeps a pair.

    Args:
        attn_mask: `[n m]` or `[b*h n m]`, True for pairs to ignore, or numbers to add.
        key_padding_mask: `[b m]`, True for keys to ignore, or numbers to add.
        shape: b, h, n, m.

    Raises:
        InputError: a mask has another shape, or is neither boolean nor of floats.
    """
    b, h, n, m = shape
    masks = []
    if attn_mask is not None:
        _check_mask("attn_mask", attn_mask, ((n, m), (b * h, n, m)), "[n m] or [b*h n m]")
        masks.append(
            rearrange(attn_mask, "(b h) n m -> b h n m", h=h) if attn_mask.dim() == 3 else attn_mask[None, None]
        )
    if key_padding_mask is not None:
        _check_mask("key_padding_mask", key_padding_mask, ((b, m),), "[b m]")
        masks.append(key_padding_mask[:, None, None, :].expand(-1, -1, n, -1))
    if not masks:
        return None
    if key_padding_mask is not None and attn_mask is None and key_padding_mask.dtype == torch.bool:
        return (~key_padding_mask)[:, None, None, :].expand(-1, -1, n, -1)  # one row, whatever reads it
    if all(mask.dtype == torch.bool for mask in masks):
        return ~masks[0] if len(masks) == 1 else ~(masks[0] | masks[1])
    return sum(_numbers(mask) for mask in masks)  # type: ignore[return-value]  # there is one at least


def _check_mask(name: str, mask: Tensor, shapes: tuple[tuple[int, ...], ...], allowed: str) -> None:
    if tuple(mask.shape) not in shapes:
        known = " or ".join(str(list(shape)) for shape in shapes)
        raise InputError(f"{name} has the shape {list(mask.shape)}; allowed: {allowed}, here {known}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise InputError(f"{name} has the dtype {mask.dtype}; allowed: bool, True for what to ignore, or floats")


def _numbers(mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill(mask, -torch.inf)


@dataclass(frozen=True)
class MultiheadAdapter(Adapter):
    """An adapter that refuses layers with an extra learned key and value, or with an extra key of zeros."""

    def refuse(self, layer: nn.Module, variant: Variant) -> str | None:
        if layer.bias_k is not None:
            return "add_bias_kv adds a learned key and value, which no variant supports"
        if layer.add_zero_attn:
            return "add_zero_attn adds a key and value of zeros, which no variant supports"
        return super().refuse(layer, variant)


def _heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.head_dim


def _apart(layer: Any) -> str | None:
    if layer.kdim == layer.embed_dim:
        return None
    return f"keys come from {layer.kdim} features and queries from {layer.embed_dim}, as in cross-attention"


ADAPTERS = (
    MultiheadAdapter(
        family="nn.MultiheadAttention",
        matches=("torch.nn.modules.activation.MultiheadAttention",),
        heads=_heads,
        build=SwappedMultihead,
        strided=_apart,
        queries=unplain_parameters,
        renames={"in_proj_weight": "kv_proj_weight", "in_proj_bias": "kv_proj_bias"},
    ),
)
