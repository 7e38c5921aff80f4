"""What a data set holds, as plain data that one function shows for every kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DataOverview:
    """Counts, notes and errors of a data set."""

    name: str
    kind: str
    """Its layout."""
    summary: str
    """What there is, in a few words."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """More of that, by what it is about."""
    columns: Sequence[str] = ()
    """Of the table of classes, behind the class."""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The cells of each class."""
    totals: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The last lines of the table."""
    notes: Sequence[str] = ()
    """What is odd and does no harm."""
    errors: Sequence[str] = ()
    """A sentence for each thing that is wrong."""
    failure: str | None = None
    """What the command fails with; None where nothing is wrong that it should fail for."""
    content: Mapping[str, Any]
    """All of it for JSON."""
