"""A timm vision transformer whose blocks mix their heads as a variant says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from timm.layers import trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fewpairs.attention import Attention, MultiHead, variants_per_stage
from fewpairs.errors import InputError
from fewpairs.models.encoders.base import Encoder
from fewpairs.models.traced_size import hold_traced_size
from fewpairs.types import Grid, Size


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a plain vision transformer. A class token is only needed to match pretrained features exactly."""

    width: int
    depth: int
    heads: int
    patch: int = 16
    mlp_ratio: float = 4.0
    class_token: bool = False


class PatchGrid:
    """Keep the patch grid of the current image for the attention layers of one model.

    timm's blocks pass only tokens, whose number does not determine height and width.
    """

    def __init__(self, prefix: int) -> None:
        self.grid = Grid(0, 0, prefix)

    def note(self, _module: nn.Module, _inputs: tuple[Tensor, ...], patches: Tensor) -> None:
        """Forward hook of the patch embedding, whose output is `[b h w c]`."""
        self.grid = Grid(patches.shape[1], patches.shape[2], self.grid.prefix)


class BlockAttention(nn.Module):
    """`MultiHead` as the attention of a timm block: `[b n c] -> [b n c]`."""

    def __init__(self, attention: MultiHead, place: PatchGrid) -> None:
        super().__init__()
        self.attention, self.place = attention, place

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise InputError(
                f"{self.attention.variant} in a timm block cannot apply a mask; call the model without attn_mask and "
                "is_causal"
            )
        grid = self.place.grid
        if x.shape[1] != grid.tokens:
            raise InputError(
                f"the block got {x.shape[1]} tokens, but the image was cut into {grid.h} x {grid.w} patches with "
                f"{grid.prefix} prefix tokens; call the whole model, and without patch dropout"
            )
        return self.attention(x, grid)


def build_vit(
    config: ViTConfig,
    attention: Attention,
    *,
    image_size: Size,
    in_channels: int = 3,
    classes: int = 0,
    drop_path: float = 0.0,
) -> VisionTransformer:
    """Build a timm `VisionTransformer` for any image size, with `attention` in every block, or one variant a block.

    `image_size` (h, w) in pixels sets the size of the learned position table (rounded up to whole patches); other sizes
    interpolate it. `classes=0` gives no classification head.

    Raises:
        InputError: the number of variants is not the number of blocks.
    """
    (variants,) = variants_per_stage(attention, (config.depth,))
    vit = VisionTransformer(
        img_size=(-(-image_size[0] // config.patch) * config.patch, -(-image_size[1] // config.patch) * config.patch),
        patch_size=config.patch,
        in_chans=in_channels,
        num_classes=classes,
        global_pool="token" if config.class_token else "avg",
        fc_norm=False,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        qkv_bias=True,
        class_token=config.class_token,
        dynamic_img_size=True,
        drop_path_rate=drop_path,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    place = PatchGrid(vit.num_prefix_tokens)
    hold_traced_size(vit.patch_embed)
    vit.patch_embed.register_forward_hook(place.note)
    for block, variant in zip(vit.blocks, variants, strict=True):
        mixed = MultiHead(config.width, config.heads, variant)
        mixed.apply(init_linear)
        block.attn = BlockAttention(mixed, place)
    return vit


def init_linear(module: nn.Module) -> None:
    """Initialise a linear map as timm's transformers do; to be passed to `apply`."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ViTEncoder(Encoder):
    """Maps from chosen blocks of a vision transformer, all at the stride of its patches; no norm after the last.

    Args:
        vit: from `build_vit`. Blocks after the last tap, the final norm and the head are removed.
        taps: indices of the blocks, from 0, rising.

    Raises:
        InputError: the taps are empty, out of range or not rising.
    """

    def __init__(self, vit: VisionTransformer, taps: Sequence[int]) -> None:
        super().__init__()
        depth = len(vit.blocks)
        if not taps or list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= depth:
            raise InputError(f"taps={tuple(taps)} must be rising block indices from 0 to {depth - 1}")
        vit.prune_intermediate_layers(list(taps), prune_norm=True, prune_head=True)
        self.vit, self.taps = vit, tuple(taps)
        self.channels = (vit.embed_dim,) * len(self.taps)
        self.strides = (vit.patch_embed.patch_size[0],) * len(self.taps)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.vit.forward_intermediates(image, indices=list(self.taps), intermediates_only=True))

    def layer_prefixes(self) -> list[tuple[str, ...]]:
        embedding = ("vit.patch_embed.", "vit.pos_embed", "vit.cls_token")
        return [embedding, *((f"vit.blocks.{i}.",) for i in range(len(self.vit.blocks)))]

    def no_weight_decay(self) -> set[str]:
        return {f"vit.{name}" for name, _ in self.vit.named_parameters() if name in self.vit.no_weight_decay()}
