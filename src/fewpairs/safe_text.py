"""Text that comes from files (names, classes, messages) is data: here it is made safe for the place where it goes.

| place | function |
| --- | --- |
| terminal, HTML, figures | `visible`, `one_line`; the page's template escapes `<` and `&` itself |
| Markdown | `markdown` |
| cells of CSV | `csv_cell` |
| names of files | `file_name`, `file_names` |
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

MOST_BYTES = 255
"""The longest name of a file on the usual file systems, in bytes of UTF-8."""

_HIDDEN = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_INVISIBLE = re.compile(f"[{_HIDDEN}]")
"""Control characters other than tab and line feed, marks that turn the direction of text, and lone surrogates."""
_NOT_IN_NAMES = re.compile(rf'[{_HIDDEN}\t\n/\\:*?"<>|]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_MARKUP = str.maketrans(
    {letter: f"\\{letter}" for letter in "\\`*_{}[]<>|#~$!"} | {"&": "&amp;", "\n": " ", "\r": " ", "\t": " "}
)


def visible(text: str) -> str:
    r"""Return text in which control characters, turning marks and lone surrogates are written out, such as `\x1b`.

    Tabs and line feeds stay.
    """
    return _INVISIBLE.sub(lambda found: _written_out(found[0]), text)


def one_line(text: str) -> str:
    r"""Return `visible` text with tabs and line feeds written out too, as `\t` and `\n`."""
    return visible(text).replace("\t", "\\t").replace("\n", "\\n")


def markdown(text: str) -> str:
    """Return text that Markdown shows unchanged, on one line and without markup."""
    return visible(text.translate(_MARKUP))


def csv_cell(text: str) -> str:
    """Return the text of a cell that no spreadsheet takes for a formula: an apostrophe precedes `=`, `+`, `-` and `@`.

    Numbers stay as they are.
    """
    formula = text.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA)
    return f"'{text}" if formula and not _NUMBER.fullmatch(text) else text


def file_name(text: str, ending: str = "") -> str:
    """Return a name for one file in a folder, on any system: `text` with unsafe characters as `_`, then `ending`.

    The name is no path, no name that Windows keeps for devices, not hidden, ends with neither dot nor blank, and has at
    most 255 bytes: a longer one is cut and ends with a checksum of the whole.
    """
    text = text or "_"
    name = _NOT_IN_NAMES.sub("_", text + ending)
    name = re.sub(r"[. ]+$", lambda end: "_" * len(end[0]), name)
    if name.startswith("."):
        name = f"_{name[1:]}"
    if _RESERVED.fullmatch(name):
        stem, dot, rest = name.partition(".")
        name = f"{stem}_{dot}{rest}"
    if len(name.encode()) <= MOST_BYTES:
        return name
    stem = name.removesuffix(ending)
    mark = f"-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}{ending}"
    return stem.encode()[: MOST_BYTES - len(mark.encode())].decode(errors="ignore") + mark


def file_names(texts: Sequence[str]) -> tuple[str, ...]:
    """Return a part of a file's name for each text; texts that become one, capitals aside, are numbered: `a`, `A-2`."""
    taken: set[str] = set()
    names = []
    for text in texts:
        first = name = file_name(text)
        number = 1
        while same_file(name) in taken:
            number += 1
            name = file_name(first, f"-{number}")
        taken.add(same_file(name))
        names.append(name)
    return tuple(names)


def same_file(path: str) -> str:
    """Return a key that is equal for paths which are one file on a system that ignores capitals and composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _written_out(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
