"""LinGlo's recipes: PVTv2's settings on ImageNet, and small studies in which one thing differs at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewpairs.attention import KeyOnly, Softmax
from fewpairs.errors import InputError
from fewpairs.kinds.classification.experiment import ClassificationExperiment
from fewpairs.recipes import RECIPES
from fewpairs.recipes.linglo import ABLATIONS
from fewpairs.runs.config import load_experiment
from fewpairs.runs.run import load_run, train_run


def recipe(name: str) -> ClassificationExperiment:
    experiment = RECIPES[name]()
    assert isinstance(experiment, ClassificationExperiment)
    return experiment


@pytest.mark.parametrize("size", ["b0", "b1", "b2"])
def test_imagenet_has_pvts_settings(size: str) -> None:
    own, other = recipe(f"linglo_{size}_imagenet"), recipe(f"pvt_v2_{size}_imagenet")
    assert (own.model.attention, other.model.attention) == (KeyOnly(), Softmax())
    assert replace(own, name="", model=other.model) == replace(other, name="")
    batch, epoch = own.fit.batch_size * own.fit.accumulate, own.fit.steps / 300
    assert own.optimizer.lr == pytest.approx(5e-4 * batch / 512)
    assert (own.optimizer.name, own.optimizer.weight_decay) == ("adamw", 0.05)
    assert own.schedule.floor * own.optimizer.lr == pytest.approx(1e-5)
    assert own.schedule.warmup_from * own.optimizer.lr == pytest.approx(1e-6)
    assert own.schedule.warmup == 5 * epoch == 5 * (1_281_167 // batch)
    assert (own.model.drop_path, own.task.smoothing, own.fit.repeats, own.fit.clip) == (0.1, 0.1, 3, None)
    augment = own.augment
    assert augment is not None
    assert augment.mixing is not None
    assert (augment.policy, augment.erasing) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert (augment.mixing.mixup, augment.mixing.cutmix) == (0.8, 1.0)


@pytest.mark.parametrize(("model", "data"), [("linglo_pico", "fashion"), ("linglo_nano", "trashnet")])
def test_studies_differ_in_the_model_alone(model: str, data: str) -> None:
    first = recipe(f"{model}_{data}")
    names = [f"{model}{ending}_{data}" for ending in ABLATIONS] + [f"{model.replace('linglo', 'pvt_v2')}_{data}"]
    recipes = [recipe(name) for name in names]
    assert {replace(one, name="", model=first.model) == replace(first, name="") for one in recipes} == {True}
    assert len({one.name for one in recipes}) == len(recipes)
    assert len({(one.model.name, one.model.attention, str(one.model.options)) for one in recipes}) == len(recipes)


def test_the_small_study_has_the_settings_of_the_other_one() -> None:
    own, other = recipe("linglo_pico_fashion"), recipe("vit_pico_fashion")
    assert replace(own, name="", model=other.model) == replace(other, name="")


def test_options_from_the_command_line() -> None:
    experiment = load_experiment("linglo_pico_fashion", ["model.options.layout=grafted", "model.options.squeeze=0.5"])
    assert experiment.model.options == {"layout": "grafted", "squeeze": 0.5}  # type: ignore[attr-defined]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("one", "two"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 255, (16, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def tiny(photos: Path, *more: str) -> list[str]:
    small = ["view.size=[33, 40]", "fit.steps=2", "fit.batch_size=2", "fit.evaluate_every=2", "fit.checkpoint_every=2"]
    return [*small, "schedule.warmup=1", f"data.root={photos}", f"data.cache={photos.parent}", *more]


@pytest.mark.parametrize(
    "name", ["linglo_nano_grafted_trashnet", "linglo_nano_softmax_trashnet", "pvt_v2_nano_trashnet"]
)
def test_a_run_remembers_its_layout(name: str, photos: Path, tmp_path: Path) -> None:
    train_run(load_experiment(name, tiny(photos)), tmp_path / "run", resume=False, overwrite=False, progress=False)
    run = load_run(tmp_path / "run")
    if "grafted" in name:
        assert [stage.blocks for stage in run.model.layout.stages] == ["CC", "CC", "AAAA", "AA"]
    if "softmax" in name:
        assert run.model.layout.mlp_ratio == 3.75


def test_an_option_that_there_is_not(photos: Path) -> None:
    experiment = load_experiment("linglo_nano_trashnet", tiny(photos, "model.options.lay=grafted"))
    with pytest.raises(InputError, match="linglo_nano has no option 'lay'; did you mean 'layout'"):
        experiment.build(progress=False)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["linglo_pico_fashion", "linglo_pico_r2_fashion", "pvt_v2_pico_fashion"])
def test_clothes_are_told_apart_after_a_hundred_steps(name: str, real_data: Path, tmp_path: Path) -> None:
    overrides = ["fit.steps=100", "fit.evaluate_every=100", "fit.checkpoint_every=100", "schedule.warmup=20"]
    overrides += [
        f"data.root={real_data / 'fashion-mnist'}",
        f"data.cache={tmp_path}",
        "data.split.validation_limit=500",
    ]
    history = train_run(
        load_experiment(name, overrides), tmp_path / "run", resume=False, overwrite=False, progress=False
    )
    assert history.best_score is not None
    assert history.best_score > 0.5
