"""Compact storage of many file names."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Names:
    """Immutable sequence of strings, stored in two arrays.

    A list of strings would be copied into every loading process, page by page, as soon as that process counts a
    reference; arrays stay shared with the process that made them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"name {index} of {len(self)}")
        start, end = self._ends[index : index + 2]
        return self._bytes[start:end].tobytes().decode("utf-8", "surrogateescape")
