"""Key-only attention: a saliency gate over the keys, without queries or pairs, at linear cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from einops import rearrange
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.ops import global_key_attention, key_only_attention
from fewpairs.ops.dispatch import names_of
from fewpairs.ops.key_only import GLOBAL_KERNELS, KERNELS, saliency_weights
from fewpairs.ops.transforms import readable
from fewpairs.types import Grid

Form = Literal["R1", "R1c", "R2", "R3", "R3-R2"]


@dataclass(frozen=True)
class KeyOnly:
    """Key-only attention, a *reconstruction* of LinGlo's (arXiv 2207.00188), whose equations were not available.

    There is no query projection. The weights depend on the keys alone; cost is linear in the number of positions.

    Args:
        form: "R1": the softmax of one learned logit per head and position pools the values, and sigmoid(key) of each
            position multiplies the pooled value. "R1c": every channel of the key is its own logit. "R2": a pooled *key*
            is multiplied with each key, and the sigmoid of the product multiplies the position's own value. "R3" and
            "R3-R2": R1 and R2 plus a 3 x 3 depthwise convolution of the values.
        gate: the input of the sigmoid: the position's "key", or the keys after a 3 x 3 depthwise convolution, "conv".

    Forms with a convolution need the token positions (`needs_grid`); the layers of fewpairs' own models pass them.
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
    def kernels(self) -> tuple[str, ...]:
        """The kernels of the form's operator."""
        return names_of(GLOBAL_KERNELS if self.gates_values else KERNELS)

    @property
    def needs_grid(self) -> bool:
        """Whether the mixing needs the positions of the tokens."""
        return self.local or self.gate == "conv"

    @property
    def local(self) -> bool:
        """Whether a convolution of the values is added."""
        return self.form.startswith("R3")

    @property
    def gates_values(self) -> bool:
        """Whether the gate multiplies each position's own value (R2) instead of the pooled value."""
        return self.form.endswith("R2")

    def build(self, heads: int, dim_head: int) -> Callable[..., Tensor]:
        return KeyOnlyMixing(self, heads, dim_head)

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        """Count saliency logits, and R2's pooled key, as scores; pooling and gate as values; 3 x 3 as position."""
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
    """Computes `KeyOnly`, `[b h n d], [b h n d] -> [b h n d]`, with a saliency vector per head, `[h d]`.

    Some forms have depthwise convolutions too. Initially all positions have equal weight (saliency 0), the convolution
    of the gate is the identity, and the local convolution of the values is random.
    """

    def __init__(self, variant: KeyOnly, heads: int, dim_head: int) -> None:
        super().__init__()
        self.variant, width = variant, heads * dim_head
        self.saliency = None if variant.form == "R1c" else nn.Parameter(torch.empty(heads, dim_head))
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width) if variant.local else None
        self.gate = nn.Conv2d(width, width, 3, padding=1, groups=width) if variant.gate == "conv" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the weights."""
        if self.saliency is not None:
            nn.init.zeros_(self.saliency)
        if self.local is not None:
            self.local.reset_parameters()
        if self.gate is not None:
            nn.init.dirac_(self.gate.weight, groups=self.gate.groups)
            nn.init.zeros_(self.gate.bias)  # type: ignore[arg-type]  # it has one

    def forward(
        self,
        k: Tensor,
        v: Tensor,
        *,
        bias: Tensor | None = None,
        grid: Grid | None = None,
        kernel: str | None = None,
    ) -> Tensor:
        """Mix the heads. `bias` may only be a boolean mask of the positions that count, `[#b #h 1 n]`.

        Raises:
            InputError: the bias is of another kind, or the form needs a grid and has none.
        """
        mask = padding_mask(bias, self.variant)
        gate = None if self.gate is None else convolve_grid(self.gate, k, self._known(grid))
        mix = global_key_attention if self.variant.gates_values else key_only_attention
        mixed = mix(k, v, self._logits(k), mask=mask, gate=gate, kernel=kernel)
        return mixed if self.local is None else mixed + convolve_grid(self.local, v, self._known(grid))

    def weights(self, k: Tensor, *, bias: Tensor | None = None) -> Tensor:
        """Return the saliency of each position in each head, `[b h n]`, summing to 1 over n (R1c: mean of channels)."""
        return saliency_weights(k, self._logits(k), mask=padding_mask(bias, self.variant))

    def gates(self, k: Tensor, *, bias: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """Return the gate of each position and head, `[b h n]` from 0 to 1 (R1, R1c: mean of channels).

        The gate multiplies the pooled value, or for R2 the position's own value.
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
                f"{self.variant} has a 3 x 3 convolution and needs the positions of the tokens (grid); use "
                "form='R1', 'R1c' or 'R2' with gate='key' here"
            )
        return grid


def padding_mask(bias: Tensor | None, variant: KeyOnly) -> Tensor | None:
    """Convert a mask over pairs with equal rows, `[#b #h 1 n]`, to a mask over positions, `[#b #h n]`.

    Raises:
        InputError: `bias` is not boolean, or its rows differ.
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
    """Whether all rows of a mask over pairs are equal; while a graph is recorded, only its strides are checked."""
    if mask.ndim != 4 or mask.shape[-2] == 1 or mask.stride(-2) == 0:
        return mask.ndim == 4
    return readable(mask) and bool((mask == mask[..., :1, :]).all())


def convolve_grid(convolution: nn.Conv2d, heads: Tensor, grid: Grid) -> Tensor:
    """Apply a convolution over the grid positions of `[b h n d]`; prefix tokens stay unchanged."""
    prefix, places = torch.split(heads, [grid.prefix, grid.h * grid.w], dim=2)
    image = convolution(rearrange(places, "b h (y x) d -> b (h d) y x", y=grid.h))
    mapped = rearrange(image, "b (h d) y x -> b h (y x) d", h=heads.shape[1])
    return torch.cat([prefix, mapped], dim=2) if grid.prefix else mapped
