"""Segmenter: an encoder and a decoder, with logits at the image's height and width."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, overload

from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.models.decoders import AuxiliaryHead
from fewpairs.models.encoders import Encoder
from fewpairs.models.padding import pad_to_multiple, resize_and_crop
from fewpairs.types import Size


class Segmenter(nn.Module):
    """`[b c H W] -> logits [b k H W]` for any height and width from one pixel on.

    The image is padded below and to the right, by repeating its edge, to whole patches; the logits are cropped back.

    Args:
        encoder: image -> maps.
        decoder: maps, finest first -> logits at any stride.
        in_channels, out_channels: channels of the image and of the logits.
        aux_heads: heads for deep supervision; each turns the encoder's maps into logits.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        *,
        in_channels: int,
        out_channels: int,
        aux_heads: Iterable[AuxiliaryHead] = (),
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.aux_heads = nn.ModuleList(aux_heads)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = max(encoder.strides)

    @overload
    def forward(self, image: Tensor, *, auxiliary: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, image: Tensor, *, auxiliary: Literal[True]) -> dict[str, Tensor | list[Tensor]]: ...
    def forward(self, image: Tensor, *, auxiliary: bool = False) -> Tensor | dict[str, Tensor | list[Tensor]]:
        """Return logits `[b k H W]`; with `auxiliary` `{"out": logits, "aux": [logits of each auxiliary head]}`.

        Raises:
            InputError: the image is not `[b in_channels H W]`.
        """
        size = self._checked_size(image)
        features = self.encoder(pad_to_multiple(image, self.stride))
        out = resize_and_crop(self.decoder(features), size, self.stride)
        if not auxiliary:
            return out
        return {"out": out, "aux": [resize_and_crop(head(features), size, self.stride) for head in self.aux_heads]}

    def _checked_size(self, image: Tensor) -> Size:
        if image.ndim != 4 or image.shape[1] != self.in_channels or 0 in image.shape[2:]:
            raise InputError(
                f"the model takes images [b c H W] with c={self.in_channels} channels; got {list(image.shape)}. The "
                "number of channels is set by in_channels when the model is made"
            )
        return image.shape[2], image.shape[3]

    def layer_groups(self) -> list[list[str]]:
        """Return names of all parameters by layer, from input to output: embedding, blocks, ..., decoder and heads."""
        left = [name for name, _ in self.named_parameters()]
        groups = []
        for prefixes in self.encoder.layer_prefixes():
            starts = tuple(f"encoder.{prefix}" for prefix in prefixes)
            groups.append([name for name in left if name.startswith(starts)])
            left = [name for name in left if not name.startswith(starts)]
        return [*filter(None, groups), left]

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters with more than one dimension that have no weight decay."""
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()}
