"""A C++ source that becomes functions on first use, or a sentence that says why it cannot."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from fewpairs.ops.dispatch import KernelRefused
from fewpairs.ops.native import cache, compiler, machine
from fewpairs.ops.native.compiler import Unavailable

HEADERS = Path(__file__).parents[1] / "csrc"
"""Headers that all sources share."""

F = TypeVar("F", bound=Callable[..., Any])


def _constant(function: F) -> F:
    """Let `torch.compile` call the function while it records, and take its answer as a constant."""
    return cast(F, torch.compiler.assume_constant_result(function))  # type: ignore[no-untyped-call]  # PyTorch's own gap


@dataclass(frozen=True)
class Plan:
    """How a library is compiled here, and where it is kept."""

    compiler: tuple[str, ...]
    version: str
    options: tuple[str, ...]
    level: str
    file: str
    """The binary's name: `knn-<key>.so`. The key covers everything that the binary depends on."""


@dataclass(eq=False)
class Library:
    """The functions of one C++ source: compiled, kept and loaded when first asked for, not before.

    Args:
        name: what messages and the binary call it.
        source: the `.cpp` file. It may include the headers beside it and those in `fewpairs/ops/csrc`.
        macros: names that the source finds defined.
    """

    name: str
    source: Path
    macros: tuple[str, ...] = ()
    path: Path | None = field(default=None, init=False)
    """Where the loaded binary lies; None before it is loaded."""
    _loaded: ctypes.CDLL | None = field(default=None, init=False, repr=False)
    _reason: str | None = field(default=None, init=False, repr=False)
    _functions: dict[tuple[Any, ...], Callable[..., int]] = field(default_factory=dict, init=False, repr=False)

    @_constant
    def unavailable(self) -> str | None:
        """Why the functions cannot be had, in one sentence; None when they can.

        The first call compiles, if nobody has before on this machine, and says once what is wrong; every later call
        gives the same answer.
        """
        if not self.tried:
            with _process.lock:
                if not self.tried:
                    self._settle()
        return self._reason

    @property
    def tried(self) -> bool:
        """Whether this process has asked for the functions before, so that `unavailable` answers at once."""
        return self._loaded is not None or self._reason is not None

    def function(self, name: str, *types: Any) -> Callable[..., int]:
        """The C function `name`, which takes `types` (of ctypes) and returns a status for `check`.

        Raises:
            KernelRefused: the library cannot be had.
            AttributeError: it has no such function.
        """
        known = self._functions.get((name, types))
        if known is not None:
            return known
        reason = self.unavailable()
        if reason is not None or self._loaded is None:
            raise KernelRefused(f"the C++ kernels of {self.name} cannot run: {reason}")
        entry = self._loaded[name]
        entry.argtypes, entry.restype = list(types), ctypes.c_int
        self._functions[name, types] = entry
        return entry

    def plan(self) -> Plan:
        """How the library is compiled here. Nothing is compiled, but the compiler is asked for its version.

        Raises:
            Unavailable: it cannot be compiled here.
        """
        if sys.platform != "linux":
            raise Unavailable(f"the C++ kernels are made for Linux, and this is {sys.platform}")
        seconds, words = compiler.time_limit(), compiler.command()
        level = machine.level()
        options = (*compiler.options(words, seconds, level), *(f"-D{macro}" for macro in self.macros))
        version, pool = compiler.version(words, seconds), machine.pool_of_torch()
        cpu = (platform.machine(), level.name, *sorted(machine.cpu_flags()))
        key = hashlib.sha256(repr((words, version, options, cpu, torch.__version__, pool and str(pool[0]))).encode())
        for file in (self.source, *sorted(self.source.parent.glob("*.h")), *sorted(HEADERS.glob("*.h"))):
            try:
                key.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
            except OSError as error:
                raise Unavailable(f"{file} cannot be read: {error.strerror or error}") from error
        return Plan(words, version, options, level.name, f"{self.name}-{key.hexdigest()[:32]}.so")

    def _settle(self) -> None:
        if os.environ.get("FEWPAIRS_NATIVE") == "0":
            self._reason = "switched off by FEWPAIRS_NATIVE=0"
            return
        try:
            self._loaded, self.path = self._build_or_load(self.plan())
        except Unavailable as error:
            self._reason = str(error)
            notify(f"the C++ kernels are not used, slower ones take their place: {error}")

    def _build_or_load(self, plan: Plan) -> tuple[ctypes.CDLL, Path]:
        """The binary of the cache, built if need be; where the cache is of no use, one that only this process has."""
        seconds = compiler.time_limit()

        def build(out: Path) -> None:
            compiler.compile_library(plan.compiler, plan.options, self.source, HEADERS, out, seconds)

        try:
            path = cache.folder() / plan.file
            cache.build_once(path, build, 2 * seconds + 30)
            return load(path), path
        except OSError as error:
            wrong = " ".join(str(error.strerror or error).split())
        notify(
            f"the cache of C++ kernels cannot be used ({wrong}), so every process compiles its own; set FEWPAIRS_CACHE "
            "to a folder that can be written"
        )
        try:
            with tempfile.TemporaryDirectory(prefix="fewpairs-", ignore_cleanup_errors=True) as work:
                path = Path(work) / plan.file
                build(path)
                return load(path), path  # stays in memory when the file is gone
        except OSError as error:
            raise Unavailable(f"the compiled code cannot be loaded: {' '.join(str(error).split())}") from error


def load(path: Path) -> ctypes.CDLL:
    """The library at `path`, whose threads are PyTorch's own.

    Raises:
        OSError: the system does not load it.
        Unavailable: it would start threads of its own.
    """
    library = ctypes.CDLL(str(path))
    ours, pool = machine.pool_entry(library), machine.pool_of_torch()
    if ours is not None and (pool is None or ours != pool[1]):
        raise Unavailable(
            "the compiled code found another OpenMP runtime than PyTorch's, and two would fight for cores"
        )
    if _process.must_work_alone:
        library.fewpairs_work_alone()
    _process.has_loaded = True
    return library


def notify(text: str) -> None:
    """One line to the log, and so to standard error unless logging was set up otherwise; each text once a process."""
    if text not in _said:
        _said.add(text)
        logging.getLogger("fewpairs").warning("fewpairs: %s", text)


class _Process:
    """What this process has done, of which some is no longer true in its forks."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.has_loaded = self.must_work_alone = False

    def after_fork(self) -> None:
        """In the child: nobody is here to give the lock back, and the threads of OpenMP are gone."""
        self.lock = threading.RLock()
        self.must_work_alone = self.has_loaded


_said: set[str] = set()
_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.after_fork)
