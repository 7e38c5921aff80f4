"""Student and teacher: the published formulas, step by step, and a state that resumes."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, distributed, nn

from fewpairs.errors import InputError
from fewpairs.models.dino import DinoPair, ProjectionHead, TeacherSchedule


class Encoder(nn.Module):
    """Features of images of any size, with drop-out in the student's way."""

    def __init__(self, width: int = 5, drop: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 3, padding=1)
        self.drop = nn.Dropout(drop)

    def forward(self, image: Tensor) -> Tensor:
        return self.drop(F.gelu(self.embed(image)).mean(dim=(2, 3)))


def pair(*, head: dict[str, Any] | None = None, drop: float = 0.0, seed: int = 0, **schedule: Any) -> DinoPair:
    torch.manual_seed(seed)
    made = ProjectionHead(5, 7, hidden=6, bottleneck=4, **head or {})
    return DinoPair(Encoder(drop=drop), Encoder(), made, TeacherSchedule(**schedule), steps=10)


def crops(images: int = 3, seed: int = 0, local: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [8, 8, *[4] * local]
    return tuple(torch.randn(images, 1, size, size, generator=generator) for size in sizes)


def one_step(model: DinoPair, views: tuple[Tensor, ...], rate: float = 0.1, passes: int = 1) -> None:
    """A step of gradient descent on something that depends on every output of the student."""
    model.train()
    for part in zip(*(view.chunk(passes) for view in views), strict=True):
        outputs = model(part)
        (outputs.student.square().mean(dim=(0, 1)).sum() / passes).backward()
    model.before_step()
    with torch.no_grad():
        for parameter in model.student.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
                parameter.grad = None
    model.after_step()


class TestSchedule:
    def test_published_ends(self) -> None:
        schedule = TeacherSchedule(warmup=30)
        assert schedule.momentum_at(0, 100) == pytest.approx(0.996)
        assert schedule.momentum_at(50, 100) == pytest.approx(0.998)
        assert schedule.momentum_at(100, 100) == 1
        assert schedule.temperature_at(0) == pytest.approx(0.04)
        assert schedule.temperature_at(15) == pytest.approx(0.055)
        assert schedule.temperature_at(30) == schedule.temperature_at(99) == pytest.approx(0.07)

    @given(st.integers(1, 500), st.floats(0, 1), st.integers(0, 600))
    def test_momentum_rises_and_stays_a_share(self, steps: int, momentum: float, warmup: int) -> None:
        schedule = TeacherSchedule(momentum=momentum, warmup=warmup)
        shares = [schedule.momentum_at(step, steps) for step in range(steps + 2)]
        assert shares == sorted(shares)
        assert momentum - 1e-12 <= shares[0] <= shares[-1] <= 1
        assert all(0.04 <= schedule.temperature_at(step) <= 0.07 + 1e-12 for step in range(steps + 2))

    @pytest.mark.parametrize(
        ("wrong", "named"),
        [
            ({"momentum": 1.1}, r"momentum=1\.1"),
            ({"centre_momentum": -0.1}, r"centre_momentum=-0\.1"),
            ({"temperature": 0.0}, r"temperature=0\.0"),
            ({"cold_temperature": math.inf}, "cold_temperature=inf"),
            ({"warmup": -1}, "warmup=-1"),
            ({"freeze": -1}, "freeze=-1"),
        ],
    )
    def test_mistakes(self, wrong: dict[str, Any], named: str) -> None:
        with pytest.raises(InputError, match=named):
            TeacherSchedule(**wrong)


class TestHead:
    def test_logits_are_cosines(self) -> None:
        head = ProjectionHead(5, 7, hidden=6, bottleneck=4)
        features = torch.randn(3, 5)
        bottleneck = head.mlp(features)
        expected = F.cosine_similarity(bottleneck[:, None], head.direction[None], dim=-1)
        torch.testing.assert_close(head(features), expected)
        with torch.no_grad():
            head.direction.mul_(torch.rand(7, 1) + 0.5)
        torch.testing.assert_close(head(features), expected)

    def test_learned_norms_scale_them(self) -> None:
        head = ProjectionHead(5, 7, hidden=6, bottleneck=4, learn_norm=True)
        features, scale = torch.randn(3, 5), torch.rand(7, 1)
        plain = head(features)
        assert head.norm is not None
        with torch.no_grad():
            head.norm.copy_(scale)
        torch.testing.assert_close(head(features), plain * scale.T)
        assert len(head.last_layer()) == 2

    def test_published_size(self) -> None:
        with torch.device("meta"):
            head = ProjectionHead(384)
        assert sum(p.numel() for p in head.parameters()) == 384 * 2048 + 2048**2 + 2048 * 256 + 4352 + 65536 * 256

    def test_a_size_of_zero(self) -> None:
        with pytest.raises(InputError, match="outputs=0"):
            ProjectionHead(5, 0)


class TestForward:
    def test_crops_are_grouped_by_size_and_come_back_in_order(self) -> None:
        model = pair().train()
        views = crops()
        outputs = model(views)
        assert outputs.student.shape == (4, 3, 7)
        assert outputs.teacher.shape == (2, 3, 7)
        for number, view in enumerate(views):
            torch.testing.assert_close(outputs.student[number], model.student.head(model.student.encoder(view)))
        torch.testing.assert_close(outputs.teacher, outputs.student[:2].detach())
        assert outputs.student.requires_grad
        assert not outputs.teacher.requires_grad

    def test_a_transformer_takes_both_sizes(self) -> None:
        def vit(drop_path: float) -> VisionTransformer:
            return VisionTransformer(
                img_size=8, patch_size=4, in_chans=1, num_classes=0, embed_dim=8, depth=1, num_heads=2,
                dynamic_img_size=True, drop_path_rate=drop_path,
            )  # fmt: skip

        head = ProjectionHead(8, 7, hidden=6, bottleneck=4)
        outputs = DinoPair(vit(0.1), vit(0.0), head, TeacherSchedule(), steps=3).train()(crops())
        assert outputs.student.shape == (4, 3, 7)

    def test_evaluation_gives_the_teachers_features(self) -> None:
        model = pair()
        one_step(model, crops())
        image = crops()[0]
        torch.testing.assert_close(model.eval()(image), model.teacher.encoder(image))
        assert not torch.allclose(model(image), model.student.encoder(image))

    def test_the_teacher_starts_as_the_student_and_has_no_gradient(self) -> None:
        model = pair(drop=0.5)
        for ours, theirs in zip(model.student.parameters(), model.teacher.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours is not theirs
            assert ours.requires_grad
            assert not theirs.requires_grad

    def test_mistakes(self) -> None:
        model = pair().train()
        with pytest.raises(InputError, match=r"at least 2 crops .* got one tensor"):
            model(crops()[0])
        with pytest.raises(InputError, match="got 1 crops"):
            model(crops()[:1])
        with pytest.raises(InputError, match="one tensor of images, not 4 crops"):
            model.eval()(crops())
        with pytest.raises(InputError, match=r"2 of their tensors differ: embed\.bias"):
            DinoPair(Encoder(5), Encoder(6), ProjectionHead(5, 7), TeacherSchedule(), steps=1)
        with pytest.raises(InputError, match="steps=0"):
            DinoPair(Encoder(), Encoder(), ProjectionHead(5, 7), TeacherSchedule(), steps=0)
        with pytest.raises(InputError, match="global_crops=0"):
            DinoPair(Encoder(), Encoder(), ProjectionHead(5, 7), TeacherSchedule(), steps=1, global_crops=0)
        with pytest.raises(InputError, match=r"gave \[6, 5\] .* features \[b 4\]"):
            DinoPair(Encoder(), Encoder(), ProjectionHead(4, 7), TeacherSchedule(), steps=1).train()(crops(local=0))


class TestStep:
    def test_the_teacher_moves_by_its_momentum(self) -> None:
        model = pair(momentum=0.9)
        for step in range(4):
            before = [p.detach().double() for p in model.teacher.parameters()]
            one_step(model, crops(seed=step))
            keep = 1 - 0.1 * (math.cos(math.pi * step / 10) + 1) / 2
            for was, now, student in zip(before, model.teacher.parameters(), model.student.parameters(), strict=True):
                torch.testing.assert_close(
                    now.double(), keep * was + (1 - keep) * student.double(), rtol=1e-6, atol=1e-7
                )

    def test_the_centre_follows_the_teachers_mean(self) -> None:
        model = pair(centre_momentum=0.8)
        expected = torch.zeros(7, dtype=torch.float64)
        for step in range(3):
            views = crops(seed=step)
            logits = torch.stack([model.teacher.head(model.teacher.encoder(view)) for view in views[:2]])
            assert torch.equal(model.train()(views).centre, model.centre)
            model._sum, model._count = None, 0
            one_step(model, views)
            expected = 0.8 * expected + 0.2 * logits.double().mean(dim=(0, 1))
            torch.testing.assert_close(model.centre.double(), expected, rtol=0, atol=1e-7)
        assert expected.abs().max() > 1e-3

    def test_accumulated_passes_are_one_step(self) -> None:
        whole, parts = pair(), pair()
        for step in range(3):
            one_step(whole, crops(4, seed=step))
            one_step(parts, crops(4, seed=step), passes=2)
        assert parts.step == 3
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(parts.state_dict()[name], value, msg=name)

    def test_processes_share_the_centre(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another process saw five images to these three, with other logits."""
        theirs = torch.randn(10, 7)

        def all_reduce(tensor: Tensor) -> None:
            tensor += torch.cat([theirs.sum(0), torch.tensor([10.0])])

        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
        monkeypatch.setattr(distributed, "all_reduce", all_reduce)
        model = pair()
        ours = model.train()(crops()).teacher
        model._sum, model._count = None, 0
        one_step(model, crops())
        together = torch.cat([ours.flatten(0, 1), theirs]).mean(dim=0)
        torch.testing.assert_close(model.centre, 0.1 * together)

    @pytest.mark.parametrize("learn_norm", [False, True])
    def test_the_last_layer_waits(self, learn_norm: bool) -> None:
        model = pair(freeze=2, head={"learn_norm": learn_norm})
        start = [p.detach().clone() for p in model.student.head.last_layer()]
        for step in range(3):
            first = model.student.encoder.embed.weight.detach().clone()
            one_step(model, crops(seed=step))
            assert not torch.equal(model.student.encoder.embed.weight, first)
            moved = [not torch.equal(p, was) for p, was in zip(model.student.head.last_layer(), start, strict=True)]
            assert moved == [step >= 2] * len(start)

    def test_warm_up_of_the_temperature(self) -> None:
        model, seen = pair(warmup=2), []
        for step in range(4):
            seen.append(model.train()(crops()).temperature)
            one_step(model, crops(seed=step))
        assert seen == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_a_resumed_pair_goes_on_exactly(tmp_path: Path) -> None:
    straight = pair()
    for step in range(5):
        one_step(straight, crops(seed=step))
        if step == 2:
            torch.save(straight.state_dict(), tmp_path / "state.pt")
    resumed = pair(seed=9)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.step == 3
    for step in (3, 4):
        one_step(resumed, crops(seed=step))
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in straight.state_dict().items())
    assert {"centre", "_extra_state"} < straight.state_dict().keys()


def test_a_copy_is_independent() -> None:
    model = pair()
    one_step(model, crops())
    other = copy.deepcopy(model)
    one_step(other, crops(seed=1))
    assert (model.step, other.step) == (1, 2)
    assert not torch.equal(model.centre, other.centre)
