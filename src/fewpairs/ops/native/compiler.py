"""Finds the user's C++ compiler, reads its version, and runs it with a time limit."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fewpairs.ops.native import machine

TIME_LIMIT = 300.0
"""The default time limit of the compiler in seconds; `FEWPAIRS_BUILD_TIMEOUT` overrides it."""

OPTIONS = ("-O3", "-std=c++17", "-fPIC", "-fno-math-errno", "-ffp-contract=fast")


class Unavailable(Exception):  # noqa: N818  (carries the sentence that says why)
    """A library is not available here; the exception stays inside `fewpairs.ops.native`."""


def time_limit() -> float:
    """Return the time limit of the compiler in seconds.

    Raises:
        Unavailable: `FEWPAIRS_BUILD_TIMEOUT` is not a positive number.
    """
    text = os.environ.get("FEWPAIRS_BUILD_TIMEOUT") or str(TIME_LIMIT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise Unavailable(f"FEWPAIRS_BUILD_TIMEOUT={text!r} must be a number of seconds above 0")
    return seconds


def command() -> tuple[str, ...]:
    """Return the command of the compiler: `CXX`, else the first of g++, clang++ and c++ that exists.

    Raises:
        Unavailable: there is no compiler.
    """
    named = os.environ.get("CXX", "").strip()
    if named:
        try:
            words = shlex.split(named)
        except ValueError as error:
            raise Unavailable(f"CXX={named!r} is not a command: {error}") from error
        if shutil.which(words[0]) is None:
            raise Unavailable(f"the C++ compiler that CXX names, {words[0]!r}, was not found")
        return tuple(words)
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return (name,)
    raise Unavailable("no C++ compiler was found (g++, clang++ or c++); install one, or set CXX to yours")


@functools.lru_cache(maxsize=8)
def version(words: tuple[str, ...], seconds: float) -> str:
    """Return the path and the version text of the compiler.

    Raises:
        Unavailable: the compiler does not run.
    """
    return f"{shutil.which(words[0])}\n{run([*words, '--version'], min(seconds, 30.0))}"


def options(words: tuple[str, ...], seconds: float, level: machine.Level) -> tuple[str, ...]:
    """Return the compiler options; `-ffast-math` is not among them, since NaN and infinity are used."""
    # Clang's -fopenmp needs another runtime than PyTorch's; the kernels start threads through `parallel.h`.
    openmp = "-fopenmp-simd" if "clang" in version(words, seconds) else "-fopenmp"
    return (*OPTIONS, openmp, *level.options)


def compile_library(
    words: tuple[str, ...], options: Sequence[str], source: Path, include: Path, out: Path, seconds: float
) -> None:
    """Compile `source` into the shared library `out`; its threads come from PyTorch's runtime.

    Linking is a separate step, so that the compiler adds no OpenMP runtime.

    Raises:
        Unavailable: the compiler fails, or takes longer than `seconds`.
    """
    made = out.with_suffix(".o")
    pool = machine.pool_of_torch()
    run([*words, *options, f"-I{include}", "-c", str(source), "-o", str(made)], seconds)
    # The sources use only the weak symbol `GOMP_parallel`, so a linker may omit the runtime.
    linked = ["-Wl,--no-as-needed", str(pool[0])] if pool else []
    run([*words, "-shared", str(made), *linked, "-o", str(out)], seconds)
    if not out.exists():
        raise Unavailable(f"the C++ compiler {Path(words[0]).name} succeeded, but wrote no file")


def run(arguments: Sequence[str], seconds: float) -> str:
    """Return the output of a compiler.

    On timeout, or when this process is interrupted, the compiler and its child processes are ended.

    Raises:
        Unavailable: the compiler fails, or takes longer than `seconds`.
    """
    name = Path(arguments[0]).name
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"the C++ compiler {name} does not start: {error.strerror or error}") from error
    try:
        output = process.communicate(timeout=seconds)[0].decode(errors="replace")
    except BaseException as error:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Unavailable(
                f"the C++ compiler {name} was stopped after {seconds:g} s; FEWPAIRS_BUILD_TIMEOUT sets a longer limit"
            ) from error
        raise
    if process.returncode:
        raise Unavailable(f"the C++ compiler {name} failed ({_error_line(output, process.returncode)})")
    return output


def _error_line(output: str, status: int) -> str:
    """Return the first output line that contains an error, else the last line, else the status."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if "error" in line.lower()]
    return (wrong or lines[-1:] or [f"status {status}"])[0][:300]
