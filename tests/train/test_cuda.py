"""What differs on a CUDA device: loss scaling, numbers read late, random states of the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_toy import ToyData, make_scans, toy_fit, toy_model

from fewpairs.errors import TrainingError
from fewpairs.train import Interrupted, read_metadata
from fewpairs.train.checkpoint import read_checkpoint

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns(run_path: Path, precision: Any) -> None:
    model = toy_model()
    history = toy_fit(run_path, model, scans=make_scans(), steps=60, precision=precision, device="cuda")
    assert history.best_score > 0.9
    assert 0 < history.peak_memory_bytes < 2**30
    assert next(model.parameters()).is_cuda
    assert ("scaler" in read_metadata(run_path / "last.safetensors")) == (precision == "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_resuming_goes_on_where_it_stopped(tmp_path: Path, stop_after: Callable[[int], None], precision: Any) -> None:
    options: dict[str, Any] = {"precision": precision, "device": "cuda", "ema": 0.9, "accumulate": 2, "steps": 14}
    toy_fit(tmp_path / "through", toy_model(0.3), **options)
    stop_after(7)
    with pytest.raises(Interrupted):
        toy_fit(tmp_path / "parts", toy_model(0.3), **options)
    toy_fit(tmp_path / "parts", toy_model(0.3, seed=8), resume=True, **options)
    one, other = (read_checkpoint(tmp_path / name / "last.safetensors")[0] for name in ("through", "parts"))
    assert one.keys() == other.keys()
    assert "rng.0.cuda" in one
    assert torch.equal(one["rng.0.cuda"], other["rng.0.cuda"])
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_loss_that_is_not_finite_is_found_before_it_is_saved(run_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is not finite .* for batch .*image-7"):
        toy_fit(run_path, toy_model(), data=ToyData(spoil=7), steps=40, checkpoint_every=6, device="cuda")
    if (run_path / "last.safetensors").exists():
        saved, _ = read_checkpoint(run_path / "last.safetensors")
        assert all(value.isfinite().all() for name, value in saved.items() if name.startswith("model."))
