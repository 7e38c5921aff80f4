"""Loss terms and gradient norms of the steps, kept on the device until they are read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewpairs.errors import TrainingError
from fewpairs.train.processes import gather_objects
from fewpairs.train.run_folder import RunFolder

_MOST_PENDING = 50


@dataclass(frozen=True, slots=True)
class _Pass:
    ids: tuple[str, ...]
    terms: dict[str, Tensor]


class LossLog:
    """Collect the loss terms of every forward pass, and find the first step at which one is not finite.

    Reading a number from a GPU stalls it, so numbers are read together: at every step with `eager` (for a CPU),
    otherwise when they are logged, before a checkpoint is saved, and at least every 50 steps. The images' names are
    kept until then, so that the message can name the failing batch.
    """

    def __init__(self, run: RunFolder, *, eager: bool, scaled: bool) -> None:
        self.run, self.eager, self.scaled = run, eager, scaled
        self._passes: list[_Pass] = []
        self._pending: list[tuple[int, list[_Pass], Tensor]] = []
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, terms: Mapping[str, Tensor], ids: tuple[str, ...]) -> None:
        """Add one forward pass."""
        self._passes.append(_Pass(ids, {name: value.detach().float() for name, value in terms.items()}))

    def close(self, step: int, norm: Tensor) -> None:
        """End step `step` (from 1), whose whole gradient has the norm `norm`."""
        self._pending.append((step, self._passes, norm.detach().float()))
        self._passes = []
        if self.eager or len(self._pending) >= _MOST_PENDING:
            self.check()

    def check(self) -> None:
        """Read the pending numbers; if there are several processes, all must call this.

        Raises:
            TrainingError: a loss is not finite, or a gradient is not and loss scaling is off (fp16's loss scaling skips
                steps with infinite gradients by design).
        """
        flat = [value for _, passes, _ in self._pending for one in passes for value in one.terms.values()]
        flat += [norm for _, _, norm in self._pending]
        numbers = torch.stack(flat).tolist() if flat else []
        failures: list[tuple[int, str]] = []
        at = 0
        norms = numbers[len(numbers) - len(self._pending) :]
        for (step, passes, _), norm in zip(self._pending, norms, strict=True):
            for one in passes:
                values = dict(zip(one.terms, numbers[at : at + len(one.terms)], strict=True))
                at += len(values)
                if not math.isfinite(sum(values.values())):
                    failures.append((step, f"the loss is not finite ({_text(values)}) for batch {', '.join(one.ids)}"))
                for name, value in values.items():
                    self._note(name, value)
            if math.isfinite(norm):
                self._note("grad_norm", norm, prefix="")
            elif not self.scaled:
                ids = ", ".join(name for one in passes for name in one.ids)
                failures.append((step, f"the gradient is not finite (norm {norm}) for batch {ids}"))
        self._pending = []
        everywhere = gather_objects(failures)
        if everywhere:
            self._fail(everywhere)

    def _note(self, name: str, value: float, prefix: str = "terms.") -> None:
        self._sums[prefix + name] += value
        self._counts[prefix + name] += 1

    def _fail(self, failures: list[tuple[int, str]]) -> None:
        first = min(step for step, _ in failures)
        # If a loss is not finite, neither is its gradient: name the loss, which is the cause.
        reasons = sorted((reason for step, reason in failures if step == first), key=lambda r: r.startswith("the grad"))
        kept = (
            f"{self.run.last} keeps the last good state" if self.run.last.exists() else "no checkpoint was written yet"
        )
        raise TrainingError(
            f"training stopped at step {first}: {reasons[0]}. {kept}; look at these images, lower the learning rate, "
            f"or compute in bf16 or fp32 if this was fp16"
        )

    def drain(self) -> dict[str, Any]:
        """Return means since the last call, over steps, passes and processes: `loss`, `terms`, `grad_norm`."""
        self.check()
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        for rank_sums, rank_counts in gather_objects([(dict(self._sums), dict(self._counts))]):
            for name in rank_sums:
                sums[name] += rank_sums[name]
                counts[name] += rank_counts[name]
        self._sums.clear()
        self._counts.clear()
        means = {name: sums[name] / counts[name] for name in sums}
        norm = means.pop("grad_norm", None)
        terms = {name.removeprefix("terms."): value for name, value in means.items()}
        return {"loss": sum(terms.values()), "terms": terms, "grad_norm": norm}


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())
