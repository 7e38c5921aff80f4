"""One process at a time writes into a folder; who comes second learns who was first."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fewpairs.errors import InputError
from fewpairs.writing import TEMPORARY, remove_leftovers, replace_text

LOCK, HOLDER = ".in-use.lock", ".in-use.json"
OVERLAYS = "overlays"
_ENDING_SECONDS = 10.0
"""How long the loading processes of a killed training may live on."""
_held: set[Path] = set()


def is_own(name: str) -> bool:
    """Return whether a file in a folder is that of the lock, or a temporary one of ours."""
    return name in (LOCK, HOLDER) or name.startswith(TEMPORARY)


@contextmanager
def lock_folder(folder: Path, doing: str, what: str = "folder") -> Iterator[None]:
    """Hold `folder`, which is made if it is missing, and remove temporary files that killed processes left in it.

    The system frees the lock of a process that dies, so that the next one takes over. The same process may hold a
    folder several times. `doing` says in the message for others what is done, such as "training", and
    `what` what the folder is.

    Raises:
        InputError: another process holds the folder, or it cannot be written.
    """
    if (place := folder.resolve()) in _held:
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder, doing)
    except OSError as error:
        raise InputError(
            f"cannot write to the {what} {folder}: {error.strerror or error}; choose a folder that you may write to, "
            "or change its permissions"
        ) from error
    _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
            # while the lock is held, so that whoever opened the same file finds it without a name and tries again
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if made:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _acquired(folder: Path, doing: str) -> FileLock:
    lock, deadline = FileLock(folder / LOCK), time.monotonic() + _ENDING_SECONDS
    while True:
        now = time.time()
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            holder = _holder(folder)
            if time.monotonic() > deadline or not _is_dead(holder):
                raise InputError(_in_use(folder, holder)) from None
        time.sleep(0.1)
    for place in (folder, folder / OVERLAYS):
        if not place.is_symlink() or place == folder:
            remove_leftovers(place, before=now)
    me = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "doing": doing,
        "command": " ".join(sys.argv),
    }
    replace_text(folder / HOLDER, json.dumps(me) + "\n")
    return lock


def _holder(folder: Path) -> dict[str, Any]:
    """Return what the holder wrote of itself; nothing while it starts or ends."""
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_dead(holder: dict[str, Any]) -> bool:
    pid = holder.get("pid")
    if os.name == "nt" or holder.get("host") != socket.gethostname() or type(pid) is not int or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _in_use(folder: Path, holder: dict[str, Any]) -> str:
    if not holder:
        return f"{folder} is in use by another process; wait for it, or name another folder"
    told = {name: str(holder.get(name, "?"))[:200] for name in ("pid", "host", "since", "doing", "command")}
    return (
        f"{folder} is in use: process {told['pid']} on {told['host']} has been {told['doing']} there since "
        f"{told['since']} ({told['command']}); wait for it, stop it, or name another folder"
    )
