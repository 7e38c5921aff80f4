"""Settings are plain data: whatever else YAML can say is one message."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.runs.config import load_experiment
from fewpairs.runs.plain_yaml import parse_yaml

BAD = {
    "name: 2024-01-01": r"2024, 1, 1\) at name is a date; put it in quotes",
    "name: 2024-02-30": "day is out of range",
    "name: !!binary aGVsbG8=": "at name is a bytes",
    "name: !!set {a, b}": "at name is a set",
    "kind: {a: b}": "is no kind of experiment",
    "kind: [segmentation]": "is no kind of experiment",
    "recipe: {setr_kv_small: 1}": "recipe .* is not known",
    "recipe: [1]": "recipe .* is not known",
    "data: &a {b: *a}": "holds itself",
    "data: &a [*a]": "holds itself",
    "? [1, 2]\n: 3": "unhashable|must be text",
    "2024-01-01: 3": "a name of a setting must be text",
    "true: 3": "a name of a setting must be text",
    "name: " + "[" * 3000: "deeper values|nested too deeply",
    "name: " + "- " * 3000: "is not readable as YAML|deeper values",
    "fit: {steps: " + "9" * 400 + "}": "bits at fit.steps; whole numbers have 64 at most",
    "fit: {steps: " + "9" * 5000 + "}": "is not readable as YAML",
    "fit: {steps: .nan}": r"fit\.steps",
    "model: {attention: [.nan, kv]}": "attention=nan must be a variant",
    "model: {attention: knn" + "1" * 5000 + "}": "number of 5000 digits",
    "a: &a [x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)): "deeper",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_is_no_plain_data_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=BAD[text]) as caught:
        load_experiment(tmp_path / "config.yaml")
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("value", ["2024-01-01", "!!binary aGVsbG8=", "&a [*a]", "[" * 2000, "9" * 5000, "{? [1] : 2}"])
def test_overrides_too(value: str) -> None:
    with pytest.raises(InputError, match="override 'fit"):
        load_experiment("setr_kv_small", [f"fit={value}"])


def test_a_name_of_more_than_255_bytes_is_no_file() -> None:
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        load_experiment("x" * 300 + ".yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_data_comes_back_as_it_was(content: object) -> None:
    import yaml

    assert parse_yaml(yaml.safe_dump(content, allow_unicode=True), "x") == content
