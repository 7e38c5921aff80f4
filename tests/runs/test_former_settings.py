from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.data.split import Split
from fewpairs.errors import InputError
from fewpairs.kinds.semantic.labels import Reading
from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource
from fewpairs.kinds.semantic.split import split_semantic
from fewpairs.runs import former_settings
from fewpairs.runs.config import load_experiment, to_dict
from fewpairs.runs.former_settings import FORMER, renamed

OLD_FOLDS = ("5", "6", "2", "1", "4", "3", "0")
"""The case that each fold of 7 cases held out in version 0.1.0, with the share 0.2 and the seed 3."""


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    former_settings._tell_once.cache_clear()
    yield
    former_settings._tell_once.cache_clear()


@pytest.mark.parametrize("kind", FORMER)
def test_every_former_name_leads_to_a_setting(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(f"kind: {kind}\n")
    content = to_dict(load_experiment(path))
    for former, new in FORMER[kind].items():
        section = content
        for key in new.split("."):
            assert key in section, new
            section = section[key]
        assert former != new


def test_a_yaml_file_of_former_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(
        "kind: detection\n"
        "data: {train_on: [train, val], validate_on: test, limit: 4, source: {val: a.json, check_files: false, "
        "val_fraction: 0.25, seed: 3}}\nview: {shorter: 40, longer: 64}\n"
    )
    data = load_experiment(path).data
    assert data.split == Split(train=("train", "validation"), validation="test", limit=4, folds=4, seed=3)
    assert (data.check, data.source.validation) == ("none", "a.json")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 9
    assert "data.validate_on is called data.split.validation now; the former name is still read" in told


def test_an_override_of_a_former_name_goes_over_a_file_of_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text("kind: semantic\ndata: {split: {validation: test, fraction: 0.4}}\n")
    changed = load_experiment(path, ["data.shares.validate_on=val", "data.shares.fraction=0.2"])
    assert changed.data.split == Split(validation="validation")
    whole = load_experiment(path, ["data.shares={validate_on: train, fraction: 0.3}"])
    assert whole.data.split == Split(validation="train", fraction=0.3)


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(InputError, match=r"data\.fold and data\.split\.fold are one setting"):
        load_experiment("setr_kv_small", ["data.fold=1", "data.split.fold=2"])


def test_a_name_of_another_kind_is_not_read() -> None:
    with pytest.raises(InputError, match=r"'data\.folds' is not known"):
        load_experiment("fpn_pvt_v2_b0_nuclei", ["data.folds=3"])


@given(st.floats(0.01, 0.99))
def test_a_share_stays_what_it_was(share: float) -> None:
    leaves = {path[-1]: value for path, value in renamed("semantic", [(("data", "shares", "fraction"), share)])}
    assert Split(**leaves).share == share


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["c", "d"])), unique=True))
def test_other_settings_are_left_alone(paths: list[tuple[str, str]]) -> None:
    leaves = [(path, 1) for path in paths]
    assert renamed("detection", leaves) == leaves


def seven_cases() -> SemanticSource:
    files = [ImageFiles(str(number), str(number), Path("image.png"), Path("mask.png")) for number in range(7)]
    return SemanticSource("seven", ("a", "b"), {"train": files}, cast(Reading, None))


@pytest.mark.parametrize(("fold", "held"), list(enumerate(OLD_FOLDS)))
@pytest.mark.parametrize("given_as", ["file", "file of defaults", "override", "override of fold"])
def test_old_folds_of_few_cases_hold_the_same_case(fold: int, held: str, given_as: str, tmp_path: Path) -> None:
    path, shares = tmp_path / "old.yaml", f"validate_on: train, fold: {fold}, seed: 3"
    overrides: list[str] = []
    if given_as == "file":
        shares = f"{shares}, fraction: 0.2"
    elif given_as == "override":
        shares, overrides = "validate_on: train", [f"data.shares.fold={fold}", "data.shares={seed: 3, fraction: 0.2}"]
    elif given_as == "override of fold":
        shares, overrides = "validate_on: train, seed: 3, fraction: 0.2", [f"data.shares.fold={fold}"]
    path.write_text(f"kind: semantic\ndata: {{shares: {{{shares}}}}}\n")
    split = split_semantic(seven_cases(), load_experiment(path, overrides).data.split)
    assert [files.id for files in split.validation] == [held]
    assert len(split.train) == 6


def test_a_fold_that_the_cases_do_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("kind: semantic\ndata: {shares: {validate_on: train, fold: 7}}\n")
    with pytest.raises(InputError, match=r"data\.split\.fold=7: with fraction=0\.2 the folds are 0 to 6"):
        split_semantic(seven_cases(), load_experiment(path).data.split)
    with pytest.raises(InputError, match=r"data\.split\.fold=5: with folds=5 the folds are 0 to 4"):
        load_experiment(path, ["data.split={fold: 5, fraction: null}"])
