"""The commands `fewpairs cost` and `fewpairs models`."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fewpairs.cli import app, main
from fewpairs.cli.cost import parse_size
from fewpairs.errors import InputError
from fewpairs.numbers import count, mebibytes


def run(*arguments):
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, list(arguments))


def test_table_shows_every_attention_and_the_change():
    result = run("cost", "setr_naive_small", "--size", "16,24", "--classes", "2", "--channels", "1")
    assert result.exit_code == 0, result.output
    text = result.output
    assert "16 x 24 pixels, 1 channels, 2 output channels" in text
    for word in ("Parameters", "Multiply-adds", "Activation memory", "feed-forward", "projections", "training"):
        assert word in text
    header = next(line for line in text.splitlines() if "term" in line)
    assert header.index("softmax") < header.index("kv") < header.index("kvpos")
    assert "-25.0 %" in text


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_cells_are_whole_however_narrow_the_terminal(columns):
    words = ("cost", "setr_naive_small", "--size", "16,24", "--classes", "2", "--channels", "1")
    text = CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1"}).invoke(app, words).output
    assert "…" not in text
    headers = [line for line in text.splitlines() if "term" in line and "softmax" in line]
    assert sum(line.split().count("kvpos") for line in headers) == 3
    assert text.count("feed-forward") == len(headers)


def test_json():
    result = run("cost", "setr_naive_small", "-a", "kv", "--size", "16", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.output)
    assert (content["height"], content["width"], content["classes"]) == (16, 16, 3)
    assert list(content["attention"]) == ["kv"]


def test_attention_that_cannot_be_is_named():
    result = run("cost", "cvt_13", "--size", "64,64")
    assert result.exit_code == 0, result.output
    assert "kvpos is left out" in result.output


def test_list_of_models():
    result = run("models", "setr_*_small", "--attention", "kv")
    assert result.exit_code == 0, result.output
    assert "setr_pup_small" in result.output
    assert "1.27 M" in result.output
    assert "64x64" in result.output
    assert "conv_setr" not in result.output


def test_list_of_classifiers_with_neighbours():
    result = run("models", "[dc]*_*a*", "--attention", "knn")
    assert result.exit_code == 0, result.output
    deit = next(line for line in result.output.splitlines() if "deit_tiny" in line)
    assert [cell.strip() for cell in deit.split("│")[1:7]] == [
        *("deit_tiny_patch16_224", "224x224", "5.72 M", "1.25 G", "197x197", "100")
    ]
    cvt = result.output.split("cvt_nano")[1].splitlines()
    assert ["196x49" in cvt[0], "50x17" in cvt[1]] == [True, True]


def test_list_without_neighbours_has_no_k():
    result = run("models", "vit_nano")
    header = next(line for line in result.output.splitlines() if "tokens" in line)
    assert [cell.strip() for cell in header.split("┃")[1:-1]] == [
        *("name", "size", "parameters", "MACs", "tokens", "what it is")
    ]


def test_cost_of_a_classifier_with_its_own_k():
    result = run("cost", "vit_nano", "--attention", "knn", "--json")
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.output)["attention"]) == ["knn"]


def test_pattern_that_matches_nothing():
    result = run("models", "unet*")
    assert isinstance(result.exception, InputError)
    assert "no model's name matches 'unet*'" in str(result.exception)


@pytest.mark.parametrize("arguments", [("cost", "setr_pup_smal"), ("cost", "vit_b16", "-a", "qv"), ("models", "x")])
def test_mistakes_end_with_status_2_and_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fewpairs", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_size_too_small_to_train_on():
    result = run("cost", "cvt_13", "--size", "32,32")
    assert isinstance(result.exception, InputError)
    assert "32x32 pixels are too few" in str(result.exception)


@pytest.mark.parametrize("command", ["cost", "models"])
def test_help_has_an_example(command):
    assert f"Example: fewpairs {command}" in " ".join(run(command, "--help").output.split())


@given(height=st.integers(1, 9999), width=st.integers(1, 9999), separator=st.sampled_from([",", "x", ", ", "X"]))
def test_sizes(height, width, separator):
    assert parse_size(f"{height}{separator}{width}") == (height, width)
    assert parse_size(str(height)) == (height, height)
    assert parse_size(None) is None


@pytest.mark.parametrize("text", ["", ",", "1,2,3", "0,5", "-1,5", "a", "5,", "1.5,2", "²"])
def test_sizes_that_are_none(text):
    with pytest.raises(InputError, match="height and width in pixels"):
        parse_size(text)


def test_units():
    assert [count(n) for n in (0, 999, 1500, 85_797_120, 17_471_000_000)] == [
        "0",
        "999",
        "1.50 k",
        "85.80 M",
        "17.47 G",
    ]
    assert mebibytes(3 * 2**19) == "1.50 MiB"
