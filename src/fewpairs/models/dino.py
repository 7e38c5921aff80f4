"""Self-distillation without labels (DINO, arXiv 2104.14294): a student, the teacher that follows it, their heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, distributed, nn

from fewpairs.errors import InputError
from fewpairs.types import DistillationOutputs


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSchedule:
    """Schedule of the teacher. The defaults are those of DINO's longer ViT-S runs.

    Raises:
        InputError: a setting is out of range.
    """

    momentum: float = 0.996
    """Momentum of the teacher at the start; it rises to 1 along a cosine."""
    temperature: float = 0.07
    """Temperature of the teacher after the warm-up; it divides the centred logits."""
    cold_temperature: float = 0.04
    """Temperature at the start, from which it rises linearly."""
    warmup: int = 0
    """Steps of the warm-up of the temperature."""
    centre_momentum: float = 0.9
    """Momentum of the running mean of the teacher's logits."""
    freeze: int = 0
    """Number of first steps in which the last layer of the student's head is not trained."""

    def __post_init__(self) -> None:
        for name in ("momentum", "centre_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)}: give a number from 0 to 1")
        for name in ("temperature", "cold_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)}: a temperature must be positive")
        for name in ("warmup", "freeze"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)}: give a number of steps, 0 for none")

    def momentum_at(self, step: int, steps: int) -> float:
        """`1 - (1 - momentum) (1 + cos(pi step / steps)) / 2` for step 0, 1, ... of `steps`."""
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2

    def temperature_at(self, step: int) -> float:
        """From `cold_temperature` to `temperature` in `warmup` steps, then constant."""
        share = min(1.0, step / self.warmup) if self.warmup else 1.0
        return self.cold_temperature + share * (self.temperature - self.cold_temperature)


class ProjectionHead(nn.Module):
    """Features `[b c]` -> logits `[b o]`: a three-layer perceptron, a unit vector, a layer with normalised weights.

    Each of the `outputs` is a direction in the `bottleneck`, and its logit the cosine with it. With `learn_norm` the
    logit is also scaled by a norm that is learned for each output ("last layer not normalised", which DINO advises for
    small models alone); otherwise all norms are 1.
    """

    def __init__(
        self, dim: int, outputs: int = 65536, *, hidden: int = 2048, bottleneck: int = 256, learn_norm: bool = False
    ) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("outputs", outputs), ("hidden", hidden), ("bottleneck", bottleneck)):
            if value < 1:
                raise InputError(f"{name}={value}: the head needs at least 1")
        self.dim = dim
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.direction = nn.Parameter(torch.empty(outputs, bottleneck))
        nn.init.kaiming_uniform_(self.direction, a=math.sqrt(5))
        self.norm = nn.Parameter(torch.ones(outputs, 1)) if learn_norm else None

    def forward(self, features: Tensor) -> Tensor:
        unit = F.normalize(self.mlp(features).float(), dim=-1)
        weight = F.normalize(self.direction, dim=-1)
        return F.linear(unit, weight if self.norm is None else weight * self.norm)

    def last_layer(self) -> list[nn.Parameter]:
        """Return the parameters that are not trained while the last layer is frozen."""
        return [self.direction] if self.norm is None else [self.direction, self.norm]


class ProjectedEncoder(nn.Module):
    """Encoder and projection head for crops of several sizes; crops of one size go through the encoder together."""

    def __init__(self, encoder: nn.Module, head: ProjectionHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, crops: Sequence[Tensor]) -> Tensor:
        """`v` crops `[b c H W]` -> logits `[v b o]`."""
        groups = [torch.cat(list(same)) for _, same in groupby(crops, key=lambda crop: crop.shape[-2:])]
        features = torch.cat([self.encoder(group) for group in groups])
        if features.ndim != 2 or features.shape[1] != self.head.dim:
            raise InputError(
                f"the encoder gave {list(features.shape)} for {len(crops)} crops, and the head expects features "
                f"[b {self.head.dim}]; take the classifier off the encoder (reset_classifier(0))"
            )
        return rearrange(self.head(features), "(v b) o -> v b o", v=len(crops))


