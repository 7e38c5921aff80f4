"""Benchmarks of whole models: another attention against the original one, in inference and training steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.attention import KNN, KV, Core, KeyOnly, Softmax, Variant
from fewpairs.bench.cases import ModelCase, OperatorCase, Pass
from fewpairs.bench.check import CheckFailed, CheckResult, check
from fewpairs.bench.operators import chosen, kernel
from fewpairs.bench.timing import Step
from fewpairs.errors import InputError, nearest
from fewpairs.runs.step_cost import training_step
from fewpairs.types import Labelled, SegmentationBatch

OWN = "dense"
"""The name of the model with its original attention in reports."""
CLASSES = 3
"""The number of classes of a segmenter."""
TOLERANCE = 1e-3
"""The tolerated relative error of logits and gradients in float32, against float64. Other choices of k-NN attention
between scores equal up to rounding cause far smaller errors; a wrong attention causes far larger ones."""


def check_name(case: ModelCase) -> None:
    """Raise InputError if neither fewpairs nor timm has the model."""
    import timm

    from fewpairs.models import MODELS

    if case.model not in MODELS and not timm.is_model(case.model):
        close = nearest(case.model, MODELS, "fewpairs models")
        raise InputError(f"{case.model!r} is not a model of fewpairs or timm; {close}")


def build(case: ModelCase, attention: Variant | None) -> nn.Module:
    """Create the model with random weights; `attention` None keeps the original attention.

    Raises:
        InputError: the name is unknown, or the size or attention does not fit.
    """
    from fewpairs.models import MODELS, create_segmenter

    check_name(case)
    torch.manual_seed(0)
    size = (case.size, case.size)
    if case.model in MODELS:
        return create_segmenter(case.model, attention=attention, classes=CLASSES, image_size=size)
    return _timm_model(case, attention)


def _timm_model(case: ModelCase, attention: Variant | None) -> nn.Module:
    import timm

    from fewpairs.swap import swap_attention

    usual = timm.get_pretrained_cfg_value(case.model, "input_size")
    options: dict[str, Any] = {} if usual and usual[-1] == case.size else {"img_size": case.size}
    try:
        model: nn.Module = timm.create_model(case.model, **options)
    except TypeError:
        raise InputError(f"{case.model} takes images of {usual[-1]} pixels only, not {case.size}") from None
    if attention is not None:
        swap_attention(model, attention)
    return model


def prepare(case: ModelCase, attention: Variant | None, pass_: Pass) -> Step:
    """Return a function that runs inference on one batch, or a training step: forward, loss, backward, AdamW."""
    model = build(case, attention)
    device = torch.device(case.device)
    if pass_ == "training":
        return training_step(model, *_task(case, model), device)
    model.to(device).eval()
    return partial(_infer, model, _images(case).to(device))


def _infer(model: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        model(images)


def _images(case: ModelCase) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(case.batch, 3, case.size, case.size, generator=draw)


def _task(case: ModelCase, model: nn.Module) -> tuple[Any, Any]:
    """Create a task and a batch, with labels for a classifier or masks for a segmenter."""
    from fewpairs.kinds.classification.task import Classification
    from fewpairs.kinds.segmentation.task import Segmentation
    from fewpairs.models import Segmenter

    draw, images = torch.Generator().manual_seed(2), _images(case)
    if isinstance(model, Segmenter):
        masks = (torch.rand(case.batch, CLASSES, case.size, case.size, generator=draw) > 0.5).float()
        ids = tuple(map(str, range(case.batch)))
        return Segmentation(tuple(f"class {i}" for i in range(CLASSES)), loss="bce"), SegmentationBatch(
            images, masks, ids
        )
    classes = int(getattr(model, "num_classes", 0))
    if classes < 2:
        raise InputError(f"{case.model} has no classes to train on; name a classifier or a segmenter")
    labels = torch.randint(classes, (case.batch,), generator=draw)
    ids = tuple(map(str, range(case.batch)))
    return Classification(tuple(map(str, range(classes)))), Labelled(images, labels, ids)


def check_model(case: ModelCase, attention: Variant | None, *, training: bool) -> CheckResult:
    """Check the model's operators at the shapes that it uses, then its logits and gradients.

    Raises:
        CheckFailed: an error of an operator or of the model exceeds the tolerance.
    """
    model = build(case, attention).to(case.device).eval()
    image = _images(case)[:1].to(case.device)
    worst = 0.0
    for inner in sorted(_operators(case, model, image), key=lambda each: each.name):
        found = check(inner, kernel(inner, chosen(inner, "training" if training else "forward")), training=training)
        worst = max(worst, found.share if found else 0.0)
    name = OWN if attention is None else case.attention
    ours, truth = _results(model, image, training), _results(model.double(), image.double(), training)
    for what, mine, exact in zip(("logits", "gradients"), ours, truth, strict=False):
        error = float((mine - exact).norm() / exact.norm())
        if not error <= TOLERANCE:
            raise CheckFailed(
                f"{name} does not compute {case.name}: its {what} are off by {error:.1e} of their size from float64, "
                f"where {TOLERANCE:.0e} is allowed"
            )
        worst = max(worst, error / TOLERANCE)
    return CheckResult(worst)


def _results(model: nn.Module, image: Tensor, training: bool) -> list[Tensor]:
    """Return the logits, and the gradients of all weights as one vector, in float64."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.set_grad_enabled(training):
        logits = model(image)
    found = [logits.detach().double()]
    if training:
        upstream = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3)).to(logits)
        gradients = torch.autograd.grad(logits, parameters, upstream, allow_unused=True)
        found.append(torch.cat([each.double().flatten() for each in gradients if each is not None]))
    return found


def _operators(case: ModelCase, model: nn.Module, image: Tensor) -> set[OperatorCase]:
    """Return the operator cases that fewpairs' attention layers compute on one image."""
    cases: set[OperatorCase] = set()

    def note(core: nn.Module, roles: tuple[Tensor, ...]) -> None:
        found = _operator(core.variant, roles, case)  # type: ignore[arg-type]  # of a Core
        if found is not None:
            cases.add(found)

    handles = [core.register_forward_pre_hook(note) for core in model.modules() if isinstance(core, Core)]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return cases


def _operator(variant: Variant, roles: tuple[Tensor, ...], case: ModelCase) -> OperatorCase | None:
    b, h, n, d = roles[0].shape
    kinds: dict[type, str] = {KNN: "knn", KV: "kv", Softmax: "softmax", KeyOnly: "key_only"}
    op = kinds.get(type(variant))
    if op is None or any(role.shape != roles[0].shape for role in roles):
        return None
    return OperatorCase(op, b, h, n, d, getattr(variant, "topk", None), device=case.device)
