"""T2T-ViT with transformers for tokens-to-token layers (Yuan et al., arXiv 2101.11986), attention as an argument.

Three soft splits cut the image, and then the map of the tokens so far, into overlapping windows; between them a
transformer layer of one head mixes the tokens. As the authors' code has it: the logits of these layers are scaled by
the width of the windows and not of the head, and the values pass by the attention, in place of tokens too wide for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from fewpairs.attention import Attention, Core, LinearProjection, Variant, variants_per_stage
from fewpairs.models.encoders.token_vit import Tokenizer, TokenViT, Trunk
from fewpairs.types import Grid, Size

T2T_VIT_T_19 = Trunk(width=448, depth=19, heads=7, mlp_ratio=3.0)
T2T_STAGES = ("first soft split", "second soft split", "backbone")
"""Stages for one variant per stage: the two layers of the tokeniser, then all blocks."""


class SoftSplit(nn.Module):
    """Overlapping square windows of a map, one token each: `[b c h w] -> [b n c*side*side]` and the tokens' grid."""

    def __init__(self, side: int, stride: int, padding: int) -> None:
        super().__init__()
        self.side, self.stride, self.padding = side, stride, padding

    def grid(self, size: Size) -> Grid:
        """Return the number of windows of a map of (h, w) positions."""
        h, w = ((places + 2 * self.padding - self.side) // self.stride + 1 for places in size)
        return Grid(h, w)

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        windows = F.unfold(image, self.side, padding=self.padding, stride=self.stride)
        return rearrange(windows, "b c n -> b n c"), self.grid((image.shape[2], image.shape[3]))


class WindowAttention(nn.Module):
    """Attention of one head from wide tokens to narrow ones, its values passing by: `[b n in_dim] -> [b n dim]`."""

    def __init__(self, in_dim: int, dim: int, variant: Variant) -> None:
        super().__init__()
        self.project = LinearProjection(dim, 1, variant.roles, bias=False, in_dim=in_dim)
        self.core = Core(variant, 1, dim)
        self.out = nn.Linear(dim, dim)
        gain = in_dim**-0.5 / self.core.scale
        self.gain = gain if "q" in variant.roles else gain**0.5
        """What queries are multiplied by (keys, where they are the queries) for logits scaled by the root of in_dim."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        first, *others = self.project(x, grid)
        mixed = self.core(first * self.gain, *others)
        return rearrange(others[-1], "b 1 n d -> b n d") + self.out(rearrange(mixed, "b 1 n d -> b n d"))


class WindowTransformer(nn.Module):
    """A tokens-to-token layer: pre-norm attention, then feed-forward of ratio 1: `[b n in_dim] -> [b n dim]`."""

    def __init__(self, in_dim: int, dim: int, variant: Variant) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.attn = WindowAttention(in_dim, dim, variant)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = self.attn(self.norm1(x), grid)
        return x + self.mlp(self.norm2(x))


class TokensToToken(Tokenizer):
    """The tokeniser: soft splits of stride 4, 2, 2, a transformer layer after the first and the second."""

    stride = 16

    def __init__(self, in_chans: int, width: int, attention: Sequence[Variant], *, token_width: int = 64) -> None:
        super().__init__()
        self.splits = nn.ModuleList([SoftSplit(7, 4, 2), SoftSplit(3, 2, 1), SoftSplit(3, 2, 1)])
        widths = (in_chans * 49, token_width * 9)
        self.layers = nn.ModuleList(
            [WindowTransformer(wide, token_width, variant) for wide, variant in zip(widths, attention, strict=True)]
        )
        self.project = nn.Linear(token_width * 9, width)

    def grid(self, size: Size) -> Grid:
        for split in self.splits:
            grid = split.grid(size)  # type: ignore[operator]  # a SoftSplit
            size = grid.h, grid.w
        return grid

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        x, grid = self.splits[0](image)
        for split, layer in zip(self.splits[1:], self.layers, strict=True):
            x, grid = split(rearrange(layer(x, grid), "b (h w) c -> b c h w", h=grid.h))
        return self.project(x), grid


class T2TViT(TokenViT):
    """The classifier, with timm's interface: `[b in_chans H W] -> [b num_classes]`.

    Args:
        attention: one variant, one a stage (`T2T_STAGES`), or one a layer: two of the tokeniser, then each block.
        token_width: width of the tokeniser's layers.
    """

    def __init__(
        self,
        trunk: Trunk,
        attention: Attention,
        *,
        img_size: int | Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        token_width: int = 64,
    ) -> None:
        first, second, blocks = variants_per_stage(attention, (1, 1, trunk.depth))
        super().__init__(
            TokensToToken(in_chans, trunk.width, first + second, token_width=token_width),
            trunk,
            blocks,
            pools=("token", "avg", ""),
            img_size=(img_size, img_size) if isinstance(img_size, int) else img_size,
            num_classes=num_classes,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )

    def head_width(self) -> int:
        return self.embed_dim

    def pool(self, tokens: Tensor) -> Tensor:
        if self.global_pool == "token":
            return tokens[:, 0]
        return tokens[:, 1:].mean(dim=1) if self.global_pool == "avg" else tokens
