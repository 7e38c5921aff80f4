"""Key-value attention: keys attend to keys; there is no query projection."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fewpairs.attention.variant import ScaleBy, check_scale, logit_scale, pair_terms
from fewpairs.errors import InputError
from fewpairs.ops import kv_attention
from fewpairs.ops.dispatch import names_of
from fewpairs.ops.kv import KERNELS


@dataclass(frozen=True)
class KV:
    """Keys attend to keys (Key-Value Transformer, arXiv 2305.19129): symmetric logits, no query weights.

    `scale_by="width"` divides the logits by the root of the full width, as the published vision model does. The
    published method has no bias on the scores; a model that adds one makes the logits asymmetric.
    """

    scale_by: ScaleBy = "head"

    roles: ClassVar[str] = "kv"
    takes_bias: ClassVar[bool] = True
    keys_are_queries: ClassVar[bool] = True
    kernels: ClassVar[tuple[str, ...]] = names_of(KERNELS)

    def __post_init__(self) -> None:
        check_scale(self.scale_by)

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        return partial(kv_attention, scale=logit_scale(self.scale_by, heads, dim_head))

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        return pair_terms(n, m, heads, dim_head)

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        return sum(self.terms(n, m, heads, dim_head).values())


@dataclass(frozen=True)
class KVPos:
    """KV+Pos: key-value attention with a position term that breaks the symmetry (arXiv 2305.19129).

    The published layer adds a 2-D sinusoid over the (row, column) *index of the attention matrix*, `d_pos` channels
    wide, to every logit and mixes the channels by one linear map that all heads share. Its row channels and its bias
    cancel in the softmax; there remain a logit gain, the sum of the map's weights, and a bias for each key,
    computed here without the `[b h n m d_pos]` tensor.

    Args:
        d_pos: channels of the sinusoid (the paper used 10 to 50).
        init: "kv" starts as plain KV (gain 1, no bias); "random" draws the map as PyTorch draws a linear layer, as
            the published code does: the gain then has mean 0 and may be negative.
        scale_by: see `KV`.
    """

    d_pos: int = 10
    init: Literal["kv", "random"] = "kv"
    scale_by: ScaleBy = "head"

    roles: ClassVar[str] = "kv"
    takes_bias: ClassVar[bool] = True
    keys_are_queries: ClassVar[bool] = True
    kernels: ClassVar[tuple[str, ...]] = names_of(KERNELS)

    def __post_init__(self) -> None:
        check_scale(self.scale_by)
        if self.d_pos < 3:
            raise InputError(f"d_pos={self.d_pos} leaves no channel for the position of the keys; allowed: 3 or more")
        if self.init not in ("kv", "random"):
            raise InputError(f"init={self.init!r} is not known; allowed: 'kv', 'random'")

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        return KVPosMixing(self, logit_scale(self.scale_by, heads, dim_head))

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        return {**pair_terms(n, m, heads, dim_head), "position": m * (self.d_pos - row_channels(self.d_pos))}

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        return sum(self.terms(n, m, heads, dim_head).values())


def row_channels(d_pos: int) -> int:
    """Return how many of the sinusoid's `d_pos` channels encode the row of the attention matrix, not the column."""
    return 2 * math.ceil(d_pos / 4)


def index_sinusoid(length: int, channels: int, out: int, device: torch.device) -> Float[Tensor, "length out"]:
    """Return interleaved sin, cos of index / 10000^(2i/channels) as float32, cut to the first `out` channels."""
    rate = 10000.0 ** (-torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :out]


class KVPosMixing(nn.Module):
    """Computes `KVPos` with one map of `d_pos` channels, shared by all heads: `[b h n d], [b h n e] -> [b h n e]`.

    The published map's bias is omitted: it cancels in the softmax and never gets a gradient.
    """

    def __init__(self, variant: KVPos, scale: float) -> None:
        super().__init__()
        self.variant, self.scale, self.rows = variant, scale, row_channels(variant.d_pos)
        self.weight = nn.Parameter(torch.empty(variant.d_pos))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the map as `KVPos.init` says."""
        with torch.no_grad():
            if self.variant.init == "random":
                self.weight.uniform_(-(self.variant.d_pos**-0.5), self.variant.d_pos**-0.5)
            else:
                self.weight.zero_()
                self.weight[: self.rows] = 1 / self.rows

    def forward(
        self,
        k: Float[Tensor, "b h n d"],
        v: Float[Tensor, "b h n e"],
        *,
        bias: Tensor | None = None,
        kernel: str | None = None,
    ) -> Float[Tensor, "b h n e"]:
        """Mix the heads; `bias` and `kernel` are as in `fewpairs.ops.kv_attention`."""
        columns = self.variant.d_pos - self.rows
        position = index_sinusoid(k.shape[-2], self.rows, columns, k.device).to(self.weight.dtype)
        # Not a matrix product: autocast would round the position table to half precision.
        key_bias = (position * self.weight[self.rows :]).sum(-1)
        gain = self.weight.sum()
        return kv_attention(k, v, gain=gain, key_bias=key_bias, bias=bias, scale=self.scale, kernel=kernel)
