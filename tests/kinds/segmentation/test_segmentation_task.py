"""The task: channels, auxiliary outputs, decisions at native size, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.types import Geometry, Scan, SegmentationBatch

CLASSES = ("large_bowel", "small_bowel", "stomach")


def batch_of(size: int = 2) -> SegmentationBatch:
    mask = (torch.rand(size, 3, 8, 8) > 0.6).float()
    return SegmentationBatch(torch.rand(size, 1, 8, 8), mask, tuple(str(i) for i in range(size)))


@pytest.mark.parametrize(("exclusive", "channels", "terms"), [(False, 3, {"bce", "dice"}), (True, 4, {"dice", "ce"})])
def test_channels_and_default_loss_follow_from_exclusiveness(exclusive: bool, channels: int, terms: set[str]) -> None:
    task = Segmentation(CLASSES, exclusive=exclusive)
    assert task.channels == channels
    assert set(task.loss(torch.randn(2, channels, 8, 8), batch_of())) == terms


@given(st.floats(0.05, 2.0), st.integers(1, 3))
def test_auxiliary_outputs_add_their_loss_times_the_weight(weight: float, heads: int) -> None:
    task = Segmentation(CLASSES, auxiliary=True, aux_weight=weight)
    batch = batch_of()
    logits = [torch.randn(2, 3, 8, 8) for _ in range(heads + 1)]
    terms = task.loss({"out": logits[0], "aux": logits[1:]}, batch)
    alone = [task.loss(each, batch) for each in logits]
    for name in ("bce", "dice"):
        torch.testing.assert_close(terms[name], alone[0][name])
        expected = weight * torch.stack([each[name] for each in alone[1:]]).sum()
        torch.testing.assert_close(terms[f"aux/{name}"], expected)


def test_asking_a_model_without_auxiliary_heads_is_refused() -> None:
    with pytest.raises(InputError, match="no auxiliary heads"):
        Segmentation(CLASSES, auxiliary=True).loss({"out": torch.randn(2, 3, 8, 8), "aux": []}, batch_of())


def test_the_gradient_reaches_every_output() -> None:
    task = Segmentation(CLASSES, auxiliary=True)
    logits = [torch.randn(2, 3, 8, 8, requires_grad=True) for _ in range(3)]
    terms = task.loss({"out": logits[0], "aux": logits[1:]}, batch_of())
    torch.stack(list(terms.values())).sum().backward()
    for each in logits:
        assert each.grad is not None
        assert each.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 3, 8, 4), (1, 3, 8, 8)])
def test_logits_that_do_not_fit_the_masks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="3 classes need a model with 3 output channels"):
        Segmentation(CLASSES).loss(torch.zeros(shape), batch_of())


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.booleans(),
    st.sampled_from(["resize", "pad"]),
)
def test_masks_come_at_native_size(native: tuple[int, int], more: tuple[int, int], exclusive: bool, fit: str) -> None:
    task = Segmentation(CLASSES, exclusive=exclusive)
    model = (native[0] + more[0], native[1] + more[1])
    geometry = Geometry(native, model, fit)  # type: ignore[arg-type]
    masks = task.masks(torch.randn(3, task.channels, *model), geometry)
    assert masks.shape == (3, 3, *native)
    assert masks.dtype == torch.bool
    if exclusive:
        assert masks.sum(dim=1).max() <= 1


def test_a_padded_mask_comes_back_where_it_was() -> None:
    mask = torch.rand(2, 3, 7, 5) > 0.5
    geometry = Geometry((7, 5), (10, 9), "pad")
    logits = geometry.apply(20 * mask.float() - 10, value=10.0)
    assert torch.equal(Segmentation(CLASSES).masks(logits, geometry), mask)


@given(st.floats(0.05, 0.95))
def test_the_threshold_is_a_probability(threshold: float) -> None:
    task = Segmentation(CLASSES, threshold=threshold)
    logits = torch.linspace(-4, 4, 3 * 64).view(1, 3, 8, 8)
    assert torch.equal(task.masks(logits, Geometry((8, 8), (8, 8))), logits.sigmoid() > threshold)


def test_exclusive_classes_take_the_most_probable() -> None:
    task = Segmentation(CLASSES, exclusive=True)
    logits = torch.randn(2, 4, 8, 8)
    masks = task.masks(logits, Geometry((8, 8), (8, 8)))
    label = logits.argmax(dim=1)
    for j in range(3):
        assert torch.equal(masks[:, j], label == j + 1)
    torch.testing.assert_close(task.probabilities(logits), logits.softmax(1)[:, 1:])


@pytest.mark.parametrize("exclusive", [False, True])
def test_slices_are_decided_alone(exclusive: bool) -> None:
    task = Segmentation(CLASSES, exclusive=exclusive)
    logits = torch.randn(70, task.channels, 6, 6)
    geometry = Geometry((9, 4), (6, 6))
    together = task.masks(logits, geometry)
    alone = torch.cat([task.masks(part, geometry) for part in logits.split(1)])
    assert torch.equal(together, alone)


def test_half_precision_logits_are_decided_in_float32() -> None:
    logits = torch.randn(2, 3, 8, 8).bfloat16()
    task, geometry = Segmentation(CLASSES), Geometry((11, 11), (8, 8))
    assert torch.equal(task.masks(logits, geometry), task.masks(logits.float(), geometry))
    assert task.probabilities(logits).dtype == torch.float32


def test_wrong_logits_are_refused() -> None:
    task = Segmentation(CLASSES)
    with pytest.raises(InputError, match="given to the model at 8x8"):
        task.masks(torch.zeros(1, 3, 6, 6), Geometry((4, 4), (8, 8)))
    with pytest.raises(InputError, match=r"expected logits \[s 3 H W\], got \[1, 4, 8, 8\]"):
        task.masks(torch.zeros(1, 4, 8, 8), Geometry((4, 4), (8, 8)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": []}, "list of different names"),
        ({"classes": "stomach"}, "list of different names"),
        ({"classes": ["a", "a"]}, "list of different names"),
        ({"threshold": 0.0}, "threshold must be a probability"),
        ({"threshold": 30}, "threshold must be a probability"),
        ({"exclusive": True, "threshold": 0.4}, "no meaning for exclusive classes"),
        ({"auxiliary": True, "aux_weight": 0.0}, "aux_weight must be positive"),
        ({"aux_weight": -1.0}, "aux_weight must be positive"),
        ({"loss": "dise"}, "did you mean 'dice'"),
        ({"loss": "bce+dice", "exclusive": True}, "does not fit exclusive"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Segmentation(**({"classes": CLASSES} | arguments))  # type: ignore[arg-type]


def test_a_right_prediction_scores_full_marks() -> None:
    mask = torch.zeros(4, 3, 12, 10, dtype=torch.bool)
    mask[1:3, 0, 2:6, 2:6] = mask[1:3, 1, 5:9, 3:7] = mask[2, 2, 1:4, 1:4] = True
    geometry = Geometry((12, 10), (12, 10))
    scan = Scan("day0", "case1", torch.zeros(4, 1, 12, 10), mask, (3.0, 1.5, 1.5), geometry, ("1", "2", "3", "4"))
    task = Segmentation(CLASSES)
    metric = task.metric()
    metric.update(task.predict(20 * mask.float() - 10, scan), scan)
    scores = metric.compute()
    assert (scores["jaccard"], scores["dice"], scores["hd95_mm"]) == (1.0, 1.0, 0.0)
    assert scores["kaggle"] == pytest.approx(1.0)


def test_each_metric_is_fresh_and_has_the_task_s_settings() -> None:
    task = Segmentation(CLASSES, surface=False, rule=EmptyRule.CREDIT)
    first, second = task.metric(), task.metric()
    assert first is not second
    assert (first.classes, first.scoring.empty, first.surface) == (CLASSES, EmptyRule.CREDIT, False)
