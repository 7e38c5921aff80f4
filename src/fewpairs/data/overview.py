"""Contents of a data set as plain data, which `fewpairs data check` prints for every kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DataOverview:
    """Counts, notes and errors of a data set."""

    name: str
    kind: str
    """Name of the layout."""
    summary: str
    """Contents in a few words."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """Number of images by part; empty for scans."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Further facts by topic."""
    columns: Sequence[str] = ()
    """Titles of the columns after the class, in the table of classes."""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Cells of each class."""
    totals: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Last lines of the table."""
    notes: Sequence[str] = ()
    """Sentences on harmless oddities."""
    errors: Sequence[str] = ()
    """One sentence for each error."""
    failure: str | None = None
    """Message with which the command fails; None if it succeeds."""
    content: Mapping[str, Any]
    """Everything above as plain data for JSON."""
