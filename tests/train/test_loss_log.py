from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewpairs.errors import TrainingError
from fewpairs.train import RunFolder
from fewpairs.train.loss_log import LossLog

NAN, INF, FINE = torch.tensor(float("nan")), torch.tensor(float("inf")), torch.tensor(1.0)


def make_log(folder: Path, *, eager: bool = False, scaled: bool = False) -> LossLog:
    return LossLog(RunFolder(folder), eager=eager, scaled=scaled)


def test_means_are_over_passes_since_the_last_drain(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for step in range(1, 4):
        for index in range(2):
            log.add({"dice": FINE * step, "bce": FINE * index}, ("a",))
        log.close(step, FINE * 2 * step)
    assert log.drain() == {"loss": 2.5, "terms": {"dice": 2.0, "bce": 0.5}, "grad_norm": 4.0}
    log.add({"dice": FINE * 7}, ("a",))
    log.close(4, FINE)
    assert log.drain() == {"loss": 7.0, "terms": {"dice": 7.0}, "grad_norm": 1.0}


def test_a_late_check_still_names_the_first_bad_step_and_its_batch(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for step in range(1, 9):
        bad = step >= 5
        log.add({"dice": FINE, "bce": FINE}, (f"good-{step}",))
        log.add({"dice": FINE, "bce": INF if bad else FINE}, (f"image-{step}",))
        log.close(step, NAN if bad else FINE)
    with pytest.raises(
        TrainingError, match=r"stopped at step 5: the loss is not finite \(dice 1, bce inf\) for batch image-5\."
    ):
        log.drain()


def test_eager_ledgers_notice_at_once_and_others_within_fifty_steps(tmp_path: Path) -> None:
    for eager, noticed in ((True, 1), (False, 50)):
        log = make_log(tmp_path, eager=eager)
        for step in range(1, noticed):
            log.add({"bce": NAN}, ("a",))
            log.close(step, NAN)
        log.add({"bce": NAN}, ("a",))
        with pytest.raises(TrainingError, match="stopped at step 1:"):
            log.close(noticed, NAN)


def test_infinite_gradients_are_the_business_of_loss_scaling(tmp_path: Path) -> None:
    log = make_log(tmp_path, scaled=True)
    for step, norm in enumerate((INF, NAN, FINE * 3), start=1):
        log.add({"bce": FINE}, ("a",))
        log.close(step, norm)
    assert log.drain()["grad_norm"] == 3.0
    log.add({"bce": NAN}, ("a",))
    log.close(4, FINE)
    with pytest.raises(TrainingError, match="the loss is not finite"):
        log.check()


def test_a_gradient_alone_is_named_for_its_whole_step(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    log.add({"bce": FINE}, ("a", "b"))
    log.add({"bce": FINE}, ("c",))
    log.close(1, INF)
    with pytest.raises(TrainingError, match=r"the gradient is not finite \(norm inf\) for batch a, b, c\."):
        log.check()
