"""The helper process that measures memory on a CPU: it reads and answers one JSON request per line.

Start it with `python -m fewpairs.bench.server`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from dataclasses import replace
from typing import Any

import torch

from fewpairs.bench.cases import Case, OperatorCase, Pass, parse_case
from fewpairs.bench.contenders import contender
from fewpairs.bench.machine import NotMeasurable, reset_peak, status
from fewpairs.bench.timing import failure_reason


def _peak_of_run(case: Case, name: str, pass_: Pass) -> int:
    """Measure one run after a warm-up that loads libraries (small, for operators) or creates model state."""
    step = contender(case, name).prepare(pass_)
    if isinstance(case, OperatorCase):
        small = replace(case, b=1, h=1, n=min(64, case.n), topk=None if case.topk is None else min(8, case.n))
        contender(small, name).prepare(pass_)()
    else:
        step()
    gc.collect()
    before = reset_peak()
    step()
    return status("VmHWM") - before


def answer(request: dict[str, Any]) -> dict[str, int | str]:
    """Return the peak in bytes, or the reason why there is none."""
    torch.set_num_threads(int(request["threads"]))
    case = parse_case(request["case"])
    pass_: Pass = "training" if request["pass"] == "training" else "forward"
    try:
        if case is None:
            return {"why": f"{request['case']!r} is not a case"}
        return {"peak": _peak_of_run(case, request["contender"], pass_)}
    except NotMeasurable as error:
        return {"why": str(error)}
    except Exception as error:
        return {"why": failure_reason(error)}


def serve() -> None:
    """Answer requests from standard input, each in a forked child process."""
    import fewpairs.models  # noqa: F401  (imported once, for all children)

    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            with os.fdopen(writing, "w") as out:
                out.write(json.dumps(answer(json.loads(line))))
                out.flush()
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        try:
            sys.stdout.write((text or "{}") + "\n")
            sys.stdout.flush()
        except BrokenPipeError:  # the parent has ended
            os._exit(1)


if __name__ == "__main__":
    serve()
