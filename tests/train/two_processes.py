"""What two processes do together; `test_processes.py` starts it with torchrun and reads what it leaves."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from train_toy import ToyData, ToyTask, make_scans, toy_fit, toy_model

from fewpairs.errors import FewpairsError
from fewpairs.train import evaluate, leave_processes
from fewpairs.train.recorder import RunRecorder


def main(folder: Path) -> None:
    warnings.simplefilter("error")
    rank = int(os.environ["RANK"])
    scans = make_scans(count=5)
    metric = evaluate(toy_model(), ToyTask(), scans, device="cpu", batch_size=2)
    said: dict[str, object] = {"records": metric.records}

    model = toy_model()
    options = {"batch_size": 2, "accumulate": 2, "steps": 9, "scans": scans, "evaluate_every": 4, "ema": 0.9}
    history = toy_fit(folder / "two", model, **options)
    said["scores"] = [evaluation.scores for evaluation in history.evaluations] if rank == 0 else None
    said["best_step"] = history.best_step
    said["weights"] = {name: p.tolist() for name, p in model.named_parameters()}

    def failure(name: str, **changed: object) -> str:
        arguments = {"model": toy_model(), **options, **changed}
        try:
            toy_fit(folder / name, arguments.pop("model"), **arguments)
        except FewpairsError as error:
            return f"{type(error).__name__}: {error}"
        return "nothing failed"

    said["batch_norm"] = failure("norm", model=toy_model(batch_norm=True))
    said["not_finite"] = failure("nan", data=ToyData(spoil=7), scans=None, steps=30)
    said["exists"] = failure("two")

    # A signal that reaches only one of them stops both after the same step.
    counted = RunRecorder.step

    def step(recorder: RunRecorder) -> None:
        counted(recorder)
        if rank == 1 and recorder.position.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    RunRecorder.step = step  # type: ignore[method-assign]
    said["interrupted"] = failure("parts", log_every=3)
    RunRecorder.step = counted  # type: ignore[method-assign]
    resumed = toy_model(seed=8)
    toy_fit(folder / "parts", resumed, resume=True, **(options | {"log_every": 3}))
    said["resumed"] = {name: p.tolist() for name, p in resumed.named_parameters()}
    (folder / f"rank-{rank}.json").write_text(json.dumps(said))
    leave_processes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
