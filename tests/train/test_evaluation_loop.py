"""The evaluation loop: scores that nothing but model and items can change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from train_toy import ToyMetric, ToyTask, make_scans, toy_model

from fewpairs.errors import InputError
from fewpairs.train import evaluate
from fewpairs.types import Geometry, Scan


def test_evaluation_does_not_depend_on_the_batch_and_restores_the_mode() -> None:
    model, scans = toy_model(0.5).train(), make_scans(count=4, slices=7)
    rows = [
        evaluate(model, ToyTask(), scans, device="cpu", batch_size=batch_size).records for batch_size in (1, 3, 7, 100)
    ]
    assert rows[0] == rows[1] == rows[2] == rows[3]
    assert [row[0] for row in rows[0]] == ["scan-3", "scan-2", "scan-1", "scan-0"]
    assert model.training
    with pytest.raises(InputError, match="nothing to evaluate on"):
        evaluate(model, ToyTask(), [], device="cpu", batch_size=1)


def test_evaluation_scores_at_native_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    class Watching(ToyMetric):
        def update(self, prediction: Tensor, scan: Scan) -> None:
            shapes.append((prediction.shape, prediction.dtype))

    monkeypatch.setattr(ToyTask, "metric", lambda self: Watching([]))
    geometry = Geometry((20, 12), (8, 8))
    scan = Scan("a", "a", torch.randn(3, 1, 8, 8), torch.zeros(3, 1, 20, 12).bool(), (1.0, 1.0, 1.0), geometry, ())
    evaluate(toy_model(), ToyTask(), [scan], device="cpu", batch_size=2)
    assert shapes == [((3, 1, 20, 12), torch.bool)]


def test_loading_processes_change_no_score_and_pass_on_what_was_wrong() -> None:
    model, scans = toy_model(), make_scans(4)
    alone = evaluate(model, ToyTask(), scans, device="cpu", batch_size=2)
    helped = evaluate(model, ToyTask(), scans, device="cpu", batch_size=2, workers=2)
    assert helped.compute() == pytest.approx(alone.compute(), nan_ok=True, abs=0)

    class Damaged(list):
        def __getitem__(self, index):
            raise InputError(f"scan {index} is damaged")

    with pytest.raises(InputError, match="scan 0 is damaged"):
        evaluate(model, ToyTask(), Damaged(scans), device="cpu", batch_size=2, workers=1)
