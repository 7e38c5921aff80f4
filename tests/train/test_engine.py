from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from train_toy import ToyData, ToyModel, ToyTask, make_scans, same_bits, toy_fit, toy_model

from fewpairs.errors import InputError, TrainingError
from fewpairs.train import FitConfig, OptimizerConfig, evaluate, load_weights, read_history, read_log, read_metadata
from fewpairs.train.evaluation import update_best
from fewpairs.train.optimizer import set_rates
from fewpairs.train.progress import ProgressReporter
from fewpairs.train.run_folder import RunFolder
from fewpairs.train.state import Position
from fewpairs.types import SegmentationBatch


def test_it_learns_and_leaves_what_it_promises(run_path: Path) -> None:
    model, scans = toy_model(), make_scans()
    untrained = evaluate(model, ToyTask(), scans, device="cpu", batch_size=4).compute()["dice"]
    history = toy_fit(run_path, model, scans=scans, steps=40, evaluate_every=10)
    assert untrained < 0.5 < 0.9 < history.best_score
    names = sorted(entry.name for entry in run_path.iterdir())
    assert names == ["best.safetensors", "config.yaml", "environment.json", "last.safetensors", "metrics.jsonl"]
    assert history.steps == 40
    assert history.steps_per_epoch == len(ToyData()) // 4
    assert [evaluation.step for evaluation in history.evaluations] == [10, 20, 30, 40]
    assert history.best_score == max(evaluation.scores["dice"] for evaluation in history.evaluations)
    assert 0 < history.waiting_share < 1
    assert 0 < history.training_seconds < history.seconds
    assert history.peak_memory_bytes > 10**7
    assert read_history(RunFolder(run_path)).losses == history.losses
    assert not history.stopped_early
    assert "forward" not in model.__dict__


