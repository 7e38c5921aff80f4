"""The gate: what computes something else is refused, whatever it computes wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fewpairs.bench import CheckFailed, ModelCase, OperatorCase, models, operators
from fewpairs.bench.baselines import published_choice
from fewpairs.bench.check import PAIRS, check, reduced
from fewpairs.bench.operators import Method, baselines, explain_kernels, kernel
from fewpairs.ops import knn
from fewpairs.ops.dispatch import Kernel

CASES = [
    OperatorCase("knn", 2, 2, 50, 16, 20),
    OperatorCase("knn", 1, 1, 40, 24, 1),
    OperatorCase("knn", 1, 2, 33, 64, 1.0),
    OperatorCase("kv", 2, 2, 50, 16),
    OperatorCase("key_only", 2, 2, 300, 16),
    OperatorCase("softmax", 1, 3, 50, 16),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_contender_of_ours_passes(case: OperatorCase, dtype: str) -> None:
    case = replace(case, dtype=dtype)
    able = [kernel(case, name) for name, refusal in explain_kernels(case, "training") if refusal is None]
    others = [method for method in baselines(case) if method.name != "flex"]
    for method in (*able, *others):
        found = check(case, method, training=True)
        assert (found is None) == (method.computes == "copy")
        assert found is None or found.share <= 1


def wrong(case: OperatorCase, spoil: Callable[..., Tensor]) -> Method:
    honest = operators.bind_operator(case, kernel=None)
    return Method("wrong", "kernel", case.op, lambda _case: spoil(honest))  # type: ignore[arg-type]


def offset(honest: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors, scale: honest(*tensors, scale=scale) + 1e-4


def one_row(honest: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(*tensors: Tensor, scale: float) -> Tensor:
        out = honest(*tensors, scale=scale)
        return torch.cat([out[..., :-1, :], out[..., -1:, :] * 1.001], dim=-2)

    return run


def no_gradient_of_keys(honest: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The output is right; the gradient of k is another."""

    def run(*tensors: Tensor, scale: float) -> Tensor:
        *first, k, v = tensors
        half = (k + k.detach()) / 2
        return honest(*first, half, v, scale=scale)

    return run


def nan(honest: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors, scale: honest(*tensors, scale=scale) * float("nan")


@pytest.mark.parametrize("spoil", [offset, one_row, nan, no_gradient_of_keys], ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[5]], ids=lambda case: case.op)
def test_a_wrong_kernel_is_refused(case: OperatorCase, spoil: Callable[..., Callable[..., Tensor]]) -> None:
    with pytest.raises(CheckFailed, match=r"wrong does not compute .* is off by"):
        check(case, wrong(case, spoil), training=True)


def test_gradients_are_left_alone_where_no_training_is_measured() -> None:
    assert check(CASES[5], wrong(CASES[5], no_gradient_of_keys), training=False)


def test_another_number_of_keys_or_another_choice_among_equal_ones_is_refused() -> None:
    case = CASES[0]

    def more(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
        return knn.knn_attention(q, k, v, topk=21, scale=scale)

    def higher_index(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
        return knn.knn_attention(q, k.flip(2), v.flip(2), topk=20, scale=scale)

    for run in (more, higher_index):
        with pytest.raises(CheckFailed):
            check(case, Method("wrong", "kernel", "knn", lambda _case, run=run: run), training=False)


def test_a_published_arithmetic_that_keeps_worse_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    method = next(each for each in baselines(CASES[0]) if each.name == "published")
    monkeypatch.setattr("fewpairs.bench.check.published_choice", lambda scores, topk: published_choice(-scores, topk))
    with pytest.raises(CheckFailed, match="other keys than the best"):
        check(CASES[0], method, training=False)


def test_large_cases_are_reduced_and_keep_their_share_of_keys() -> None:
    assert reduced(OperatorCase("knn", 8, 6, 197, 64, 100)).name == "knn-b2-h2-n197-d64-k100"
    for case in (OperatorCase("knn", 1, 6, 16384, 64, 256), OperatorCase("knn", 1, 6, 16384, 64, 0.125)):
        small = reduced(case)
        assert small.b * small.h * small.n**2 <= PAIRS
        assert (small.keys or 0) / small.n == pytest.approx((case.keys or 0) / case.n)
    assert reduced(OperatorCase("key_only", 4, 4, 65536, 64)).n == 65536


def test_a_kernel_is_made_for_the_reduced_case() -> None:
    """A kernel bound to the number of keys of the large case would be held against another selection."""
    seen: list[OperatorCase] = []

    def make(case: OperatorCase) -> Callable[..., Tensor]:
        seen.append(case)
        return operators.bind_operator(case, kernel=None)

    case = OperatorCase("knn", 5, 3, 40, 16, 0.5)
    check(case, Method("ours", "kernel", "knn", make), training=False)
    assert {each.b for each in seen} == {2}


def tiny() -> ModelCase:
    return ModelCase("deit_tiny_patch16_224", 1, 224, "knn20")


@pytest.fixture
def _small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four layers fewer to wait for."""
    import timm

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: real(name, depth=1, **options))


@pytest.mark.usefixtures("_small_model")
def test_a_model_is_checked_through_its_operators_and_its_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    from fewpairs.attention import KNN

    assert models.check_model(tiny(), KNN(20), training=True).share <= 1
    assert models.check_model(tiny(), None, training=True).share <= 1

    def run(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        return knn.reference.masked(q, k, v, **options) * 1.01  # type: ignore[arg-type]

    spoilt = Kernel("spoilt", lambda *_args, **_options: None, run)
    monkeypatch.setattr(knn, "KERNELS", (spoilt, *knn.KERNELS))
    with pytest.raises(CheckFailed, match="spoilt does not compute knn-b1-h2-n197-d64-k20"):
        models.check_model(tiny(), KNN(20), training=False)
