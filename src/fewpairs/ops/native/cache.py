"""The cache of compiled libraries: a folder with one binary and its checksum for each key.

Files are moved into place by a rename, the checksum last; if the two do not match, the binary is built again. A lock
lets one process build while others wait for its result.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from fewpairs.ops.native.compiler import Unavailable


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


def find(path: Path) -> bool:
    """Whether `path` exists and matches its checksum."""
    try:
        return path.with_suffix(".sha256").read_text().strip() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def build_once(path: Path, build: Callable[[Path], None], seconds: float) -> None:
    """Call `build(temporary)` unless `path` exists and is valid; only one process builds at a time.

    Args:
        seconds: how long to wait for another process that builds.

    Raises:
        OSError: the folder is not writable.
        Unavailable: `build` raises it, or another process builds for longer than `seconds`.
    """
    if find(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
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
        checksum = made.with_suffix(".sha256")
        checksum.write_text(hashlib.sha256(made.read_bytes()).hexdigest() + "\n")
        made.replace(path)
        checksum.replace(path.with_suffix(".sha256"))
