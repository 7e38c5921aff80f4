"""What every encoder offers to decoders."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class Encoder(nn.Module):
    """`[b c H W]` with H and W multiples of the coarsest stride -> maps `[b channels[i] H/strides[i] W/strides[i]]`."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    """Pixels from one place of the map to the next, finest map first."""

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The maps, finest first; maps of one stride from the shallowest to the deepest."""

    @abstractmethod
    def layer_prefixes(self) -> list[tuple[str, ...]]:
        """How the parameters' names begin, layer by layer from the input up, for layer-wise learning rates."""

    @abstractmethod
    def no_weight_decay(self) -> set[str]:
        """Tables of positions and tokens: of more than one dimension, and yet not to be shrunk by weight decay."""
