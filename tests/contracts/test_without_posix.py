"""What other systems than Linux lack is used only where it is there: commands start, a model trains and predicts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MISSING = """
import os, signal, sys

import psutil  # which is different elsewhere: here it needs some of what is taken away

MODULES = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "crypt", "nis", "spwd"}
NAMES = ("fork", "forkpty", "killpg", "setsid", "setpgid", "getpgid", "getuid", "geteuid", "getgid", "getloadavg",
         "sysconf", "statvfs", "mkfifo", "fchmod", "fchown", "chown", "nice", "wait3", "wait4", "sched_getaffinity")
SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT", "SIGCHLD", "alarm", "setitimer")


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


for name in MODULES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for module, names in ((os, NAMES), (signal, SIGNALS)):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""
"""Takes away, in a process of its own, the modules and functions that Windows does not have."""


def without_posix(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MISSING + code, *arguments]
    environment = {**os.environ, "USERNAME": "somebody"}  # which Windows sets, and getpass reads before it asks pwd
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


COMMAND = "from fewpairs.cli import main\nsys.argv[0] = 'fewpairs'\nmain()"


def command(*arguments: str) -> str:
    done = without_posix(COMMAND, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", ["train", "predict"])
def test_commands_show_their_help(name: str) -> None:
    assert "Usage" in command(name, "--help")


def test_every_module_is_imported() -> None:
    code = """
import importlib, pkgutil, fewpairs
for module in pkgutil.walk_packages(fewpairs.__path__, "fewpairs."):
    if "triton" not in module.name and not module.name.endswith(("__main__", ".gpu")):
        importlib.import_module(module.name)
"""
    done = without_posix(code)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_run_is_trained_and_predicts(tiny: list[str], phantom: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command("train", "setr_kv_small", *tiny, "fit.steps=2", "--out", str(run))
    picture = next(phantom.rglob("slice_*.png"))
    command("predict", str(run), str(picture), "--out", str(tmp_path / "masks"))
    assert list((tmp_path / "masks").iterdir())


def test_peak_memory_says_that_it_is_not_measured() -> None:
    code = """
from fewpairs.bench.cases import parse_case
from fewpairs.bench.peak_memory import MemoryNotMeasured, PeakMemory
from types import SimpleNamespace
try:
    PeakMemory(1).measure(SimpleNamespace(device="cpu"), None, "forward")
except MemoryNotMeasured as error:
    print(error)
"""
    assert "only on Linux" in without_posix(code).stdout


def test_a_compiler_that_takes_too_long_is_ended() -> None:
    code = """
from fewpairs.ops.native.compiler import Unavailable, run
try:
    run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
except Unavailable as error:
    print(error)
"""
    assert "was stopped after 0.2 s" in without_posix(code).stdout
