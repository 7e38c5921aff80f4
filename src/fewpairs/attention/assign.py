"""Which block of a model gets which variant: one for all, one for each stage, or one for each block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from fewpairs.attention.variant import Variant
from fewpairs.errors import InputError

Attention: TypeAlias = Variant | Sequence[Variant]
"""One variant for a whole model, or a sequence of one for each of its stages, or of one for each of its blocks."""


def variants_per_stage(attention: Attention, depths: Sequence[int]) -> list[list[Variant]]:
    """The variant of each block, stage by stage, for a model of `depths` blocks in its stages.

    Raises:
        InputError: as many variants as neither stages nor blocks, or something that is no variant.
    """
    if isinstance(attention, Variant):
        return [[attention] * depth for depth in depths]
    if isinstance(attention, str) or not isinstance(attention, Sequence):
        raise InputError(
            f"attention={attention!r} is neither a variant nor a sequence of them; make one with "
            "fewpairs.attention.parse_attention"
        )
    for variant in attention:
        if not isinstance(variant, Variant):
            raise InputError(
                f"attention holds {variant!r}, which is no variant; make one with fewpairs.attention.parse_attention"
            )
    stages, blocks = len(depths), sum(depths)
    if len(attention) == stages:
        return [[variant] * depth for variant, depth in zip(attention, depths, strict=True)]
    if len(attention) == blocks:
        left = iter(attention)
        return [[next(left) for _ in range(depth)] for depth in depths]
    raise InputError(
        f"attention names {len(attention)} variants for a model of stages={stages} with depths={tuple(depths)}; give "
        f"one variant, {stages} (one a stage) or {blocks} (one a block)"
    )
