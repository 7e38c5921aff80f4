"""The receipt of a swap, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fewpairs.attention import Variant, plain_variant
from fewpairs.errors import InputError
from fewpairs.swap.undo import Undo
from fewpairs.types import Size


@dataclass(frozen=True)
class SwappedLayer:
    """A layer whose attention was replaced by `variant`."""

    name: str
    index: int
    stage: int
    family: str
    heads: int
    dim_head: int
    variant: Variant
    queries: int | None = None
    """The number of queries in an image of the receipt's `input_size` (in one window if there are several); `keys` is
    the number of keys. Both are None if unknown."""
    keys: int | None = None


@dataclass(frozen=True)
class LeftAlone:
    """A layer that was not changed, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Receipt:
    """The changes that `swap_attention` made, or would make with `dry_run`."""

    model: str
    """The class of the model."""
    swapped: tuple[SwappedLayer, ...]
    left: tuple[LeftAlone, ...]
    key_map: dict[str, str | None]
    """Maps every old `state_dict` key of the swapped layers to its new name, or to None if it was removed."""
    new_keys: tuple[str, ...]
    """The `state_dict` keys that the variant added."""
    parameters_before: int
    parameters_after: int
    macs_before: int | None = None
    """Multiply-adds of one image of `input_size`, as `fewpairs.cost` counts them; None if they could not be counted."""
    macs_after: int | None = None
    input_size: Size | None = None
    kernel: str | None = None
    """The kernel that was asked for; None if each call chooses."""
    undo_bytes: int = 0
    """The memory of removed or split weights that the receipt of a swap keeps for `undo`, which go with it."""
    dry_run: bool = field(default=False)
    changes: Undo | None = field(default=None, repr=False, compare=False)
    """What `undo` needs; None after a dry run, and in copies and stored receipts."""

    def undo(self) -> None:
        """Give the model its former layers back; call it for the last swap first.

        Weights that the swap kept have what they have learnt since. Those that it removed or split are as they were
        when it was made; the receipt holds them (`undo_bytes`), and the model does not.

        Raises:
            InputError: the receipt is a copy or of a dry run; the model is gone, compiled or wrapped; a layer was
                changed since.
        """
        if self.changes is None:
            raise InputError(
                "this receipt is of a dry run, a copy or already undone, and holds no layers; only the receipt that "
                "swap_attention returned can undo its swap"
            )
        self.changes.run()
        object.__setattr__(self, "changes", None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "changes": None}

    @property
    def family(self) -> str:
        """The families of the layers swapped."""
        return ", ".join(dict.fromkeys(layer.family for layer in self.swapped))

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The new variants, each once."""
        return tuple(dict.fromkeys(layer.variant for layer in self.swapped))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        did = "would swap" if self.dry_run else "swapped"
        total = len(self.swapped) + len(self.left)
        yield f"{self.model} ({self.family}): {did} {len(self.swapped)} of {total} attention layers"
        yield ""
        yield from table(_HEAD, [_row(layer) for layer in self.swapped], numbers=(1, 2, 3, 4, 5))
        if self.left:
            yield ""
            yield from table(("left alone", "because"), [(layer.name, layer.reason) for layer in self.left])
        yield ""
        costs = [("parameters", *_change(self.parameters_before, self.parameters_after))]
        if self.macs_before is not None and self.macs_after is not None and self.input_size is not None:
            height, width = self.input_size
            costs.append((f"multiply-adds at {height}x{width}", *_change(self.macs_before, self.macs_after)))
        yield from table(("", "before", "after", "change"), costs, numbers=(1, 2, 3))
        if self.kernel is not None:
            yield ""
            yield f"kernel: {self.kernel}"
        yield ""
        yield self._keys()
        if self.undo_bytes:
            yield f"undo: the receipt keeps {self.undo_bytes:,} bytes of weights that the model has no more"

    def _keys(self) -> str:
        renamed = sum(new is not None and new != old for old, new in self.key_map.items())
        gone = sum(new is None for new in self.key_map.values())
        if not (renamed or gone or self.new_keys):
            return "state_dict: every key as before"
        return f"state_dict: {renamed} keys renamed, {gone} gone, {len(self.new_keys)} new"

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain data."""
        content = asdict(replace(self, changes=None))
        del content["changes"]
        for layer, plain in zip(self.swapped, content["swapped"], strict=True):
            plain["variant"] = plain_variant(layer.variant)
        return {"family": self.family, **content}

    def to_json(self) -> str:
        """Return the receipt as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def save(self, path: str | Path) -> None:
        """Write `to_json()` to a file."""
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")


_HEAD = ("layer", "stage", "heads", "head width", "queries", "keys", "attention")


def _row(layer: SwappedLayer) -> tuple[str, ...]:
    numbers = (layer.stage, layer.heads, layer.dim_head, layer.queries, layer.keys)
    return layer.name, *("?" if number is None else str(number) for number in numbers), str(layer.variant)


def _change(before: int, after: int) -> tuple[str, str, str]:
    share = (after - before) / before if before else 0.0
    return f"{before:,}", f"{after:,}", f"{share:+.1%}" if after != before else "none"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> Iterator[str]:
    """Yield the lines of a plain text table with two spaces between columns; columns in `numbers` are right-aligned."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
