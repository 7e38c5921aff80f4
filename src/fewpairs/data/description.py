"""Description of a data set and its split for reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Check = Literal["header", "decode", "none"]
"""Check of the files before training: `header` reads headers and ends, `decode` decodes every pixel."""


@dataclass(frozen=True, slots=True)
class DataDescription:
    """Data set on which a model was trained and evaluated."""

    description: str
    cases: Mapping[str, int]
    """Number of cases (patients) or images in each part, such as `{"train": 80, "validation": 20}`."""
    split: str
    """Sentence on how the parts were drawn."""
