"""Every loss: finite on empty masks, right at perfect predictions, the same on two processes as on one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.losses import LOSSES, SegmentationLoss, exclusive_target

MODES = [
    (name, exclusive)
    for name, terms in LOSSES.items()
    for exclusive in (False, True)
    if ("bce" if exclusive else "ce") not in terms
]


def example(exclusive: bool, *, batch: int = 4, classes: int = 3) -> tuple[Tensor, Tensor]:
    mask = (torch.rand(batch, classes, 8, 8) > 0.7).float()
    logits = torch.randn(batch, classes + int(exclusive), 8, 8)
    return logits, exclusive_target(mask) if exclusive else mask


@pytest.mark.parametrize(("name", "exclusive"), MODES)
class TestEveryLoss:
    def test_it_falls_when_the_logits_improve(self, name: str, exclusive: bool) -> None:
        loss = SegmentationLoss(name, exclusive=exclusive)
        _, target = example(exclusive)
        right, unsure, wrong = (
            sum(loss(scale * (2 * target - 1), target).values(), torch.zeros(())) for scale in (12.0, 0.0, -12.0)
        )
        assert right < unsure < wrong
        assert right < 0.02

    @pytest.mark.parametrize("classes", [1, 3])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_empty_and_full_masks_give_finite_losses_and_gradients(
        self, name: str, exclusive: bool, classes: int, scale: float
    ) -> None:
        loss = SegmentationLoss(name, exclusive=exclusive)
        for value in (0.0, 1.0):
            mask = torch.full((2, classes, 8, 8), value)
            target = exclusive_target(mask) if exclusive else mask
            logits = (scale * torch.randn(2, classes + int(exclusive), 8, 8)).requires_grad_()
            total = sum(loss(logits, target).values(), torch.zeros(()))
            total.backward()
            assert torch.isfinite(total)
            assert logits.grad is not None
            assert torch.isfinite(logits.grad).all()

    def test_the_mean_of_two_processes_is_the_loss_of_one(self, name: str, exclusive: bool) -> None:
        loss = SegmentationLoss(name, exclusive=exclusive)
        logits, target = example(exclusive)
        whole = loss(logits, target)
        halves = [loss(logits[part], target[part]) for part in (slice(0, 2), slice(2, 4))]
        for term, value in whole.items():
            torch.testing.assert_close((halves[0][term] + halves[1][term]) / 2, value)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_it_is_reckoned_in_float32_under_autocast(self, name: str, exclusive: bool, dtype: torch.dtype) -> None:
        loss = SegmentationLoss(name, exclusive=exclusive)
        logits, target = example(exclusive)
        logits = logits.to(dtype)
        with torch.autocast("cpu", dtype=dtype):
            inside = loss(logits, target)
        outside = loss(logits.float(), target)
        assert set(inside) == set(LOSSES[name])
        for term, value in inside.items():
            assert value.dtype == torch.float32
            assert value.shape == ()
            torch.testing.assert_close(value, outside[term])


def test_dice_is_the_mean_over_images_and_foreground_classes() -> None:
    logits, target = example(False)
    p = logits.sigmoid()
    overlap = (2 * (p * target).sum((2, 3)) + 1) / (p.sum((2, 3)) + target.sum((2, 3)) + 1)
    torch.testing.assert_close(SegmentationLoss("dice", exclusive=False)(logits, target)["dice"], (1 - overlap).mean())
    logits, target = example(True)
    p, t = logits.softmax(1)[:, 1:], target[:, 1:]
    overlap = (2 * (p * t).sum((2, 3)) + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1)
    torch.testing.assert_close(SegmentationLoss("dice", exclusive=True)(logits, target)["dice"], (1 - overlap).mean())


def test_bce_and_ce_are_pytorch_s() -> None:
    logits, target = example(False)
    torch.testing.assert_close(
        SegmentationLoss("bce+dice", exclusive=False)(logits, target)["bce"],
        F.binary_cross_entropy_with_logits(logits, target),
    )
    logits, target = example(True)
    torch.testing.assert_close(
        SegmentationLoss("dice+ce", exclusive=True)(logits, target)["ce"], F.cross_entropy(logits, target)
    )


def test_tversky_charges_a_missed_pixel_more_than_an_invented_one() -> None:
    loss = SegmentationLoss("tversky", exclusive=False)
    target = torch.zeros(1, 1, 8, 8)
    target[..., :4] = 1.0
    exact = 40 * target - 20
    missed, invented = exact.clone(), exact.clone()
    missed[..., 3] = -20
    invented[..., 4] = 20
    assert loss(missed, target)["tversky"] > loss(invented, target)["tversky"]


@given(st.integers(0, 7))
def test_where_classes_overlap_the_last_one_wins(bits: int) -> None:
    mask = torch.tensor([[bits >> j & 1 for j in range(3)]], dtype=torch.float32).view(1, 3, 1, 1)
    target = exclusive_target(mask)
    assert target.shape == (1, 4, 1, 1)
    assert target.sum() == 1
    assert target.argmax(dim=1).item() == bits.bit_length()


def test_an_unknown_loss_offers_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown loss 'bce\+dise'; did you mean 'bce\+dice'"):
        SegmentationLoss("bce+dise", exclusive=False)


@pytest.mark.parametrize(("name", "exclusive", "wrong"), [("bce+dice", True, "bce"), ("ce", False, "ce")])
def test_a_loss_of_the_other_kind_is_refused_with_what_fits(name: str, exclusive: bool, wrong: str) -> None:
    with pytest.raises(InputError, match=rf"its term '{wrong}'.*choose one of .*focal"):
        SegmentationLoss(name, exclusive=exclusive)