def test_lines_of_the_log(run_path: Path) -> None:
    toy_fit(run_path, toy_model(), scans=make_scans(), steps=10, evaluate_every=4, optimizer=OptimizerConfig(lr=0.1))
    records = [json.loads(line) for line in (run_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [3, 4, 6, 8, 9, 10]
    assert [record["step"] for record in records if "scores" in record] == [4, 8, 10]
    for record in records:
        assert {"epoch", "lr", "loss", "terms", "grad_norm", "seconds_per_step", "waiting"} <= record.keys()
        assert record["loss"] == pytest.approx(sum(record["terms"].values()))
        assert record["terms"].keys() == {"bce", "square"}
    assert records[1]["epoch"] == pytest.approx(4 / 6)
    assert records[0]["lr"] == pytest.approx(0.1)
    assert records[1]["scores"]["nothing"] is None


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_accumulation_equals_a_large_batch(tmp_path: Path, name: Any) -> None:
    optimizer = OptimizerConfig(name=name, lr=0.01)
    whole, parts = toy_model().double(), toy_model().double()
    data = Doubled(26)
    one = toy_fit(tmp_path / "whole", whole, data=data, steps=6, batch_size=8, optimizer=optimizer)
    other = toy_fit(tmp_path / "parts", parts, data=data, steps=6, batch_size=2, accumulate=4, optimizer=optimizer)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert [loss for _, loss in one.losses] == pytest.approx([loss for _, loss in other.losses])


class Doubled(ToyData):
    """In double precision, where rounding cannot hide a difference."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, str]:
        image, mask, name = super().__getitem__(key)
        return image.double(), mask.double(), name


def test_clipping_bounds_the_step_and_the_log_tells_the_norm_before(tmp_path: Path) -> None:
    optimizer = OptimizerConfig(name="sgd", lr=1.0, weight_decay=0.0, momentum=0.0)
    moved = {}
    for clip in (0.01, None):
        model = toy_model()
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        toy_fit(tmp_path / str(clip), model, steps=3, clip=clip, log_every=1, optimizer=optimizer)
        moved[clip] = (nn.utils.parameters_to_vector(model.parameters()) - before).norm().item()
    records = {clip: read_log(tmp_path / str(clip) / "metrics.jsonl") for clip in moved}
    assert records[0.01][0]["grad_norm"] == records[None][0]["grad_norm"] > 0.01
    # Warm-up over two steps: rates 0.5, 1 and 1, each times a gradient of norm 0.01.
    assert moved[0.01] <= 0.025 * (1 + 1e-5) < moved[None]


def test_bf16_trains_with_float32_losses_and_leaves_the_model_bare(run_path: Path) -> None:
    seen: set[torch.dtype] = set()

    class Watching(ToyTask):
        def loss(self, outputs: Tensor, batch: SegmentationBatch) -> dict[str, Tensor]:
            seen.add(outputs.dtype)
            return super().loss(outputs, batch)

    inside: set[torch.dtype] = set()
    model = toy_model()
    hook = model.head.register_forward_hook(lambda module, inputs, output: inside.add(output.dtype))
    history = toy_fit(run_path, model, task=Watching(), steps=30, precision="bf16", scans=make_scans())
    hook.remove()
    assert (seen, inside) == ({torch.float32}, {torch.bfloat16})
    assert history.best_score > 0.9
    assert model(torch.randn(1, 1, 8, 8)).dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert "forward" not in model.__dict__


def test_precisions_may_follow_each_other_in_one_process(tmp_path: Path) -> None:
    for number, precision in enumerate(("bf16", "fp32", "bf16")):
        toy_fit(tmp_path / str(number), toy_model(), steps=3, precision=precision)


def test_fp16_on_a_cpu_is_refused(run_path: Path) -> None:
    with pytest.raises(InputError, match="precision=fp16 needs a CUDA device"):
        toy_fit(run_path, toy_model(), precision="fp16")
    assert not run_path.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(run_path: Path) -> None:
    with pytest.raises(InputError, match=r"device is 'cuda', but PyTorch sees no CUDA device"):
        toy_fit(run_path, toy_model(), device="cuda")


def test_an_average_may_be_kept_and_left_unscored(run_path: Path) -> None:
    model, scans = toy_model(), make_scans()
    history = toy_fit(run_path, model, scans=scans, steps=6, evaluate_every=2, ema=0.99, score_ema=False)
    last = history.evaluations[-1]
    assert last.raw_scores is None
    assert last.scores["dice"] == evaluate(model, ToyTask(), scans, device="cpu", batch_size=4).compute()["dice"]
    assert read_metadata(run_path / "best.safetensors")["weights"] == "model"
    plain, average = toy_model(), toy_model()
    load_weights(run_path / "last.safetensors", plain)
    load_weights(run_path / "last.safetensors", average, weights="ema")
    assert same_bits(dict(plain.state_dict()), dict(model.state_dict()))
    assert not same_bits(dict(average.state_dict()), dict(model.state_dict()))


def test_repeats_reach_the_data(run_path: Path) -> None:
    class Watched(ToyData):
        keys: tuple[tuple[int, int], ...] = ()

        def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, str]:
            self.keys = (*self.keys, key)
            return super().__getitem__(key)

    data = Watched(size=12)
    toy_fit(run_path, toy_model(), data=data, steps=6, batch_size=4, repeats=3)
    first = data.keys[:12]
    assert {number for number, _ in first} == {0, 1, 2}
    assert len({image for _, image in first}) == 4
    assert {number for number, _ in data.keys[12:]} == {3, 4, 5}


def test_the_weight_decay_reaches_its_end(run_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def noted(optimizer: torch.optim.Optimizer, rate: float, decay: float | None = None) -> None:
        set_rates(optimizer, rate, decay)
        seen.append(max(group["weight_decay"] for group in optimizer.param_groups))

    monkeypatch.setattr("fewpairs.train.engine.set_rates", noted)
    toy_fit(run_path, toy_model(), steps=10, optimizer=OptimizerConfig(weight_decay=0.0, weight_decay_end=0.4))
    assert seen == sorted(seen)
    assert (seen[0], seen[5]) == pytest.approx((0.0, 0.2))


def test_the_average_is_what_best_holds_and_both_are_scored(run_path: Path) -> None:
    model, scans = toy_model(), make_scans()
    history = toy_fit(run_path, model, scans=scans, steps=8, evaluate_every=2, ema=0.99)
    assert read_metadata(run_path / "best.safetensors")["weights"] == "ema"
    best = toy_model(seed=9)
    load_weights(run_path / "best.safetensors", best)
    scored = evaluate(best, ToyTask(), scans, device="cpu", batch_size=4).compute()["dice"]
    at_best = next(one for one in history.evaluations if one.step == history.best_step)
    assert scored == history.best_score == at_best.scores["dice"]
    last = history.evaluations[-1]
    assert last.raw_scores["dice"] == evaluate(model, ToyTask(), scans, device="cpu", batch_size=4).compute()["dice"]
    assert last.raw_scores != last.scores
    average, raw = toy_model(), toy_model()
    load_weights(run_path / "last.safetensors", average)
    load_weights(run_path / "last.safetensors", raw, weights="model")
    assert same_bits(dict(raw.state_dict()), dict(model.state_dict()))
    assert evaluate(average, ToyTask(), scans, device="cpu", batch_size=4).compute()["dice"] == last.scores["dice"]


def test_without_an_average_best_holds_the_weights_themselves(run_path: Path) -> None:
    toy_fit(run_path, toy_model(), scans=make_scans(), steps=4)
    assert read_metadata(run_path / "best.safetensors")["weights"] == "model"
    assert "raw_scores" not in read_log(run_path / "metrics.jsonl")[-1]


def test_without_scans_there_is_no_best(run_path: Path) -> None:
    history = toy_fit(run_path, toy_model(), steps=4)
    assert (history.best_step, history.evaluations) == (None, [])
    assert not (run_path / "best.safetensors").exists()


def test_a_monitor_that_does_not_exist_shows_before_training(run_path: Path) -> None:
    with pytest.raises(InputError, match=r"fit.monitor is 'dise', .*did you mean 'dice'\? known: dice, error, nothing"):
        toy_fit(run_path, toy_model(), scans=make_scans(), monitor="dise")
    assert not (run_path / "metrics.jsonl").exists()
    with pytest.raises(InputError, match="nothing to evaluate on"):
        toy_fit(run_path.with_name("other"), toy_model(), scans=[])


def test_early_stop_counts_evaluations_without_a_better_score(run_path: Path) -> None:
    frozen = OptimizerConfig(name="sgd", lr=1e-12, weight_decay=0.0)
    options = {"scans": make_scans(), "steps": 30, "evaluate_every": 2, "optimizer": frozen, "maximise": False}
    history = toy_fit(run_path, toy_model(), patience=3, monitor="error", **options)
    assert (history.steps, history.best_step, history.stopped_early) == (8, 2, True)
    assert RunFolder(run_path).finished
    again = toy_fit(run_path, toy_model(), patience=3, monitor="error", resume=True, **options)
    assert (again.steps, again.stopped_early) == (8, True)
    assert toy_fit(run_path, toy_model(), patience=5, monitor="error", resume=True, **options).steps == 12
    assert read_history(RunFolder(run_path)).stopped_early


@pytest.mark.parametrize(
    ("maximise", "scores", "best", "misses"),
    [
        (True, [0.1, 0.3, 0.3, 0.2], 2, 2),
        (False, [0.3, 0.1, 0.2], 2, 1),
        (True, [float("nan"), 0.1], 2, 0),
        (True, [0.1, float("nan"), float("inf")], 1, 2),
        (False, [float("inf"), 5.0, float("-inf")], 2, 1),
    ],
)
def test_best_is_the_first_of_the_best_finite_scores(
    maximise: bool, scores: list[float], best: int, misses: int
) -> None:
    position, config = Position(), FitConfig(steps=9, batch_size=1, maximise=maximise)
    for position.step, score in enumerate(scores, start=1):
        update_best(position, score, config)
    assert (position.best_step, position.misses) == (best, misses)


def test_a_loss_that_is_not_finite_stops_names_and_keeps(run_path: Path) -> None:
    # With 24 images and batches of 4, six steps pass before image 7 comes round again.
    with pytest.raises(TrainingError) as error:
        toy_fit(run_path, toy_model(), data=ToyData(spoil=7), steps=40, checkpoint_every=1, ema=0.9)
    message = str(error.value)
    step = int(message.split("step ")[1].split(":")[0])
    assert "the loss is not finite (bce nan, square nan) for batch " in message
    ids = message.split("for batch ")[1].split(".")[0].split(", ")
    assert "image-7" in ids
    assert len(ids) == 4
    if step > 1:
        assert f"{run_path / 'last.safetensors'} keeps the last good state" in message
        assert read_metadata(run_path / "last.safetensors")["step"] == step - 1
        kept = toy_model()
        load_weights(run_path / "last.safetensors", kept, weights="model")
        assert all(p.isfinite().all() for p in kept.parameters())
    else:
        assert "no checkpoint was written yet" in message


class Exploding(ToyTask):
    """A finite loss whose gradient is not."""

    def loss(self, outputs: Tensor, batch: SegmentationBatch) -> dict[str, Tensor]:
        return {"root": (outputs * 0).abs().sqrt().mean()}


def test_a_gradient_that_is_not_finite_stops_too(run_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 1: the gradient is not finite \(norm nan\) for batch image-\d+, "):
        toy_fit(run_path, toy_model(), task=Exploding())
    assert not (run_path / "last.safetensors").exists()


def test_a_full_disk_stops_with_the_previous_checkpoint(run_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewpairs.train import checkpoint

    original, calls = checkpoint.save_file, []

    def fills_up(*arguments: Any, **options: Any) -> None:
        calls.append(None)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        original(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save_file", fills_up)
    with pytest.raises(TrainingError, match=r"No space left on device; the previous last\.safetensors is intact"):
        toy_fit(run_path, toy_model(), checkpoint_every=4)
    assert read_metadata(run_path / "last.safetensors")["step"] == 4
    monkeypatch.undo()
    assert toy_fit(run_path, toy_model(), checkpoint_every=4, resume=True).steps == 12


class Deep(ToyModel):
    """Gives an auxiliary output when asked."""

    def __init__(self) -> None:
        super().__init__()
        self.aux_heads = nn.ModuleList([nn.Conv2d(8, 1, 1)])

    def forward(self, image: Tensor, *, auxiliary: bool = False) -> Any:
        features = nn.functional.gelu(self.norm(self.embed(image)))
        out = self.head(features)
        return {"out": out, "aux": [head(features) for head in self.aux_heads]} if auxiliary else out

    def layer_groups(self) -> list[list[str]]:
        return [[name for name, _ in self.named_parameters()]]


class DeepTask(ToyTask):
    auxiliary = True

    def loss(self, outputs: Any, batch: SegmentationBatch) -> dict[str, Tensor]:
        aux = super().loss(outputs["aux"][0], batch)["bce"]
        return super().loss(outputs["out"], batch) | {"aux": 0.4 * aux}


def test_auxiliary_outputs_are_asked_for_by_the_task(tmp_path: Path) -> None:
    model = Deep()
    before = model.aux_heads[0].weight.detach().clone()
    toy_fit(tmp_path / "plain", model, scans=make_scans(), steps=3)
    assert torch.equal(model.aux_heads[0].weight, before)
    toy_fit(tmp_path / "deep", model, task=DeepTask(), scans=make_scans(), steps=3)
    assert not torch.equal(model.aux_heads[0].weight, before)
    assert read_log(tmp_path / "deep" / "metrics.jsonl")[-1]["terms"].keys() == {"bce", "square", "aux"}


@pytest.mark.parametrize("terminal", [False, True])
def test_lines_without_a_terminal_and_a_bar_with_one(terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=200 if terminal else 40)
    record = {"step": 5, "loss": 0.25, "lr": 1e-3, "seconds_per_step": 0.1, "waiting": 0.02}
    with ProgressReporter(start=0, steps=10, enabled=True, console=console) as reporter:
        reporter.step(5)
        reporter.record(record, "dice", None)
        reporter.record(record | {"scores": {"dice": 0.5}}, "dice", 0.5)
    text = stream.getvalue()
    line = "step 5/10  loss 0.2500  lr 1.0e-03  0.100 s/step  waiting 2%"
    assert f"{line}  dice 0.5000 (best 0.5000)" in text
    assert ("\x1b" in text) == terminal
    if not terminal:
        assert text.splitlines()[0] == line


def test_silence_when_asked(run_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toy_fit(run_path, toy_model(), scans=make_scans())
    assert capfd.readouterr() == ("", "")


def test_interruption_leaves_the_step_in_the_log(run_path: Path, stop_after: Callable[[int], None]) -> None:
    stop_after(5)
    with pytest.raises(TrainingError, match="stopped by SIGINT after step 5 of 12"):
        toy_fit(run_path, toy_model())
    assert [record["step"] for record in read_log(run_path / "metrics.jsonl")] == [3, 5]


def test_a_model_is_told_of_every_finished_step(tmp_path: Path) -> None:
    class Told(ToyModel):
        steps = 0

        def after_step(self) -> None:
            self.steps += 1

    model = Told()
    toy_fit(tmp_path / "run", model, steps=5, accumulate=2)
    assert model.steps == 5
