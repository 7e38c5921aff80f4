"""Libraries of C++ functions that are compiled on first use, or give a reason why they are not available."""

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
"""The headers that all sources share."""

F = TypeVar("F", bound=Callable[..., Any])


def _constant(function: F) -> F:
    """Let `torch.compile` call the function while recording, and treat the result as a constant."""
    return cast(F, torch.compiler.assume_constant_result(function))  # type: ignore[no-untyped-call]  # PyTorch's own gap


@dataclass(frozen=True)
class Plan:
    """The compilation of a library on this machine, and its file in the cache."""

    compiler: tuple[str, ...]
    version: str
    options: tuple[str, ...]
    level: str
    file: str
    """The binary's name: `knn-<key>.so`. The key covers everything that the binary depends on."""


@dataclass(eq=False)
class Library:
    """The functions of one C++ source, which is compiled, cached and loaded on first use.

    Args:
        name: the name of the library in messages and of its binary.
        source: the `.cpp` file. It may include the headers beside it and those in `fewpairs/ops/csrc`.
        macros: macros to define for the source.
    """

    name: str
    source: Path
    macros: tuple[str, ...] = ()
    path: Path | None = field(default=None, init=False)
    """The path of the loaded binary; None before it is loaded."""
    _loaded: ctypes.CDLL | None = field(default=None, init=False, repr=False)
    _reason: str | None = field(default=None, init=False, repr=False)
    _functions: dict[tuple[Any, ...], Callable[..., int]] = field(default_factory=dict, init=False, repr=False)

    @_constant
    def unavailable(self) -> str | None:
        """Return the reason why the functions are not available, or None.

        The first call compiles the source if it is not cached, and logs problems once; later calls return the same
        result.
        """
        if not self.tried:
            with _process.lock:
                if not self.tried:
                    self._settle()
        return self._reason

    @property
    def tried(self) -> bool:
        """Whether this process has tried to load the functions, so that `unavailable` returns at once."""
        return self._loaded is not None or self._reason is not None

    def function(self, name: str, *types: Any) -> Callable[..., int]:
        """The C function `name`, which takes `types` (of ctypes) and returns a status for `check`.

        Raises:
            KernelRefused: the library is not available.
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
        """Return how the library is compiled here, without compiling it; this runs the compiler for its version.

        Raises:
            Unavailable: the library cannot be compiled here.
        """
        if sys.platform != "linux":
            raise Unavailable(f"the C++ kernels need Linux, and this is {sys.platform}")
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
            notify(f"the C++ kernels are not used, slower ones replace them: {error}")

    def _build_or_load(self, plan: Plan) -> tuple[ctypes.CDLL, Path]:
        """Load the binary from the cache, building it if needed; without a cache, build one for this process."""
        seconds = compiler.time_limit()

        def build(out: Path) -> None:
            compiler.compile_library(plan.compiler, plan.options, self.source, HEADERS, out, seconds)

        try:
            path = cache.folder() / plan.file
            cache.build_once(path, build, 2 * seconds + 30)
            return self._load_kept(path), path
        except OSError as error:
            wrong = " ".join(str(error.strerror or error).split())
        notify(
            f"the cache of C++ kernels cannot be used ({wrong}), so every process compiles its own; set FEWPAIRS_CACHE "
            "to a folder that you, and nobody else, can write"
        )
        try:
            with tempfile.TemporaryDirectory(prefix="fewpairs-", ignore_cleanup_errors=True) as work:
                path = Path(work) / plan.file
                build(path)
                return load(path), path  # the library stays loaded when the file is deleted
        except OSError as error:
            raise Unavailable(f"the compiled code cannot be loaded: {' '.join(str(error).split())}") from error

    def _load_kept(self, path: Path) -> ctypes.CDLL:
        """Load a binary of the cache by the descriptor through which it was checked.

        The descriptor stays open: the system's loader knows a library by its name, which the next would have too.
        """
        binary = cache.opened(path)
        if binary is None:
            raise OSError(f"{path} was changed while it was loaded")
        if not Path("/proc/self/fd").is_dir():
            os.close(binary)
            return load(path)
        try:
            return load(f"/proc/self/fd/{binary}")
        except OSError as error:
            os.close(binary)
            raise OSError(str(error).replace(f"/proc/self/fd/{binary}", str(path))) from error


def load(path: Path | str) -> ctypes.CDLL:
    """Load the library at `path`, which runs on PyTorch's threads.

    Raises:
        OSError: the system cannot load it.
        Unavailable: it would use another OpenMP runtime.
    """
    library = ctypes.CDLL(str(path))
    ours, pool = machine.pool_entry(library), machine.pool_of_torch()
    if ours is not None and (pool is None or ours != pool[1]):
        raise Unavailable(
            "the compiled code found another OpenMP runtime than PyTorch's, and two runtimes would compete for cores"
        )
    if _process.must_work_alone:
        library.fewpairs_work_alone()
    _process.has_loaded = True
    return library


def notify(text: str) -> None:
    """Log a warning (to standard error by default), each text once per process."""
    if text not in _said:
        _said.add(text)
        logging.getLogger("fewpairs").warning("fewpairs: %s", text)


class _Process:
    """The state of this process, part of which is invalid in forks."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.has_loaded = self.must_work_alone = False

    def after_fork(self) -> None:
        """Reset the state of a forked child: its lock is never released, and it has no OpenMP threads."""
        self.lock = threading.RLock()
        self.must_work_alone = self.has_loaded


_said: set[str] = set()
_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.after_fork)
