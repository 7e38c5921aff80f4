"""The LinGlo skeleton as data: the blocks of each stage, their widths and the shape of a convolution block.

A **reconstruction**: the paper (Li and Liu, arXiv 2207.00188) says that convolution and attention alternate in every
stage, and names three sizes; its table of layers could not be had. Widths and heads are PVTv2's (arXiv 2106.13797),
depths are chosen so that parameters round to the 3.4, 13.1 and 25.4 M on record; see `docs/linglo.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fewpairs.errors import InputError, nearest


@dataclass(frozen=True, slots=True)
class MBConvShape:
    """An inverted residual (arXiv 1801.04381): 1x1, depthwise and 1x1 convolution, batch norm after each.

    Args:
        expand: width of the depthwise convolution, in widths of the block.
        squeeze: share of the expanded width that squeeze-and-excitation (arXiv 1709.01507) has inside; None for none.
        kernel: side of the depthwise convolution, odd.
    """

    expand: float = 1.0
    squeeze: float | None = None
    kernel: int = 3

    def __post_init__(self) -> None:
        if self.expand <= 0:
            raise InputError(f"expand={self.expand} of the convolution blocks must be above 0, such as 1 or 4")
        if self.squeeze is not None and not 0 < self.squeeze <= 1:
            raise InputError(
                f"squeeze={self.squeeze} of the convolution blocks must be a share above 0 and up to 1, such as 0.25, "
                "or None for no squeeze-and-excitation"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"kernel={self.kernel} of the convolution blocks must be odd, or maps would shift")


@dataclass(frozen=True, slots=True)
class LinGloStage:
    """One stage: width, heads, its blocks ("C" convolution, "A" attention), then kernel and stride of its embedding.

    `reduction` is PVTv2's: keys and values are taken from a map so many times coarser, in each direction.
    """

    width: int
    heads: int
    blocks: str
    kernel: int = 3
    stride: int = 2
    reduction: int = 1

    def __post_init__(self) -> None:
        if not self.blocks or set(self.blocks) - {"C", "A"}:
            raise InputError(
                f"blocks={self.blocks!r} of a stage must be one or more letters C (convolution) or A (attention), "
                "such as 'CACA'"
            )
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise InputError(f"heads={self.heads} must divide the width={self.width} of the stage")
        if self.stride < 1 or self.kernel < self.stride or self.kernel % 2 == 0:
            raise InputError(
                f"kernel={self.kernel} and stride={self.stride} of an embedding: the kernel must be odd and no smaller "
                "than the stride, or pixels would be passed over"
            )
        if self.reduction < 1:
            raise InputError(f"reduction={self.reduction} of the keys must be 1 (none) or more")

    @property
    def attention_blocks(self) -> int:
        return self.blocks.count("A")


@dataclass(frozen=True, slots=True)
class LinGloLayout:
    """Stages from fine to coarse, the feed-forward ratio of all blocks and the shape of the convolution blocks."""

    stages: tuple[LinGloStage, ...]
    mlp_ratio: float = 4.0
    conv: MBConvShape = field(default_factory=MBConvShape)

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("a LinGlo layout has no stages; give one or more")
        if any(int(stage.width * self.mlp_ratio) < 1 for stage in self.stages):
            raise InputError(f"mlp_ratio={self.mlp_ratio} leaves the feed-forward part no width; give 1 or more")

    def parameters(self, *, in_chans: int = 3, num_classes: int = 1000) -> int:
        """Return the number of parameters in closed form, for attention R1 without squeeze and reduction.

        Raises:
            InputError: the layout has squeeze or reduction.
        """
        if self.conv.squeeze is not None or any(stage.reduction != 1 for stage in self.stages):
            raise InputError("the closed form has no squeeze-and-excitation and no reduction; count the model itself")
        total, channels = 0, in_chans
        for stage in self.stages:
            d, inner, hidden = stage.width, int(stage.width * self.conv.expand), int(stage.width * self.mlp_ratio)
            total += channels * d * stage.kernel**2 + d + 2 * (2 * d)
            feed_forward = 2 * d + 2 * d * hidden + hidden + d
            attention = 2 * d + 3 * (d * d + d) + d
            convolution = 2 * d * inner + self.conv.kernel**2 * inner + 2 * (2 * inner + d)
            total += len(stage.blocks) * feed_forward
            total += stage.attention_blocks * attention + stage.blocks.count("C") * convolution
            channels = d
        return total + (channels * num_classes + num_classes if num_classes else 0)


def _alternating(depths: Sequence[int]) -> list[str]:
    return [("CA" * depth)[:depth] for depth in depths]


def _grafted(depths: Sequence[int]) -> list[str]:
    first = len(depths) // 2
    return ["C" * depth if index < first else "A" * depth for index, depth in enumerate(depths)]


ARRANGEMENTS: dict[str, Callable[[Sequence[int]], list[str]]] = {
    "alternating": _alternating,
    "grafted": _grafted,
    "attention": lambda depths: ["A" * depth for depth in depths],
    "convolution": lambda depths: ["C" * depth for depth in depths],
}
"""Blocks of each stage from the depths: convolution and attention by turns; convolution in the first half of the stages
and attention in the others (C-C-A-A); one of the two alone."""


def arrange(
    base: LinGloLayout,
    layout: str | LinGloLayout = "alternating",
    *,
    mlp_ratio: float | None = None,
    expand: float | None = None,
    squeeze: float | None = None,
    reduction: bool | Sequence[int] = False,
) -> LinGloLayout:
    """Return a layout with some settings changed.

    Args:
        layout: a name in `ARRANGEMENTS`, the blocks of each stage joined by hyphens (`"CA-CACA-AAAA-AA"`), or a layout
            that replaces `base`.
        mlp_ratio, expand, squeeze: see `LinGloLayout` and `MBConvShape`; those of `base` when None.
        reduction: PVTv2's in each stage, or True for its own: 8, 4, 2 and 1 in four stages. Only for attention whose
            keys may have a stride.

    Raises:
        InputError: a name is unknown, or a value is out of range.
    """
    if isinstance(layout, LinGloLayout):
        base = layout
    else:
        rows = _blocks(layout, base)
        stages = tuple(replace(stage, blocks=row) for stage, row in zip(base.stages, rows, strict=True))
        base = replace(base, stages=stages)
    ratios = _ratios(reduction, len(base.stages))
    if ratios is not None:
        stages = tuple(replace(stage, reduction=ratio) for stage, ratio in zip(base.stages, ratios, strict=True))
        base = replace(base, stages=stages)
    conv = replace(
        base.conv,
        expand=base.conv.expand if expand is None else expand,
        squeeze=base.conv.squeeze if squeeze is None else squeeze,
    )
    return replace(base, conv=conv, mlp_ratio=base.mlp_ratio if mlp_ratio is None else mlp_ratio)


def _blocks(layout: str, base: LinGloLayout) -> list[str]:
    depths = [len(stage.blocks) for stage in base.stages]
    if layout in ARRANGEMENTS:
        return ARRANGEMENTS[layout](depths)
    rows = layout.split("-")
    if not layout or set(layout) - set("CA-"):
        raise InputError(
            f"layout={layout!r} is not known; {nearest(layout, ARRANGEMENTS)}; or the blocks of each stage, such as "
            f"{'-'.join(_alternating(depths))}"
        )
    if len(rows) != len(depths):
        raise InputError(f"layout={layout!r} names {len(rows)} stages, and the model has {len(depths)}")
    return rows


def _ratios(reduction: bool | Sequence[int], count: int) -> list[int] | None:
    if reduction is True:
        return [2 ** (count - 1 - index) for index in range(count)]
    if reduction is False:
        return None
    if isinstance(reduction, (str, int)) or len(reduction) != count:
        raise InputError(f"reduction={reduction!r} must be true, false, or {count} whole numbers, one a stage")
    return list(reduction)


def _four(widths: Sequence[int], heads: Sequence[int], depths: Sequence[int]) -> LinGloLayout:
    """PVTv2's embeddings: 7x7 at stride 4, then 3x3 at stride 2."""
    shapes = ((7, 4), (3, 2), (3, 2), (3, 2))
    rows = zip(widths, heads, _alternating(depths), shapes, strict=True)
    return LinGloLayout(tuple(LinGloStage(width, h, blocks, *shape) for width, h, blocks, shape in rows))


LINGLO_B0 = _four((32, 64, 160, 256), (1, 2, 5, 8), (2, 4, 4, 2))
LINGLO_B1 = _four((64, 128, 320, 512), (1, 2, 5, 8), (2, 4, 4, 2))
LINGLO_B2 = _four((64, 128, 320, 512), (1, 2, 5, 8), (2, 6, 10, 4))
LINGLO_NANO = replace(_four((16, 32, 64, 128), (1, 2, 4, 8), (2, 2, 4, 2)), conv=MBConvShape(expand=1.5))
"""For pictures of about 100 pixels on a CPU. Its blocks of both kinds have nearly the same number of parameters."""
LINGLO_PICO = LinGloLayout(
    (LinGloStage(24, 1, "CA"), LinGloStage(48, 3, "CACA")), mlp_ratio=3.0, conv=MBConvShape(expand=1.5)
)
"""For 28x28 pixels. Its blocks of both kinds have nearly the same number of parameters."""
