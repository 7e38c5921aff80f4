"""The interface that every encoder offers to decoders."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class Encoder(nn.Module):
    """`[b c H W]` with H and W multiples of the coarsest stride -> maps `[b channels[i] H/strides[i] W/strides[i]]`."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    """Strides of the maps in pixels, finest map first."""

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps, finest first; maps of one stride go from the shallowest to the deepest."""

    @abstractmethod
    def layer_prefixes(self) -> list[tuple[str, ...]]:
        """Return prefixes of parameter names, layer by layer from the input, for layer-wise learning rates."""

    @abstractmethod
    def no_weight_decay(self) -> set[str]:
        """Return names of parameters without weight decay, such as tables of positions and tokens."""
