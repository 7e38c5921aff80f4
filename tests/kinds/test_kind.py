"""Every kind of experiment fulfils the contract of `kinds.kind`."""

from __future__ import annotations

import dataclasses

import pytest

from fewpairs.data.split import Split
from fewpairs.kinds import KINDS, PREDICTIONS, experiment_kind
from fewpairs.kinds.kind import Experiment
from fewpairs.runs.config import to_dict, validate

CONTRACT = ("build", "restore", "start", "scoring", "comparable", "predictor", "pictures", "words", "inference_model")


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_fulfils_the_contract(name: str) -> None:
    kind = experiment_kind(name)
    assert issubclass(kind, Experiment)
    assert kind.kind == name
    assert not kind.__abstractmethods__
    assert all(hasattr(kind, part) for part in CONTRACT)
    assert ("predictor" in vars(kind)) == (name in PREDICTIONS)


@pytest.mark.parametrize("name", KINDS)
def test_scores_and_words_of_a_kind_speak_of_one_unit(name: str) -> None:
    experiment = experiment_kind(name)()
    scoring, words = experiment.scoring, experiment.words
    assert scoring.unit == words.units
    assert {scoring.unit, f"{scoring.unit} and seeds"} <= set(words.resampling)
    assert scoring.headline in scoring.compared
    assert scoring.higher_is_better(scoring.headline) is True


@pytest.mark.parametrize("name", KINDS)
def test_settings_have_one_spelling_in_every_kind(name: str) -> None:
    experiment = experiment_kind(name)()
    assert isinstance(experiment.data.split, Split)  # type: ignore[attr-defined]  # every kind has the section data
    assert validate(to_dict(experiment)) == experiment
    written = to_dict(experiment)
    assert set(written["data"]["split"]) == {field.name for field in dataclasses.fields(Split)}
    assert "size" in written["view"] or {"short", "long"} <= set(written["view"])
