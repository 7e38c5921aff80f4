"""Key-only attention: no query and no pairs. A saliency gate over the keys, at linear cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from einops import rearrange
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.ops import global_key_attention, key_only_attention
from fewpairs.ops.dispatch import readable
from fewpairs.ops.key_only import saliency_weights
from fewpairs.types import Grid

Form = Literal["R1", "R1c", "R2", "R3", "R3-R2"]


@dataclass(frozen=True)
class KeyOnly:
    """Key-only attention, a *reconstruction* of LinGlo's (arXiv 2207.00188), whose equations could not be had.

    There is no query projection; weights come from the keys alone, and cost is linear in the number of positions.

    Args:
        form: "R1": softmax over the positions of one learned product a head pools the values, and each position's
            sigmoid(key) lets the pooled value through. "R1c": every channel of the key is its own logit. "R2": a pooled
            *key* is held against each key, and the sigmoid of that lets the position's own value through. "R3" and
            "R3-R2": R1 and R2 with a 3 x 3 depthwise convolution of the values added.
        gate: what the sigmoid sees of a position: its "key", or the keys after a 3 x 3 depthwise convolution, "conv".

    Forms with a convolution need to know where the tokens lie (`needs_grid`); the layers of fewpairs' own models do.
    """

    form: Form = "R1"
    gate: Literal["key", "conv"] = "key"

    roles: ClassVar[str] = "kv"
    takes_bias: ClassVar[bool] = False
    keys_are_queries: ClassVar[bool] = True
    has_pairs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise InputError(f"form={self.form!r} is not known; allowed: {', '.join(map(repr, get_args(Form)))}")
        if self.gate not in ("key", "conv"):
            raise InputError(f"gate={self.gate!r} is not known; allowed: 'key', 'conv'")

    @property
    def needs_grid(self) -> bool:
        """Whether the places of the tokens must be known."""
        return self.local or self.gate == "conv"

    @property
    def local(self) -> bool:
        """Whether a convolution of the values is added."""
        return self.form.startswith("R3")

    @property
    def gates_values(self) -> bool:
        """Whether each position keeps its own value (R2), rather than taking the pooled one."""
        return self.form.endswith("R2")

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        return KeyOnlyMixing(self, heads, dim_head)

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        """Scores: saliency logits, and for R2 pooled key and agreement. Values: pooling and gate. Position: 3 x 3."""
        one = n * heads * dim_head
        convolutions = 9 * (int(self.local) + int(self.gate == "conv"))
        if self.gates_values:
            found = {"scores": 3 * one, "values": one}
        else:
            found = {"scores": 0 if self.form == "R1c" else one, "values": 2 * one}
        return found | ({"position": convolutions * one} if convolutions else {})

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        return sum(self.terms(n, m, heads, dim_head).values())


class KeyOnlyMixing(nn.Module):
    """The weights of `KeyOnly`, `[b h n d], [b h n d] -> [b h n d]`: a saliency vector a head, `[h d]`.

    And the depthwise convolutions where the form has any. At the start all positions weigh alike (saliency 0) and a
    convolution of the gate passes the keys on as they are; the local convolution of the values is drawn at random.
    """

    def __init__(self, variant: KeyOnly, heads: int, dim_head: int) -> None:
        super().__init__()
        self.variant, width = variant, heads * dim_head
        self.saliency = None if variant.form == "R1c" else nn.Parameter(torch.empty(heads, dim_head))
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width) if variant.local else None
        self.gate = nn.Conv2d(width, width, 3, padding=1, groups=width) if variant.gate == "conv" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weights anew."""
        if self.saliency is not None:
            nn.init.zeros_(self.saliency)
        if self.local is not None:
            self.local.reset_parameters()
        if self.gate is not None:
            nn.init.dirac_(self.gate.weight, groups=self.gate.groups)
            nn.init.zeros_(self.gate.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, k: Tensor, v: Tensor, *, bias: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """`bias` may only be a boolean mask of the positions that count, `[#b #h 1 n]`.

        Raises:
            InputError: a bias of another kind, or no grid where the form needs one.
        """
        mask = padding_mask(bias, self.variant)
        gate = None if self.gate is None else convolve_grid(self.gate, k, self._known(grid))
        if self.variant.gates_values:
            mixed = global_key_attention(k, v, self._logits(k), mask=mask, gate=gate)
        else:
            mixed = key_only_attention(k, v, self._logits(k), mask=mask, gate=gate)
        return mixed if self.local is None else mixed + convolve_grid(self.local, v, self._known(grid))

    def weights(self, k: Tensor, *, bias: Tensor | None = None) -> Tensor:
        """How salient each position is to each head, `[b h n]`: sums to 1 over n (R1c: the channels' mean)."""
        return saliency_weights(k, self._logits(k), mask=padding_mask(bias, self.variant))

    def gates(self, k: Tensor, *, bias: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """How far each position's gate is open to each head, `[b h n]` from 0 to 1 (R1, R1c: the channels' mean).

        Of the pooled value, or for R2 of the position's own.
        """
        seen = k if self.gate is None else convolve_grid(self.gate, k, self._known(grid))
        if not self.variant.gates_values:
            return torch.sigmoid(seen).mean(dim=-1)
        pooled = (self.weights(k, bias=bias).unsqueeze(-1) * k).sum(dim=-2, keepdim=True)
        return torch.sigmoid((seen * pooled).sum(dim=-1) * k.shape[-1] ** -0.5)

    def _logits(self, k: Tensor) -> Tensor:
        return k if self.saliency is None else self.saliency

    def _known(self, grid: Grid | None) -> Grid:
        if grid is None:
            raise InputError(
                f"{self.variant} has a 3 x 3 convolution and was not told where the tokens lie; use form='R1', 'R1c' "
                "or 'R2' with gate='key' here"
            )
        return grid


def padding_mask(bias: Tensor | None, variant: KeyOnly) -> Tensor | None:
    """A mask over pairs that is the same for every row, `[#b #h 1 n]`, as one over positions, `[#b #h n]`.

    Raises:
        InputError: it is a bias, or differs from row to row.
    """
    if bias is None:
        return None
    if bias.dtype != torch.bool or not rows_are_equal(bias):
        raise InputError(
            f"{variant} has no pairs, so it takes no bias on their scores and no mask that differs from row to row; "
            "allowed is a boolean mask of the positions that count, [b h 1 n]"
        )
    return bias[..., 0, :]


def rows_are_equal(mask: Tensor) -> bool:
    """Whether all rows of a mask over pairs are the same; while a graph is recorded, by its layout alone."""
    if mask.ndim != 4 or mask.shape[-2] == 1 or mask.stride(-2) == 0:
        return mask.ndim == 4
    return readable(mask) and bool((mask == mask[..., :1, :]).all())


def convolve_grid(convolution: nn.Conv2d, heads: Tensor, grid: Grid) -> Tensor:
    """A convolution over the places of `[b h n d]`; prefix tokens, which have none, pass as they are."""
    prefix, places = torch.split(heads, [grid.prefix, grid.h * grid.w], dim=2)
    image = convolution(rearrange(places, "b h (y x) d -> b (h d) y x", y=grid.h))
    mapped = rearrange(image, "b (h d) y x -> b h (y x) d", h=heads.shape[1])
    return torch.cat([prefix, mapped], dim=2) if grid.prefix else mapped
