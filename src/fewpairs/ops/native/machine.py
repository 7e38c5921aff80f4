"""Detects the vector instructions of this machine and the OpenMP runtime that PyTorch has loaded."""

from __future__ import annotations

import ctypes
import functools
import re
from pathlib import Path
from typing import NamedTuple

import torch


class Level(NamedTuple):
    """A set of vector instructions to compile for."""

    name: str
    needs: tuple[str, ...]
    """The names of the instructions in /proc/cpuinfo."""
    options: tuple[str, ...]
    """The compiler options of the level."""


_AVX2 = ("avx2", "fma", "bmi2", "popcnt")
_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq", *_AVX2)
LEVELS = (
    Level("AVX512", _AVX512, (*(f"-m{name}" for name in _AVX512), "-mprefer-vector-width=512")),
    Level("AVX2", _AVX2, tuple(f"-m{name}" for name in _AVX2)),
    Level("portable", (), ()),
)
"""All levels from the most to the fewest instructions; the last runs everywhere."""


def level() -> Level:
    """Return the level of PyTorch (`ATEN_CPU_CAPABILITY` may lower it), or the next lower one of this CPU."""
    name = torch.backends.cpu.get_cpu_capability().split("_")[0]
    first = next((i for i, level in enumerate(LEVELS) if level.name == name), len(LEVELS) - 1)
    return next(level for level in LEVELS[first:] if has(level))


def has(level: Level) -> bool:
    """Whether this CPU and its operating system support all instructions of `level`."""
    return cpu_flags().issuperset(level.needs)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the instructions in /proc/cpuinfo that all cores have; empty if there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return frozenset()
    cores = [frozenset(line.split()) for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)]
    return frozenset.intersection(*cores) if cores else frozenset()


class _Symbol(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def pool_entry(library: ctypes.CDLL) -> int | None:
    """Return the address of the function that starts OpenMP threads, as `library` resolves it."""
    try:
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    except AttributeError:
        return None


@functools.cache
def pool_of_torch() -> tuple[Path, int] | None:
    """Return the file of PyTorch's OpenMP runtime and its `pool_entry`; None if PyTorch has none.

    The dynamic linker provides it, since name and folder of the file differ between builds, and other packages may
    have loaded other runtimes.
    """
    try:
        address = pool_entry(ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")))
        symbol = _Symbol()
        if address is None or not ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(symbol)):
            return None
    except (OSError, AttributeError):
        return None
    return Path(symbol.file.decode()), address
