"""Files and images that occur twice, and so may be on both sides of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fewpairs.data.files import listed


def duplicate_notes(files: Sequence[tuple[str, Path, str]]) -> tuple[str, ...]:
    """Return a sentence on files (name, path and part each) with the same bytes; only files of one size are read."""
    sizes: dict[int, list[tuple[str, Path, str]]] = {}
    for one in files:
        try:
            sizes.setdefault(one[1].stat().st_size, []).append(one)
        except OSError:
            continue
    found: dict[str, list[tuple[str, Path, str]]] = {}
    for several in sizes.values():
        for one in several if len(several) > 1 else ():
            try:
                with one[1].open("rb") as file:
                    found.setdefault(hashlib.file_digest(file, "blake2b").hexdigest(), []).append(one)
            except OSError:
                continue
    equal = [same for same in found.values() if len(same) > 1]
    across = sum(len({part for _, _, part in same}) > 1 for same in equal)
    return equal_notes([[name for name, _, _ in same] for same in equal], "images", across=across)


def equal_notes(groups: Sequence[Sequence[str]], noun: str, *, across: int = 0) -> tuple[str, ...]:
    """Return a sentence on groups of names whose content is equal; `across` of them lie in several parts."""
    if not groups:
        return ()
    parts = f", {across} of them in several parts of the data set" if across else ""
    shown = listed([" = ".join(names[:3]) for names in groups], 3)
    return (
        f"{sum(map(len, groups))} {noun} are {len(groups)} in truth, because their content is equal{parts}: {shown}; "
        "a split that separates them gives scores that are too good",
    )
