"""Peak memory: on a GPU from PyTorch's statistics; on a CPU from the growth of the resident set of a new process.

Each measurement forks a process that has imported all modules and computed nothing, so that it contains no thread pool
and no freed memory of other contenders.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from types import TracebackType

import torch

from fewpairs.bench.cases import Case, Pass
from fewpairs.bench.contenders import Contender
from fewpairs.bench.timing import failure_reason
from fewpairs.errors import FewpairsError

METHODS = {
    "cpu": "the peak resident set of a new process during one run, minus that just before",
    "cuda": "torch.cuda.max_memory_allocated during one run, minus the allocation just before",
}


class MemoryNotMeasured(FewpairsError):  # noqa: N818  (the name reads as what happened)
    """Memory could not be measured; the message says why."""


class PeakMemory:
    """A context that measures contenders one at a time, and ends its helper process on exit."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> PeakMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.communicate()

    def measure(self, case: Case, one: Contender, pass_: Pass) -> int:
        """Return the peak memory of one run in bytes, beyond inputs, weights and other earlier memory.

        Raises:
            MemoryNotMeasured: memory cannot be measured here.
        """
        if case.device == "cuda":
            try:
                return _on_cuda(one, pass_)
            except torch.OutOfMemoryError as error:
                raise MemoryNotMeasured(failure_reason(error)) from None
        if not hasattr(os, "fork"):
            raise MemoryNotMeasured("the peak memory of a process is available only on Linux")
        server = self._started()
        request = {"case": case.name, "contender": one.name, "pass": pass_, "threads": self.threads}
        try:
            server.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]  # a pipe
            server.stdin.flush()  # type: ignore[union-attr]
            answer = json.loads(server.stdout.readline() or "{}")  # type: ignore[union-attr]
        except (OSError, ValueError):
            answer = {}
        if "peak" not in answer:
            raise MemoryNotMeasured(
                answer.get("why", "the process that measures it was ended, probably because memory ran out")
            )
        return int(answer["peak"])

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None or self._server.poll() is not None:
            command = [sys.executable, "-P", "-m", "fewpairs.bench.server"]
            self._server = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        return self._server


def _on_cuda(one: Contender, pass_: Pass) -> int:
    step = one.prepare(pass_)
    step()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - before