class DinoPair(nn.Module):
    """Student and teacher as one model. In training it takes the crops of a batch and gives a `DistillationOutputs`.

    The teacher starts as a copy of the student and is trained by no gradient. `after_step`, called once after each
    optimiser step, moves it towards the student, and the centre towards the teacher's mean logits over all images of
    that step, those of accumulated passes and other processes included. `before_step`, called when the gradients are
    complete, withholds the last layer's while it is frozen. Centre and step are in the state dict, so a resumed run
    goes on exactly. In evaluation the model gives the teacher's features `[b c]` of one image tensor.

    Args:
        student: an encoder without classifier, `[b c H W]` -> `[b c]`, for all sizes of crops.
        teacher: the same architecture, usually without drop path; its weights are overwritten.
        head: head of the student; the teacher gets a copy.
        steps: number of optimiser steps of the training.
        global_crops: number of the first crops, which the teacher sees.

    Raises:
        InputError: the weights of the two encoders do not correspond.
    """

    centre: Tensor

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        head: ProjectionHead,
        schedule: TeacherSchedule,
        *,
        steps: int,
        global_crops: int = 2,
    ) -> None:
        super().__init__()
        ours, theirs = ({name: value.shape for name, value in one.state_dict().items()} for one in (student, teacher))
        if ours != theirs:
            names = sorted(dict(ours.items() ^ theirs.items()))
            raise InputError(
                f"student and teacher must be the same encoder; {len(names)} of their tensors differ: "
                f"{', '.join(names[:4])}"
            )
        if steps < 1:
            raise InputError(f"steps={steps}: a teacher needs at least one step")
        if global_crops < 1:
            raise InputError(f"global_crops={global_crops}: the teacher must see at least one crop")
        teacher.load_state_dict(student.state_dict())
        self.schedule, self.steps, self.global_crops = schedule, steps, global_crops
        self.step = 0
        self.student = ProjectedEncoder(student, head)
        self.teacher = ProjectedEncoder(teacher, deepcopy(head)).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(head.direction.shape[0]))
        self._sum: Tensor | None = None
        self._count = 0

    def forward(self, image: Tensor | Sequence[Tensor]) -> Tensor | DistillationOutputs:
        if not self.training:
            return self.features(image)
        crops = self._checked(image)
        with torch.no_grad():
            teacher = self.teacher(crops[: self.global_crops]).float()
            total = teacher.sum(dim=(0, 1))
            self._sum = total if self._sum is None else self._sum + total
            self._count += teacher.shape[0] * teacher.shape[1]
        temperature = self.schedule.temperature_at(self.step)
        return DistillationOutputs(self.student(crops), teacher, self.centre.clone(), temperature)

    def features(self, image: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the teacher's features `[b c]` for images `[b c H W]`."""
        if not isinstance(image, Tensor):
            raise InputError(f"in evaluation the model takes one tensor of images, not {len(image)} crops")
        features: Tensor = self.teacher.encoder(image)
        return features

    def _checked(self, image: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
        if isinstance(image, Tensor) or len(image) < max(2, self.global_crops):
            given = "one tensor" if isinstance(image, Tensor) else f"{len(image)} crops"
            raise InputError(
                f"in training the model takes at least {max(2, self.global_crops)} crops of every image, the "
                f"{self.global_crops} global ones first; got {given}"
            )
        return image

    def before_step(self) -> None:
        """Remove the gradient of the last layer while it is frozen, so that the optimiser skips it."""
        if self.step < self.schedule.freeze:
            for parameter in self.student.head.last_layer():
                parameter.grad = None

    @torch.no_grad()
    def after_step(self) -> None:
        """Update the teacher (paper, section 3.1) and the centre (equation 4)."""
        keep = self.schedule.momentum_at(self.step, self.steps)
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - keep)
        if self._sum is not None:
            self.centre.lerp_(_mean_over_processes(self._sum, self._count), 1 - self.schedule.centre_momentum)
            self._sum, self._count = None, 0
        self.step += 1

    def get_extra_state(self) -> Tensor:
        """Return the step as a tensor; it is kept as a plain number, so that no step synchronises with a GPU."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        self.step = int(state)


def _mean_over_processes(total: Tensor, count: int) -> Tensor:
    """Return the mean `[o]` of logits over all processes; each has the sum and the number of its own."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        both = torch.cat([total, total.new_tensor([count])])
        distributed.all_reduce(both)
        return both[:-1] / both[-1]
    return total / count
