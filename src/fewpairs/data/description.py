"""A data set and its split, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Check = Literal["header", "decode", "none"]
"""How files are looked at before training: headers and ends, every pixel, or not at all."""


@dataclass(frozen=True, slots=True)
class DataDescription:
    """What was trained and tested on."""

    description: str
    cases: Mapping[str, int]
    """Cases (patients), or images, in each part, such as `{"train": 80, "validation": 20}`."""
    split: str
    """How the parts were drawn, in a sentence."""
