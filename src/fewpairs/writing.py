"""Writing of files: completely or not at all, only inside the folder that was named, and without remains.

A temporary file in the same folder is written, then renamed, so that a link of that name is replaced and not followed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fewpairs.errors import DataError, InputError

TEMPORARY = ".writing-"
"""The beginning of the name of every temporary file."""
ABANDONED_SECONDS = 3600.0
"""Age after which a temporary file of a folder without a lock is nobody's."""
_LONGEST_SUFFIX = 40


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the suffixes of `path`; it is renamed to `path` on success and removed on failure.

    Raises:
        DataError: the folder cannot be made or written, or the disk is full; `path` is unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary:
            yield temporary
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; nothing was changed there") from error


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Do as `atomic_path` does in a folder that is there, but leave an OSError as it is."""
    temporary: Path | None = None
    try:
        suffix = "".join(path.suffixes[-2:])
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=TEMPORARY, suffix=suffix if len(os.fsencode(suffix)) <= _LONGEST_SUFFIX else ""
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a file of UTF-8, completely or not at all; an OSError is left as it is."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_inside(folder: Path, paths: Iterable[Path]) -> None:
    """Raise InputError unless every path, with the links on its way, leads to a place inside `folder`.

    A link in the place of a file itself does no harm, because writing replaces it.
    """
    root = folder.resolve()
    resolved: dict[Path, bool] = {}
    for path in paths:
        parent = path.parent
        if parent not in resolved:
            resolved[parent] = parent.resolve().is_relative_to(root)
        if path.name in ("", "..") or not resolved[parent]:
            raise InputError(
                f"{path} leads out of the folder {folder}, to {parent.resolve() / path.name}; nothing is written "
                "there: remove the link, or name another folder"
            )


def remove_leftovers(folder: Path, *, before: float) -> None:
    """Remove our temporary files directly in `folder` that a killed process left: those last changed before a time.

    Only regular files go; what cannot be removed stays.
    """
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime < before:
                path.unlink()
