"""The loss against a plain formula in double precision, and what its two terms tell."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.self_distillation.task import SelfDistillation
from fewpairs.types import Crops, DistillationOutputs, Exemplars

CLASSES = tuple(map(str, range(10)))
TASK = SelfDistillation(CLASSES)


def outputs(
    views: int = 4, seen: int = 2, images: int = 3, size: int = 7, temperature: float = 0.05, scale: float = 0.5
) -> DistillationOutputs:
    student = (scale * torch.randn(views, images, size)).requires_grad_()
    return DistillationOutputs(student, scale * torch.randn(seen, images, size), 0.1 * torch.randn(size), temperature)


def batch(images: int = 3) -> Crops:
    return Crops((torch.zeros(images, 1, 8, 8),) * 2, tuple(map(str, range(images))))


def plain(one: DistillationOutputs, temperature: float = 0.1) -> float:
    """Pair by pair, image by image, output by output."""
    total, pairs = 0.0, 0
    for g, teacher in enumerate(one.teacher.double()):
        for v, student in enumerate(one.student.detach().double()):
            if v == g:
                continue
            pairs += 1
            for t, s in zip(teacher, student, strict=True):
                p = [math.exp(x) for x in ((t - one.centre.double()) / one.temperature).tolist()]
                q = [math.exp(x) for x in (s / temperature).tolist()]
                total -= sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True)) / len(teacher)
    return total / pairs


@given(st.integers(2, 5), st.integers(1, 3), st.integers(1, 3), st.floats(0.03, 0.2), st.integers(0, 99))
def test_the_published_formula(views: int, seen: int, images: int, temperature: float, seed: int) -> None:
    torch.manual_seed(seed)
    one = outputs(views, min(seen, views), images, temperature=temperature)
    terms = TASK.loss(one, batch(images))
    assert float(sum(value.detach() for value in terms.values())) == pytest.approx(plain(one), rel=1e-5, abs=1e-6)


def test_the_gradient_is_the_cross_entropys() -> None:
    """Softmax's well-known one: student minus teacher, over the temperature, for each pair; the entropy adds none."""
    one = outputs()
    terms = TASK.loss(one, batch())
    assert not terms["entropy"].requires_grad
    (gradient,) = torch.autograd.grad(terms["divergence"], one.student)
    teacher = ((one.teacher - one.centre) / one.temperature).softmax(-1)
    student = (one.student.detach() / 0.1).softmax(-1)
    expected = torch.stack(
        [sum((student[v] - teacher[g] for g in range(2) if g != v), torch.zeros(())) for v in range(4)]
    )
    torch.testing.assert_close(gradient, expected / (0.1 * 6 * 3))


def test_terms_tell_a_collapse() -> None:
    constant = torch.randn(7).expand(2, 3, 7)
    same = DistillationOutputs(2 * constant.repeat(2, 1, 1), constant, torch.zeros(7), 0.05)
    terms = TASK.loss(same, batch())
    assert float(terms["divergence"]) == pytest.approx(0, abs=1e-5)
    centred = TASK.loss(DistillationOutputs(same.student, constant, constant[0, 0], 0.05), batch())
    assert float(centred["entropy"]) == pytest.approx(math.log(7))
    one_hot = 5 * torch.eye(7)[0].expand(2, 3, 7)
    sharp = TASK.loss(DistillationOutputs(same.student, one_hot, torch.zeros(7), 0.05), batch())
    assert float(sharp["entropy"]) == pytest.approx(0, abs=1e-6)


def test_half_precision_is_computed_in_single() -> None:
    one = outputs()
    low = DistillationOutputs(one.student.bfloat16(), one.teacher.bfloat16(), one.centre, one.temperature)
    again = DistillationOutputs(low.student.float(), low.teacher.float(), one.centre, one.temperature)
    with torch.autocast("cpu", torch.bfloat16):
        terms = TASK.loss(low, batch())
    expected = TASK.loss(again, batch())
    for name, value in terms.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name])


def test_features_become_unit_vectors() -> None:
    item = Exemplars(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), ("a", "b"), "bank")
    features = TASK.predict(torch.tensor([[3.0, 4.0], [0.0, -2.0]]), item)
    assert features.dtype == torch.float16
    torch.testing.assert_close(features.float(), torch.tensor([[0.6, 0.8], [0.0, -1.0]]), rtol=0, atol=1e-3)
    metric = TASK.metric()
    metric.update(features, item)
    assert metric.neighbours == 20


@pytest.mark.parametrize(
    ("one", "images", "named"),
    [
        (outputs(views=1, seen=1), 3, "the student saw 1 and the teacher 1"),
        (outputs(views=2, seen=3), 3, "the student saw 2 and the teacher 3"),
        (outputs(), 4, "views of 3 images for a batch of 4"),
    ],
)
def test_mistakes_in_the_outputs(one: DistillationOutputs, images: int, named: str) -> None:
    with pytest.raises(InputError, match=named):
        TASK.loss(one, batch(images))


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": math.nan}, {"neighbours": 0}])
def test_mistakes_in_the_settings(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        SelfDistillation(CLASSES, **options)  # type: ignore[arg-type]
