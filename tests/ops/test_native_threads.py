"""The threads of C++ kernels: PyTorch's own, as many as are asked for, and none after a fork."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from native_toy import INT, LONG, POINTER, SOURCE, doubled, needs_compiler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fewpairs.ops.native import Library, check

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Library:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWPAIRS_CACHE", str(tmp_path_factory.mktemp("cache")))
        library = Library("toy", SOURCE)
        assert library.unavailable() is None
    return library


def meet(toy: Library, threads: int, ms: int) -> bool:
    """Whether two tasks run at the same time on `threads` threads."""
    met = torch.zeros(1, dtype=torch.int32)
    check(toy.function("toy_meet", INT, INT, INT, POINTER)(2, threads, ms, met.data_ptr()), "toy")
    return bool(met.item())


def test_one_openmp_runtime_serves_pytorch_and_the_kernels(toy: Library) -> None:
    assert meet(toy, 2, 10_000)
    torch.randn(600, 600) @ torch.randn(600, 600)
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    # libraries that other tests import, such as scikit-learn, bring one for themselves in NAME.libs
    ours = {file for file in mapped if not Path(file).parent.name.endswith(".libs")}
    runtimes = {file for file in ours if Path(file).name.startswith(("libgomp", "libomp", "libiomp"))}
    assert len(runtimes) == 1


@pytest.mark.parametrize("threads", [-1, 0, 1, 2, 3])
def test_as_many_threads_as_asked_for(toy: Library, threads: int) -> None:
    given, system = torch.full((2, 400), -1)
    check(
        toy.function("toy_threads", POINTER, POINTER, LONG, INT)(given.data_ptr(), system.data_ptr(), 400, threads), ""
    )
    assert set(given.tolist()) <= set(range(max(1, threads)))
    assert len(system.unique()) <= max(1, threads)
    pairs = set(zip(given.tolist(), system.tolist(), strict=True))
    assert len(pairs) == len({number for number, _ in pairs})


def test_two_threads_work_at_once_and_one_does_not(toy: Library) -> None:
    assert meet(toy, 2, 10_000)
    assert not meet(toy, 1, 30)


@pytest.mark.parametrize("tasks", [0, 1, 2, 7])
def test_every_task_once_however_few(toy: Library, tasks: int) -> None:
    x = torch.arange(float(tasks))
    assert torch.equal(doubled(toy, x, threads=4), 2 * x)


def in_child(work: object) -> int:
    """The exit status of a forked child that calls `work`; -SIGALRM when it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os._exit(0 if work() else 1)  # type: ignore[operator]
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_works_alone_and_does_not_hang(toy: Library) -> None:
    x = torch.arange(1000.0)
    assert torch.equal(doubled(toy, x, threads=2), 2 * x)

    def work() -> bool:
        grandchild = in_child(lambda: torch.equal(doubled(toy, x, threads=2), 2 * x))
        return torch.equal(doubled(toy, x, threads=2), 2 * x) and not meet(toy, 2, 30) and grandchild == 0

    assert in_child(work) == 0
    assert meet(toy, 2, 10_000)


@pytest.mark.parametrize("cxx", ["g++", "g++ -fno-gnu-unique"])
def test_a_library_that_is_loaded_after_the_fork_does_not_hang(
    cxx: str, toy: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the option, as with Clang, libraries of one process share no variable."""
    assert meet(toy, 2, 10_000)
    monkeypatch.setenv("FEWPAIRS_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", cxx)
    x = torch.arange(1000.0)
    assert in_child(lambda: torch.equal(doubled(Library("later", SOURCE), x, threads=2), 2 * x)) == 0


class Doubles(Dataset[Tensor]):
    """A data set whose items come from the kernel."""

    def __init__(self, toy: Library) -> None:
        self.toy = toy

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        return doubled(self.toy, torch.full((500,), float(index)), threads=2)


def test_workers_of_a_data_loader_after_first_use(toy: Library) -> None:
    assert meet(toy, 2, 10_000)
    loader = DataLoader(Doubles(toy), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=30)
    assert torch.cat(list(loader))[:, 0].tolist() == [0, 2, 4, 6, 8, 10]
