"""The task: losses with hard and mixed labels against PyTorch's and timm's, what the metric gets, and refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor
from torch.nn import functional as F

from fewpairs.errors import InputError
from fewpairs.kinds.classification.task import Classification
from fewpairs.types import Labelled

CLASSES = ("cat", "dog", "fox", "owl")


def batch_of(label: Tensor) -> Labelled:
    return Labelled(torch.zeros(len(label), 1, 4, 4), label, tuple(str(index) for index in range(len(label))))


def mixed(images: int) -> Tensor:
    return torch.rand(images, 4).softmax(dim=1)


@given(st.integers(1, 6), st.floats(0, 0.9))
def test_cross_entropy_is_pytorch_s_and_timm_s(images: int, smoothing: float) -> None:
    logits, label = torch.randn(images, 4), torch.randint(4, (images,))
    (value,) = Classification(CLASSES, smoothing=smoothing).loss(logits, batch_of(label)).values()
    torch.testing.assert_close(value, F.cross_entropy(logits, label, label_smoothing=smoothing))
    torch.testing.assert_close(value, LabelSmoothingCrossEntropy(smoothing)(logits, label))


@given(st.integers(1, 6), st.floats(0, 0.9))
def test_binary_cross_entropy_is_timm_s(images: int, smoothing: float) -> None:
    logits, label = torch.randn(images, 4), torch.randint(4, (images,))
    terms = Classification(CLASSES, smoothing=smoothing, loss="bce").loss(logits, batch_of(label))
    assert terms.keys() == {"bce"}
    torch.testing.assert_close(terms["bce"], BinaryCrossEntropy(smoothing=smoothing)(logits, label))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_mixed_labels_are_smoothed_as_timm_s_mixup_smooths_them(smoothing: float) -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 3, 1, 2, 2, 0])
    smooth = mixup_target(labels, 4, lam=0.7, smoothing=smoothing)
    plain = mixup_target(labels, 4, lam=0.7, smoothing=0.0)
    ce = Classification(CLASSES, smoothing=smoothing).loss(logits, batch_of(plain))
    torch.testing.assert_close(ce["ce"], SoftTargetCrossEntropy()(logits, smooth))
    bce = Classification(CLASSES, smoothing=smoothing, loss="bce").loss(logits, batch_of(plain))
    torch.testing.assert_close(bce["bce"], F.binary_cross_entropy_with_logits(logits, smooth))


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_a_label_that_is_certain_is_the_same_hard_and_mixed(loss: str) -> None:
    task, logits, label = Classification(CLASSES, loss=loss), torch.randn(5, 4), torch.randint(4, (5,))  # type: ignore[arg-type]
    hard = task.loss(logits, batch_of(label))
    soft = task.loss(logits, batch_of(F.one_hot(label, 4).float()))
    torch.testing.assert_close(hard[loss], soft[loss])


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_half_precision_logits_lose_nothing_and_gradients_reach_them(loss: str) -> None:
    logits = torch.randn(5, 4).bfloat16().requires_grad_()
    task, batch = Classification(CLASSES, loss=loss), batch_of(torch.randint(4, (5,)))  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        value = task.loss(logits, batch)[loss]
    assert value.dtype == torch.float32
    assert value == task.loss(logits.float(), batch)[loss]
    value.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


def test_the_metric_gets_float32_logits_image_by_image() -> None:
    task, logits = Classification(CLASSES), torch.randn(6, 4)
    item = batch_of(torch.tensor([0, 1, 2, 3, 0, 1]))
    together = task.predict(logits, item)
    assert torch.equal(together, torch.cat([task.predict(part, item) for part in logits.split(4)]))
    assert task.predict(logits.bfloat16(), item).dtype == torch.float32
    metric = task.metric()
    metric.update(20 * F.one_hot(item.label, 4).float(), item)
    scores = metric.compute()
    assert (scores["top1"], scores["balanced_accuracy"]) == (1.0, 1.0)
    assert task.metric() is not metric
    assert task.metric().records == []


def test_probabilities_are_the_softmax() -> None:
    logits = torch.randn(3, 4)
    torch.testing.assert_close(Classification(CLASSES, loss="bce").probabilities(logits), logits.softmax(dim=1))


def test_what_training_asks_for() -> None:
    task = Classification(list(CLASSES))
    assert (task.auxiliary, task.channels, task.classes) == (False, 4, CLASSES)


@pytest.mark.parametrize(
    ("outputs", "label", "message"),
    [
        (torch.zeros(2, 5), torch.zeros(2).long(), r"4 classes need a model that returns logits \[images, 4\]"),
        (torch.zeros(2, 4, 1, 1), torch.zeros(2).long(), r"got \[2, 4, 1, 1\]"),
        ({"out": torch.zeros(2, 4)}, torch.zeros(2).long(), "got dict"),
        (torch.zeros(2, 4), torch.zeros(3).long(), r"2 images need as many class indices, got labels \[3\]"),
        (torch.zeros(2, 4), torch.zeros(2, 3), r"mixed labels must be probabilities \[2, 4\]"),
        (torch.zeros(2, 4), torch.zeros(2), r"mixed labels must be .* got \[2\]"),
    ],
)
def test_outputs_and_labels_that_do_not_fit_are_refused(outputs: Tensor, label: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Classification(CLASSES).loss(outputs, batch_of(label))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": []}, "list of different names, at least two"),
        ({"classes": ["one"]}, "at least two"),
        ({"classes": "cats"}, "list of different names"),
        ({"classes": ["a", "a"]}, "list of different names"),
        ({"smoothing": -0.1}, "smoothing must be a share"),
        ({"smoothing": 1.0}, "smoothing must be a share"),
        ({"smoothing": float("nan")}, "smoothing must be a share"),
        ({"loss": "bcee"}, "unknown loss 'bcee'; did you mean 'bce'"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Classification(**({"classes": CLASSES} | arguments))  # type: ignore[arg-type]
