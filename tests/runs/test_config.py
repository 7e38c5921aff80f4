"""Recipes, YAML, overrides: what is right survives a round trip, what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fewpairs import KV, KVPos
from fewpairs.errors import InputError, nearest
from fewpairs.models import CLASSIFIERS, DETECTORS, MODELS
from fewpairs.recipes import RECIPES
from fewpairs.runs.config import load_experiment, merge, parse_override, to_dict, to_yaml, validate


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_yaml_and_names_a_model(name: str, tmp_path: Path) -> None:
    experiment = load_experiment(name)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(experiment))
    assert load_experiment(file) == experiment == RECIPES[name]()
    assert experiment.model.name in {**MODELS, **CLASSIFIERS, **DETECTORS}
    assert RECIPES[name].summary


def test_the_nine_of_a_scale_differ_in_model_and_attention_only() -> None:
    for scale in ("small", "uw_madison"):
        recipes = [to_dict(make()) for name, make in RECIPES.items() if name.endswith(scale)]
        assert len(recipes) == 9
        pairs = {(r["model"]["name"], r["model"]["attention"]["name"]) for r in recipes}
        assert len(pairs) == 9
        for recipe in recipes:
            recipe["task"].pop("auxiliary")
            del recipe["name"], recipe["model"]["name"], recipe["model"]["attention"]
        assert all(recipe == recipes[0] for recipe in recipes)


def test_overrides_reach_every_depth() -> None:
    experiment = load_experiment(
        "setr_qkv_small",
        [
            "fit.steps=7",
            "schedule.warmup=1",
            "model.attention=kvpos",
            "model.attention.d_pos=20",
            "view.size=[32, 48]",
            "augment=null",
        ],
    )
    assert experiment.fit.steps == 7
    assert experiment.model.attention == KVPos(d_pos=20)
    assert experiment.view.size == (32, 48)
    assert experiment.augment is None


def test_yaml_may_start_from_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: setr_kv_small\nname: mine\nfit: {steps: 900}\noptimizer: {lr: 1e-4}\n")
    experiment = load_experiment(file)
    assert (experiment.name, experiment.fit.steps, experiment.model.attention) == ("mine", 900, KV())
    assert experiment.optimizer == replace(load_experiment("setr_kv_small").optimizer, lr=1e-4)


@pytest.mark.parametrize(
    ("source", "overrides", "message"),
    [
        ("setr_kv_smal", [], "did you mean 'setr_kv_small'"),
        ("setr_kv_small", ["fit.step=3"], "'fit.step' is not known; in 'fit' did you mean 'steps'"),
        ("setr_kv_small", ["fitt.steps=3"], "did you mean 'fit'"),
        ("setr_kv_small", ["fit.steps=many"], "fit.steps='many'"),
        ("setr_kv_small", ["fit.steps='3'"], "fit.steps='3'"),
        ("setr_kv_small", ["fit.steps=2.5"], "fit.steps=2.5"),
        ("setr_kv_small", ["fit.steps=0"], "fit.steps is 0"),
        (
            "setr_kv_small",
            ["fit.steps=9", "schedule.warmup=66"],
            "schedule.warmup is 66 steps, but training lasts only 9",
        ),
        ("setr_kv_small", ["fit.monitor=hd95_mm"], "set fit.maximise=false"),
        ("setr_kv_small", ["task.empty_rule=lenient"], "task.empty_rule='lenient'"),
        ("setr_kv_small", ["fit=3"], "fit=3 is a section; set one of its fields: steps"),
        ("setr_kv_small", ["model.attention=kw"], "attention 'kw' is not known; did you mean 'kv'"),
        ("setr_kv_small", ["model.attention.d_pos=4"], "attention 'kv' has no option 'd_pos'"),
        ("setr_kv_small", ["data.kind=dicom"], "data.kind='dicom'"),
        ("setr_kv_small", ["view.fit=crop"], "view.fit='crop'"),
        ("setr_kv_small", ["optimizer.lr=-1"], "optimizer.lr is -1"),
        ("setr_kv_small", ["fit.steps"], "must have the form field.name=value"),
        ("setr_kv_small", ["=3"], "must have the form field.name=value"),
        ("setr_kv_small", ["fit.steps=[1"], "the value is no YAML"),
        ("nowhere.yaml", [], "there is no configuration file nowhere.yaml"),
    ],
)
def test_mistakes_are_named(source: str, overrides: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        load_experiment(source, overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "message"), [("- 1\n", "must hold fields"), ("a: [", "not readable as YAML")])
def test_broken_yaml_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_experiment(file)


@given(st.lists(st.from_regex(r"[a-z_]+", fullmatch=True), min_size=1, max_size=4), st.integers() | st.booleans())
def test_an_override_is_read_as_it_is_written(path: list[str], value: int) -> None:
    keys, read = parse_override(f"{'.'.join(path)}={yaml.safe_dump(value).split(chr(10))[0]}")
    assert keys == tuple(path)
    assert read == value


@given(st.text(max_size=30))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        keys, _ = parse_override(text)
    except InputError:
        return
    assert all(keys)


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "+2E4", ".5e1", "-3e+2"])
def test_numbers_with_exponents_are_numbers(text: str) -> None:
    assert parse_override(f"optimizer.lr={text}") == (("optimizer", "lr"), float(text))


def test_merge_leaves_its_input_alone() -> None:
    content = {"fit": {"steps": 1}}
    assert merge(content, [(("fit", "steps"), 2), (("a", "b"), 3)]) == {"fit": {"steps": 2}, "a": {"b": 3}}
    assert content == {"fit": {"steps": 1}}


def test_validate_knows_no_field_by_accident() -> None:
    with pytest.raises(InputError, match=r"'model\.attn' is not known"):
        validate({"model": {"attn": "kv"}})


def test_one_mistake_does_not_hide_the_others() -> None:
    with pytest.raises(InputError) as error:
        load_experiment(
            "setr_kv_small",
            ["fit.stepps=3", "optimizer.lr=-1", "view.fit=crop", "model.attention=kw", "fitt.a=1", "fit.batch_size=0"],
        )
    said = str(error.value).splitlines()
    assert len(said) == 6
    for part in (
        "'fit.stepps' is not known",
        "'fitt'",
        "optimizer.lr is -1",
        "view.fit='crop'",
        "'kw'",
        "batch_size is 0",
    ):
        assert any(part in line for line in said), part
    with pytest.raises(InputError) as error:
        load_experiment("setr_kv_small", ["fit.steps", "=3"])
    assert len(str(error.value).splitlines()) == 2


def test_warm_up_follows_the_number_of_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_experiment("setr_kv_small").schedule.warmup == 66
    assert load_experiment("setr_kv_small", ["fit.steps=503"]).schedule.warmup == 33
    assert "schedule.warmup follows fit.steps: 33 (66 of 1000 steps before)" in capsys.readouterr().err
    assert load_experiment("setr_kv_small", ["fit.steps=2"]).schedule.warmup == 1
    assert load_experiment("setr_kv_small", ["fit.steps=1"]).schedule.warmup == 0
    assert load_experiment("setr_kv_small", ["fit.steps=500", "schedule.warmup=7"]).schedule.warmup == 7
    assert load_experiment("setr_kv_small", ["schedule={name: constant}", "fit.steps=500"]).schedule.warmup == 0


def test_milestones_and_the_teacher_follow_too() -> None:
    for name, make in RECIPES.items():
        before = make()
        if before.fit.steps < 200:
            continue
        after = load_experiment(name, [f"fit.steps={before.fit.steps // 2}"])
        assert after.schedule.warmup == pytest.approx(before.schedule.warmup / 2, abs=1), name
        assert after.schedule.milestones == pytest.approx([at / 2 for at in before.schedule.milestones], abs=1)
        if before.kind == "self-distillation":
            assert after.teacher.warmup == pytest.approx(before.teacher.warmup / 2, abs=1)
            assert after.teacher.freeze == pytest.approx(before.teacher.freeze / 2, abs=1)


def test_a_file_that_starts_from_a_recipe_scales_its_warm_up(tmp_path: Path) -> None:
    file = tmp_path / "short.yaml"
    file.write_text("recipe: setr_kv_small\nfit: {steps: 500}\n")
    assert load_experiment(file).schedule.warmup == 33
    assert load_experiment(file, ["fit.steps=250"]).schedule.warmup == 16


@pytest.mark.parametrize("count", [3, 60])
def test_unknown_names_get_the_nearest_and_no_wall(count: int) -> None:
    names = [f"model_{index:02d}" for index in range(count)]
    text = nearest("modle_01", names, "fewpairs models")
    assert text.startswith("did you mean 'model_01'")
    assert len(text) < 120
    assert ("`fewpairs models` lists them" in text) == (count == 60)
    if count == 60:
        assert nearest("zzz", names) == "60 names are known, such as model_00, model_01, model_02, model_03, model_04"
