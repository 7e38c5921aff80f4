"""CvT as an encoder for decoders."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fewpairs.attention import Attention
from fewpairs.models.encoders.base import Encoder
from fewpairs.models.encoders.cvt import CvT, CvTStage


class CvTEncoder(Encoder):
    """The maps of every stage for decoders: no class token, no final norm, no head.

    Keys and values keep every position (stride 1) for every variant, so that softmax and key-value models differ in
    nothing but attention.
    """

    def __init__(
        self, stages: Sequence[CvTStage], attention: Attention, *, in_channels: int = 3, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.cvt = CvT(
            stages,
            attention,
            stride_kv=1,
            class_token=False,
            in_chans=in_channels,
            num_classes=0,
            drop_path_rate=drop_path,
        )
        self.cvt.prune_intermediate_layers(len(stages), prune_norm=True)
        self.depths = [stage.depth for stage in stages]
        self.channels = tuple(info["num_chs"] for info in self.cvt.feature_info)
        self.strides = tuple(info["reduction"] for info in self.cvt.feature_info)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.cvt.forward_intermediates(image, intermediates_only=True))

    def layer_prefixes(self) -> list[tuple[str, ...]]:
        layers: list[tuple[str, ...]] = []
        for i, depth in enumerate(self.depths):
            layers.append((f"cvt.stages.{i}.embed.",))
            layers.extend((f"cvt.stages.{i}.blocks.{j}.",) for j in range(depth))
        return layers

    def no_weight_decay(self) -> set[str]:
        return set()
