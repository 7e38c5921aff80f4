"""So-ViT (Xie et al., arXiv 2104.10935): a small transformer that classifies by second-order statistics of its tokens.

A convolutional stem makes the tokens. The head joins the class token with the cross-covariance of two linear maps of
the other tokens, whose singular values are flattened by a power (sections 3.2 and 4 of the paper; numbers as the
authors' first release). The published sum of two linear classifiers is one linear classifier of the joined features.
"""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from timm.models.resnet import Bottleneck, downsample_conv
from torch import Tensor, nn

from fewpairs.attention import Attention, variants_per_stage
from fewpairs.models.encoders.token_vit import Tokenizer, TokenViT, Trunk
from fewpairs.models.encoders.vit import init_linear
from fewpairs.types import Grid, Size

SO_VIT_7 = Trunk(width=256, depth=7, heads=4, mlp_ratio=2.0)
COVARIANCE = (48, 24)
"""Rows and columns of So-ViT-7's cross-covariance."""


class ConvStem(Tokenizer):
    """Convolution and pooling, three residual bottlenecks of stride 2, then a map to the tokens' width."""

    stride = 16

    def __init__(self, in_chans: int, width: int, *, planes: int = 64) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        self.conv = nn.Conv2d(in_chans, planes, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks, inside = [], planes
        for _ in range(3):
            shortcut = downsample_conv(inside, 4 * planes, kernel_size=1, stride=2)
            blocks.append(Bottleneck(inside, planes, stride=2, downsample=shortcut, norm_layer=norm))
            inside = 4 * planes
        self.blocks = nn.Sequential(*blocks)
        self.project = nn.Conv2d(inside, width, 1)

    def grid(self, size: Size) -> Grid:
        return Grid(-(-size[0] // self.stride), -(-size[1] // self.stride))

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        x = self.project(self.blocks(self.pool(self.conv(image))))
        return rearrange(x, "b c h w -> b (h w) c"), Grid(x.shape[2], x.shape[3])


class SingularPower(nn.Module):
    """Singular value power normalisation of matrices `[b r c]`, the fast form (So-ViT, section 4.2).

    Power iteration from a learned vector finds the largest singular value s and its vectors; s becomes s^power, and
    what the rest of the matrix holds is divided by s^(1 - power). Exact for a matrix of rank one.

    Args:
        columns: c, the length of the learned vector.
        power: 1/2 is the root of the singular values, as in matrix square root normalisation.
        steps: of the power iteration; the paper takes one.
    """

    def __init__(self, columns: int, *, power: float = 0.5, steps: int = 1) -> None:
        super().__init__()
        self.power, self.steps = power, steps
        self.start = nn.Parameter(torch.randn(columns))

    def forward(self, matrix: Tensor) -> Tensor:
        # No matrix products: autocast would round these small matrices to half precision.
        matrix = matrix.float()
        right = self.start.float().expand(matrix.shape[0], -1)
        for _ in range(self.steps):
            left = nn.functional.normalize((matrix * right[:, None, :]).sum(2), dim=1)
            along = (matrix * left[:, :, None]).sum(1)
            right = nn.functional.normalize(along, dim=1)
        largest = along.norm(dim=1)[:, None, None] + 1e-5
        pair = left[:, :, None] * right[:, None, :]
        return largest**self.power * pair + (matrix - largest * pair) / largest ** (1 - self.power)


class SecondOrderPool(nn.Module):
    """Normalised cross-covariance of tokens, as features: `[b n c] -> [b rows*columns]`."""

    def __init__(self, width: int, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = nn.Linear(width, rows, bias=False)
        self.columns = nn.Linear(width, columns, bias=False)
        self.normalise = SingularPower(columns)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens - tokens.mean(dim=1, keepdim=True)
        covariance = rearrange(self.rows(tokens), "b n r -> b r n") @ self.columns(tokens) / tokens.shape[1]
        return rearrange(self.normalise(covariance), "b r c -> b (r c)")


class SoViT(TokenViT):
    """The classifier, with timm's interface: `[b in_chans H W] -> [b num_classes]`.

    Args:
        attention: one variant, or one a block.
        covariance: rows and columns of the cross-covariance.
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
        covariance: tuple[int, int] = COVARIANCE,
    ) -> None:
        (blocks,) = variants_per_stage(attention, (trunk.depth,))
        self._covariance = covariance
        super().__init__(
            ConvStem(in_chans, trunk.width),
            trunk,
            blocks,
            pools=("token+covariance",),
            img_size=(img_size, img_size) if isinstance(img_size, int) else img_size,
            num_classes=num_classes,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        self.second_order = SecondOrderPool(trunk.width, *covariance).apply(init_linear)

    def head_width(self) -> int:
        return self.embed_dim + self._covariance[0] * self._covariance[1]

    def pool(self, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, 0], self.second_order(tokens[:, 1:]).to(tokens.dtype)], dim=1)
