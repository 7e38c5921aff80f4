"""The documentation against the code: examples run, commands parse, settings have the defaults that are written."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml

from fewpairs.attention import KVPos, parse_variant
from fewpairs.cli import app, main
from fewpairs.kinds.classification.experiment import ClassificationExperiment
from fewpairs.kinds.detection.experiment import DetectionExperiment
from fewpairs.kinds.segmentation.experiment import SegmentationExperiment
from fewpairs.runs.config import load_experiment, parse_override, to_dict

ROOT = Path(__file__).parents[1]
README, TRAINING = ROOT / "README.md", ROOT / "docs" / "training.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_blocks(page: Path, names: dict[str, Any]) -> dict[str, Any]:
    """Run a page's Python from top to bottom, as a reader would; errors point into the page."""
    for number, code in enumerate(blocks(page, "python"), start=1):
        exec(compile(code, f"{page.name}, block {number}", "exec", dont_inherit=True), names)
    return names


def commands() -> list[tuple[str, list[str]]]:
    """Page and words of every `fewpairs ...` in a shell block, launchers taken off."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "-m" in words and words[words.index("-m") + 1] == "fewpairs":
                    words = words[words.index("-m") + 1 :]
                if words[:1] == ["fewpairs"]:
                    found.append((page.name, words[1:]))
    return found


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readmes_example_gives_logits_of_the_images_size() -> None:
    names = run_blocks(README, {"__name__": "readme", "image": torch.randn(1, 1, 40, 24)})
    assert names["logits"].shape == (1, 3, 40, 24)


def test_the_attention_pages_examples_hold_what_they_assert() -> None:
    names = run_blocks(ROOT / "docs" / "attention.md", {"__name__": "attention_page"})
    assert str(names["CosineKV"]()) == "CosineKV(start=10.0)"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_every_page_compiles_and_its_imports_exist(page: Path) -> None:
    for number, code in enumerate(blocks(page, "python"), start=1):
        where = f"{page.name}, block {number}"
        for node in ast.walk(ast.parse(code, where)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(str(node.module))
                assert not [name.name for name in node.names if not hasattr(module, name.name)], where


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: " ".join(value)[:60])
def test_commands_parse(page: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    given = list(words)
    while hasattr(command, "commands"):
        command = command.commands[given.pop(0)]
    parameters = command.make_context(words[0], given).params
    texts = [text for text in (parameters.get("recipe"), *(parameters.get("overrides") or ())) if text]
    texts += parameters.get("recipes") or ()
    overrides = [text for text in texts if "=" in text]
    assert all(parse_override(text) for text in overrides)
    for source in texts:
        if "=" not in source:
            load_experiment("setr_kv_small" if source.endswith(".yaml") else source, overrides)


def without_data() -> list[list[str]]:
    """The commands of all pages that need neither files nor minutes."""
    quick = ("cost", "models", "kernels", "doctor")
    found = [words for _, words in commands() if words[0] in quick or "--list" in words or "--help" in words]
    return [list(words) for words in dict.fromkeys(map(tuple, found))]


@pytest.mark.slow
@pytest.mark.parametrize("words", without_data(), ids=" ".join)
def test_commands_that_need_no_data_run(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others run in the tests of their kinds, on data that these make."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fewpairs", *words])
    try:
        main()
        status: Any = 0
    except SystemExit as end:
        status = end.code or 0
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert printed.out


def test_there_are_commands_to_check() -> None:
    assert {words[0] for _, words in commands()} >= {"train", "evaluate", "predict", "compare", "cost", "data"}


def test_yaml_of_the_training_page_is_an_experiment(tmp_path: Path) -> None:
    texts = blocks(TRAINING, "yaml")
    assert texts
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text, encoding="utf-8")
        experiment = load_experiment(file)
        assert experiment.model.attention == KVPos(d_pos=20)
        assert experiment.optimizer.lr == 5e-4


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, dict) and bool(value) and key != "attention"
        result |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return result


def test_every_setting_is_listed_once_with_its_default() -> None:
    rows = [
        (name, yaml.safe_load(default))
        for page in PAGES
        for name, default in re.findall(r"^\| `([\w.]+)` \| `([^`]*)` \|", page.read_text("utf-8"), re.MULTILINE)
    ]
    written, defaults = dict(rows), flat(to_dict(SegmentationExperiment()))
    assert len(written) == len(rows), "a setting is listed twice"
    assert parse_variant(written.pop("model.attention")) == parse_variant(defaults.pop("model.attention"))
    assert {name: value for name, value in written.items() if name in defaults} == defaults
    assert not [name for name in written if "." in name and name not in defaults], "settings that do not exist"


def test_settings_of_a_classifier_and_its_task_have_the_defaults_that_are_written() -> None:
    text = (ROOT / "docs" / "classification.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:model|task|data)\.\w+)` \| ([^|]+) \|", text, re.MULTILINE)
    written = {name: yaml.safe_load(default) for name, default in rows}
    defaults = flat(to_dict(ClassificationExperiment()))
    assert parse_variant(written.pop("model.attention")) == parse_variant(defaults.pop("model.attention"))
    told = re.compile(r"(model|task|data)\.\w+")
    assert written == {name: value for name, value in defaults.items() if told.fullmatch(name)}


def test_settings_of_a_detector_have_the_defaults_that_are_written() -> None:
    text = (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:model|task|data)\.\w+)` \| ([^|]+) \|", text, re.MULTILINE)
    defaults = flat(to_dict(DetectionExperiment()))
    told = re.compile(r"(model|task|data)\.\w+")
    assert {name: yaml.safe_load(default) for name, default in rows} == {
        name: value for name, value in defaults.items() if told.fullmatch(name)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, fragment = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), f"{page.name}: {target}"
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE) if fragment else []
        assert not fragment or fragment in map(anchor, headings), f"{page.name}: {target}"
