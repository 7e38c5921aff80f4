"""The module that computes attention inside every layer, in fewpairs' models and in swapped ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.attention.variant import Variant, check_kernel, has_pairs, logit_scale, needs_grid
from fewpairs.errors import InputError
from fewpairs.types import Grid

_FIXED = ("variant", "heads", "dim_head", "scale")
"""The attributes of a core from which its computation was built."""


class Core(nn.Module):
    """Applies a variant to the heads: it takes one `[b h n d]` for each role and returns `[b h n d]`.

    Cost counting and inspection find modules of this class; timm's `AttentionExtract` reads their `attn_drop`.

    Args:
        variant: the attention to compute.
        dropout: fraction of the attention weights dropped in training; it makes them explicit, `[b h n m]`.
        fused: whether the variant may choose its kernel; False always makes the weights explicit, as timm's
            `fused_attn=False` does.

    Raises:
        InputError: `dropout` is not 0 and the variant has no weights over pairs.
    """

    _kernel: str | None = None

    def __init__(
        self, variant: Variant, heads: int, dim_head: int, *, dropout: float = 0.0, fused: bool = True
    ) -> None:
        super().__init__()
        if dropout and not has_pairs(variant):
            raise InputError(f"dropout={dropout} of attention weights: {variant} has none over pairs; set it to 0")
        self.variant, self.heads, self.dim_head = variant, heads, dim_head
        self.scale = logit_scale(getattr(variant, "scale_by", "head"), heads, dim_head)
        """The factor by which the variant multiplies q . k."""
        self.mix: Callable[..., Tensor] = variant.build(heads, dim_head)
        self.attn_drop = nn.Dropout(dropout)
        self.fused_attn = fused

    @property
    def kernel(self) -> str | None:
        """The name of the kernel that computes; None leaves the choice to the operator. See `use_kernel`."""
        return self._kernel

    @kernel.setter
    def kernel(self, name: str | None) -> None:
        check_kernel(self.variant, name)
        self._kernel = name

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            raise InputError(
                f"core.{name} is fixed: setting it would not change what the layer computes; "
                "fewpairs.swap_attention(model, variant) puts another variant in place"
            )
        super().__setattr__(name, value)

    def exchange(self, variant: Variant, mix: Callable[..., Tensor] | None = None) -> Callable[..., Tensor]:
        """Compute another variant of the same roles, with `mix` if it was built before; return what computed so far.

        The kernel is the operator's choice again.
        """
        former = self.mix
        del self.mix
        self.kernel = None
        scale = logit_scale(getattr(variant, "scale_by", "head"), self.heads, self.dim_head)
        self.__dict__.update(variant=variant, scale=scale)
        self.mix = variant.build(self.heads, self.dim_head) if mix is None else mix
        return former

    def forward(self, *roles: Tensor, bias: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """Mix the heads. `bias` `[#b #h n m]` is added to the scores, or is a boolean mask of the pairs to keep.

        `grid` gives the positions of the tokens, for variants that need it.
        """
        if needs_grid(self.variant):
            return self._mix(*roles, bias=bias, grid=grid)
        if not has_pairs(self.variant) or (self.fused_attn and not (self.training and self.attn_drop.p > 0)):
            return self._mix(*roles, bias=bias)
        *logits, values = roles
        mixed: Tensor = self.attn_drop(self.weights(*logits, bias=bias)) @ values
        return mixed

    def weights(self, *roles: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the attention weights `[b h n m]`, computed with the identity matrix as values.

        The result is contiguous, so that dropout draws the same numbers as for explicitly written softmax attention.

        Raises:
            InputError: the variant has weights of positions, not of pairs; use `saliency`.
        """
        if not has_pairs(self.variant):
            raise InputError(f"{self.variant} has no weights of pairs; use Core.saliency for those of positions")
        keys = roles[-1]
        identity = torch.eye(keys.shape[-2], dtype=keys.dtype, device=keys.device).expand(*keys.shape[:-1], -1)
        return self._mix(*roles, identity, bias=bias).contiguous()

    def saliency(self, keys: Tensor, *, bias: Tensor | None = None) -> Tensor:
        """Return the weight of each position in each head, `[b h n]`, summing to 1 over n, for variants without pairs.

        Raises:
            InputError: the variant has weights of pairs; use `weights`.
        """
        if has_pairs(self.variant):
            raise InputError(f"{self.variant} has weights of pairs of positions, not of positions; use Core.weights")
        found: Tensor = self.mix.weights(keys, bias=bias)  # type: ignore[attr-defined]  # variants without pairs have it
        return found

    def _mix(self, *roles: Tensor, bias: Tensor | None, **terms: Any) -> Tensor:
        """Call `mix` with the terms that are there, since a variant of somebody else's need not accept the others."""
        if bias is not None:
            terms["bias"] = bias
        if self._kernel is not None:
            terms["kernel"] = self._kernel
        return self.mix(*roles, **terms)


def use_kernel(model: nn.Module, kernel: str | None) -> int:
    """Compute every `Core` inside `model` with the kernel of this name, and return how many there are.

    `"reference"` exists for every operator; None leaves the choice to the operators again.

    Raises:
        InputError: there is no `Core`, or the variant of one has no kernel of this name; then none is changed.
    """
    cores = {name: module for name, module in model.named_modules() if isinstance(module, Core)}
    if not cores:
        raise InputError(
            f"{type(model).__name__} has no attention of fewpairs whose kernel could be chosen; swap first"
        )
    for core in cores.values():
        check_kernel(core.variant, kernel)
    for core in cores.values():
        core.kernel = kernel
    return len(cores)
