"""Assign variants to the blocks of a model: one for all blocks, one per stage, or one per block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from fewpairs.attention.variant import Variant
from fewpairs.errors import InputError

Attention: TypeAlias = Variant | Sequence[Variant]
"""One variant for the whole model, or a sequence with one variant per stage or per block."""


def variants_per_stage(attention: Attention, depths: Sequence[int]) -> list[list[Variant]]:
    """Return the variant of each block, grouped by stage; `depths` holds the number of blocks per stage.

    Raises:
        InputError: the number of variants equals neither that of stages nor that of blocks; an item is no variant.
    """
    if isinstance(attention, Variant):
        return [[attention] * depth for depth in depths]
    if isinstance(attention, str) or not isinstance(attention, Sequence):
        raise InputError(
            f"attention={attention!r} is neither a variant nor a sequence of variants; create one with "
            "fewpairs.attention.parse_attention"
        )
    for variant in attention:
        if not isinstance(variant, Variant):
            raise InputError(
                f"attention holds {variant!r}, not a variant; create one with fewpairs.attention.parse_attention"
            )
    stages, blocks = len(depths), sum(depths)
    if len(attention) == stages:
        return [[variant] * depth for variant, depth in zip(attention, depths, strict=True)]
    if len(attention) == blocks:
        left = iter(attention)
        return [[next(left) for _ in range(depth)] for depth in depths]
    raise InputError(
        f"attention names {len(attention)} variants for a model of stages={stages} with depths={tuple(depths)}; give "
        f"one variant, {stages} (one per stage) or {blocks} (one per block)"
    )
