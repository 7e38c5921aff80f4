"""Files of one patient that only their names tell: endings such as `_frame01`, `_t1`, `_day3`, `_ses-2`, `_left`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewpairs.data.files import CasePattern
from fewpairs.errors import DataError

_NUMBERED = re.compile(
    "frame|fr|t|tp|time|timepoint|day|d|week|month|year|ses|session|visit|v|scan|study|series|slice|sl|z|view|run|rep|"
    "phase|echo|crop|patch|tile|aug|copy"
)
"""Words before a number, behind which one patient (or picture) has several files."""
_PLAIN = re.compile(
    "left|right|l|r|od|os|lcc|rcc|lmlo|rmlo|ed|es|pre|post|axial|sagittal|coronal|baseline|followup|flair|t1w|t2w|t1c|"
    "t1ce|t1gd"
)
"""Words that tell several files of one patient apart by themselves."""
_SEARCHED = 20_000
"""Number of names, sorted, in which a pattern is sought; it is then tried on all."""
_HEAD = r"((?:sub|subject|patient|pat|case|pt|person|mouse|animal)[_-]?[0-9]+)[A-Za-z]*[_-].*"
_TOKEN = re.compile(r"(?<=[_-])([A-Za-z]+)(?:([_-]?)([0-9]+)|[0-9]?[A-Za-z]*)(?=[_-]|$)")


@dataclass(frozen=True, slots=True)
class SharedNames:
    """A `case_pattern` that joins files whose names differ in an ending."""

    pattern: str
    cases: Mapping[str, Sequence[str]]
    """Names of each case, in order."""

    @property
    def example(self) -> tuple[str, str]:
        """Two names of one case."""
        first, second = next(names for names in self.cases.values() if len(names) > 1)[:2]
        return first, second


def shared_names(stems: Sequence[str]) -> SharedNames | None:
    """Find the pattern that fits every name and joins the most; None if names share nothing but numbers.

    A pattern that joins all names, or fewer than a tenth of them, says nothing about patients.

    Args:
        stems: names of files without folder and suffix.
    """
    names = list(dict.fromkeys(stems))
    if len(names) > _SEARCHED:
        few = shared_names(names[:_SEARCHED])
        return _joined(names, few.pattern) if few else None
    best: SharedNames | None = None
    for pattern in _patterns(names):
        found = _joined(names, pattern)
        if found is not None and (best is None or len(found.cases) < len(best.cases)):
            best = found
    return best


def _joined(names: Sequence[str], pattern: str) -> SharedNames | None:
    """Group names by a pattern; None if it does not fit every name, or joins all of them or less than a tenth."""
    case_of = CasePattern(pattern)
    cases: dict[str, list[str]] = {}
    try:
        for name in names:
            cases.setdefault(case_of(name), []).append(name)
    except DataError:
        return None
    joined = sum(len(several) for several in cases.values() if len(several) > 1)
    return SharedNames(pattern, cases) if len(cases) > 1 and joined * 10 >= len(names) else None


def _patterns(names: Sequence[str]) -> list[str]:
    """Return patterns with the marks that occur in names: each alone and all together, the shortest first."""
    marks: dict[str, None] = {}
    for name in names:
        for match in _TOKEN.finditer(name):
            word, between, number = match.groups()
            if number is not None and _NUMBERED.fullmatch(word.lower()):
                marks[f"{word}{between}[0-9]+"] = None
            elif _PLAIN.fullmatch(match[0].lower()):
                marks[match[0]] = None
    together = [f"(?:{'|'.join(sorted(marks))})"] if len(marks) > 1 else []
    found = [
        form.format(mark)
        for mark in (*marks, *together)
        for form in ("(.+?)[_-]{}", "(.+?)[_-]{}(?:[_-].*)?", "(.+?)(?:[_-]{})?", "(.+?)(?:[_-]{}(?:[_-].*)?)?")
    ]
    return [*sorted(found, key=len), _HEAD]


def patient_notes(
    parts: Mapping[str, Sequence[str]], setting: str, *, pattern: str | None = None, drawn: bool = False
) -> tuple[str, ...]:
    """Return a sentence if names say that one patient has files in several parts, or could have.

    Args:
        parts: names of files without folder and suffix, by part, such as `train` and `validation`.
        setting: setting that takes the pattern.
        pattern: pattern that is set already.
        drawn: whether the parts are those of a split; otherwise files of one part can still be separated.
    """
    everything = [name for names in parts.values() for name in names]
    found = shared_names(everything) if pattern is None else None
    known = found.pattern if found is not None else pattern
    if known is None:
        return ()
    case_of = CasePattern(known)
    sides = Counter(case for names in parts.values() for case in {case_of(name) for name in names})
    split = sum(count > 1 for count in sides.values())
    if not split and (found is None or drawn or len(parts) > 1):
        return ()
    where = f"{split} of them in more than one of {', '.join(parts)}" if split else "which a split may separate"
    if found is None:
        return (
            f"{len(everything)} files are {len(sides)} cases by {setting}={pattern!r}, {where}: scores are too good",
        )
    first, second = found.example
    return (
        f"by their names, {len(everything)} files are of {len(sides)} patients ({first!r} and {second!r} of one), "
        f"{where}; if so, scores are too good: join them with {setting}={found.pattern!r}",
    )


def stems_of(names: Sequence[str]) -> list[str]:
    """Return names of files without folders and suffix."""
    return [Path(name).stem for name in names]
