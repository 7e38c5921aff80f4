"""The cache of compiled libraries: a folder with one binary and its checksum for each key.

What is loaded runs as the user, so nothing is trusted that another user could have written: the folder and its files
must belong to this user, and only this user may write them. The checksum covers the binary's name, which holds the key
of all that it was made of, so that no binary passes for that of another source; and a binary is complete, or is not
loaded. It is checked and loaded through one file descriptor, and cannot be exchanged in between.

Files are moved into place by a rename, the checksum last; what does not match is built again. A lock lets one process
build while others wait for its result.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from fewpairs.ops.native.compiler import Unavailable

FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""How files are opened: no links, and no waiting for a pipe."""


def folder() -> Path:
    """Return `FEWPAIRS_CACHE`, else `fewpairs/kernels` in the user's cache folder. It need not exist.

    Raises:
        OSError: the user has no home folder.
    """
    named = os.environ.get("FEWPAIRS_CACHE")
    if named:
        return Path(named).absolute()
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OSError(f"the user's cache folder is not known ({error})") from error
    return base.absolute() / "fewpairs" / "kernels"


def distrust(place: Path | int) -> str | None:
    """Return the reason why another user could have written `place` (a path or an open file), or None.

    Systems without POSIX owners and modes (Windows) give none.

    Raises:
        OSError: it does not exist or cannot be looked at.
    """
    found = os.stat(place)
    if not hasattr(os, "geteuid"):
        return None
    if found.st_uid != os.geteuid():
        return f"belongs to another user (uid {found.st_uid}, not {os.geteuid()})"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by other users (mode {stat.S_IMODE(found.st_mode):o})"
    return None


def checksum(path: Path, content: bytes) -> str:
    """Return the checksum of a binary under its name."""
    return hashlib.sha256(path.name.encode() + b"\0" + content).hexdigest()


def opened(path: Path) -> int | None:
    """Return a descriptor of the open binary if it is trusted, complete and as its checksum says, else None."""
    binary = None
    try:
        if distrust(path.parent) is not None:
            return None
        binary = os.open(path, FLAGS)
        content, expected = _read(binary), _read_checksum(path)
        if content is not None and expected == checksum(path, content) and _complete(content):
            found, binary = binary, None
            return found
    except (OSError, UnicodeDecodeError):
        pass
    finally:
        if binary is not None:
            os.close(binary)
    return None


def find(path: Path) -> bool:
    """Whether `path` holds a binary that `opened` would open."""
    binary = opened(path)
    if binary is None:
        return False
    os.close(binary)
    return True


def build_once(path: Path, build: Callable[[Path], None], seconds: float) -> None:
    """Call `build(temporary)` unless `path` exists and is valid; only one process builds at a time.

    Args:
        seconds: how long to wait for another process that builds.

    Raises:
        OSError: the folder is not writable, or another user could write it.
        Unavailable: `build` raises it, or another process builds for longer than `seconds`.
    """
    if find(path):
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    reason = distrust(path.parent)
    if reason is not None:
        raise OSError(f"{path.parent} {reason}, and what it holds would run as you")
    lock = path.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=seconds):
            if not find(path):
                _put(path, build)
    except Timeout as error:
        raise Unavailable(f"another process has held {lock} for more than {seconds:g} s") from error
    except NotImplementedError as error:
        raise OSError(f"its file system has no locks ({error})") from error


def _put(path: Path, build: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-", ignore_cleanup_errors=True) as work:
        made = Path(work) / path.name
        build(made)
        record = made.with_suffix(".sha256")
        record.write_text(checksum(path, made.read_bytes()) + "\n")
        for file, mode in ((made, 0o700), (record, 0o600)):
            file.chmod(mode)
        made.replace(path)
        record.replace(path.with_suffix(".sha256"))


def _read(file: int) -> bytes | None:
    """Return the content of an open file, or None if it is no plain file or not trusted."""
    if not stat.S_ISREG(os.fstat(file).st_mode) or distrust(file) is not None:
        return None
    with os.fdopen(os.dup(file), "rb") as stream:
        return stream.read()


def _read_checksum(path: Path) -> str | None:
    record = os.open(path.with_suffix(".sha256"), FLAGS)
    try:
        content = _read(record)
    finally:
        os.close(record)
    return None if content is None else content.decode().strip()


def _complete(binary: bytes) -> bool:
    """Whether the file is as long as its ELF header says; touching what is missing would end the process.

    Other files are left to the system's loader, which refuses them.
    """
    if not binary.startswith(b"\x7fELF\x02\x01"):
        return True
    if len(binary) < 64:
        return False
    programs, sections = struct.unpack_from("<QQ", binary, 32)
    entry, count, section, sections_count = struct.unpack_from("<HHHH", binary, 54)
    ends = [sections + section * sections_count, programs + entry * count]
    if max(ends) > len(binary) or entry < 56:
        return False
    for at in range(programs, programs + entry * count, entry):
        offset, size = struct.unpack_from("<Q", binary, at + 8)[0], struct.unpack_from("<Q", binary, at + 32)[0]
        ends.append(offset + size)
    return bool(max(ends) <= len(binary))
