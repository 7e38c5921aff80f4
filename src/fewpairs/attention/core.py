"""Where heads are mixed: the one place of a model in which attention happens, whoever built the model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fewpairs.attention.variant import Variant, has_pairs, logit_scale, needs_grid
from fewpairs.errors import InputError
from fewpairs.types import Grid


class Core(nn.Module):
    """The mixing of heads by a variant: one `[b h n d]` for each of its roles in, `[b h n d]` out.

    Cost counting and inspection look at the modules of this class, and timm's `AttentionExtract` at their `attn_drop`.

    Args:
        variant: how heads are mixed.
        dropout: share of the attention weights dropped in training; then the weights are made explicit, `[b h n m]`.
        fused: whether the variant may choose its kernel; False makes the weights explicit always, as timm's
            `fused_attn=False` does.

    Raises:
        InputError: weights are to be dropped, and the variant has none over pairs.
    """

    def __init__(
        self, variant: Variant, heads: int, dim_head: int, *, dropout: float = 0.0, fused: bool = True
    ) -> None:
        super().__init__()
        if dropout and not has_pairs(variant):
            raise InputError(f"dropout={dropout} of attention weights: {variant} has none over pairs; set it to 0")
        self.variant, self.heads, self.dim_head = variant, heads, dim_head
        self.scale = logit_scale(getattr(variant, "scale_by", "head"), heads, dim_head)
        """The factor of q . k that the variant applies."""
        self.mix: Callable[..., Tensor] = variant.build(heads, dim_head)
        self.attn_drop = nn.Dropout(dropout)
        self.fused_attn = fused

    def forward(self, *roles: Tensor, bias: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """`bias` is added to the scores, `[#b #h n m]`, or a boolean mask of the pairs that stay.

        `grid` says where the tokens lie, for variants that need it.
        """
        if needs_grid(self.variant):
            return self.mix(*roles, bias=bias, grid=grid)
        if not has_pairs(self.variant) or (self.fused_attn and not (self.training and self.attn_drop.p > 0)):
            return self.mix(*roles) if bias is None else self.mix(*roles, bias=bias)
        *logits, values = roles
        mixed: Tensor = self.attn_drop(self.weights(*logits, bias=bias)) @ values
        return mixed

    def weights(self, *roles: Tensor, bias: Tensor | None = None) -> Tensor:
        """The attention weights `[b h n m]` of the roles without the values: what values of the identity become.

        In this order in memory too, in which dropout draws, so that it draws as it does for softmax written out.

        Raises:
            InputError: the variant weighs positions, not pairs; `saliency` has its weights.
        """
        if not has_pairs(self.variant):
            raise InputError(f"{self.variant} has no weights of pairs; what its positions weigh is Core.saliency")
        keys = roles[-1]
        identity = torch.eye(keys.shape[-2], dtype=keys.dtype, device=keys.device).expand(*keys.shape[:-1], -1)
        weights = self.mix(*roles, identity) if bias is None else self.mix(*roles, identity, bias=bias)
        return weights.contiguous()

    def saliency(self, keys: Tensor, *, bias: Tensor | None = None) -> Tensor:
        """What each position weighs in each head, `[b h n]`, summing to 1 over n, for variants without pairs.

        Raises:
            InputError: the variant weighs pairs; `weights` has them.
        """
        if has_pairs(self.variant):
            raise InputError(f"{self.variant} weighs pairs of positions, not positions; use Core.weights")
        found: Tensor = self.mix.weights(keys, bias=bias)  # type: ignore[attr-defined]  # variants without pairs have it
        return found
