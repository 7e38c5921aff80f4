"""The task of semantic segmentation: loss with ignored pixels, label maps at native size."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.task import Semantic
from fewpairs.types import IGNORE, Scene, SemanticBatch

CLASSES = tuple("abcde")


def batch(label):
    return SemanticBatch(torch.zeros(len(label), 3, *label.shape[1:]), label, tuple(map(str, range(len(label)))))


def test_loss_is_the_mean_over_scored_pixels():
    logits, label = torch.randn(2, 5, 6, 7), torch.randint(0, 5, (2, 6, 7))
    label[0, :3] = IGNORE
    found = Semantic(CLASSES).loss(logits, batch(label))
    scored = label != IGNORE
    expected = F.cross_entropy(logits.movedim(1, -1)[scored], label[scored])
    assert found.keys() == {"ce"}
    assert torch.allclose(found["ce"], expected)


def test_a_batch_without_scored_pixels_has_no_loss_and_finite_gradients():
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    loss = Semantic(CLASSES).loss(logits, batch(torch.full((1, 4, 4), IGNORE)))["ce"]
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_the_auxiliary_head_counts_four_tenths():
    task = Semantic(CLASSES, auxiliary=True)
    logits, label = torch.randn(1, 5, 4, 4), torch.randint(0, 5, (1, 4, 4))
    terms = task.loss({"out": logits, "aux": [logits]}, batch(label))
    assert torch.allclose(terms["aux/ce"], 0.4 * terms["ce"])
    with pytest.raises(InputError, match="no auxiliary heads"):
        task.loss({"out": logits, "aux": []}, batch(label))
    with pytest.raises(InputError, match="aux_weight"):
        Semantic(CLASSES, auxiliary=True, aux_weight=0)


@given(
    classes=st.integers(2, 40),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    native=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_labels_are_the_highest_of_the_resized_logits(classes, size, native):
    logits = torch.randn(2, classes, *size)
    found = Semantic([str(k) for k in range(classes)]).labels(logits, native)
    expected = F.interpolate(logits, size=native, mode="bilinear", align_corners=False) if size != native else logits
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), expected.argmax(dim=1))


def test_of_equal_classes_the_first_wins_and_broken_pixels_have_no_class():
    logits = torch.zeros(1, 20, 1, 3)
    logits[0, 18, 0, 1] = 1.0
    logits[0, 17, 0, 2] = float("nan")
    task = Semantic([str(k) for k in range(20)])
    assert task.labels(logits, (1, 3)).tolist() == [[[0, 18, IGNORE]]]


def test_prediction_has_the_size_of_the_truth():
    item = Scene("x", "x", torch.zeros(1, 3, 8, 8), torch.zeros(11, 13, dtype=torch.uint8))
    assert Semantic(CLASSES).predict(torch.randn(1, 5, 8, 8), item).shape == (1, 11, 13)


def test_what_does_not_fit_is_refused():
    task = Semantic(CLASSES)
    with pytest.raises(InputError, match=r"expected logits \[s 5 H W\]"):
        task.loss(torch.zeros(1, 4, 2, 2), batch(torch.zeros(1, 2, 2, dtype=torch.long)))
    with pytest.raises(InputError, match="for labels"):
        task.loss(torch.zeros(1, 5, 2, 3), batch(torch.zeros(1, 2, 2, dtype=torch.long)))
    with pytest.raises(InputError, match="2 to 255 different names"):
        Semantic(("a",))
