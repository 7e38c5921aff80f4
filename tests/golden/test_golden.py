"""What version 0.1.0 wrote, when the package was called latchkey, still loads, evaluates, predicts and scores alike.

`README.md` here tells what the files are. They must not be made anew so that a test passes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comparing import (
    alike,
    file_alike,
    lines,
    masked,
    printed_alike,
    read,
    records_alike,
    same,
)

from fewpairs.cli import main
from fewpairs.report import Difference, Estimate, comparison_markdown, read_comparison
from fewpairs.runs.config import load_experiment
from fewpairs.runs.run import run_settings
from fewpairs.scoring.verdict import read_interval

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "expected"
KINDS = sorted(folder.name for folder in EXPECTED.iterdir())


def cases(pattern: str) -> list[Any]:
    found = sorted(path.relative_to(EXPECTED) for path in EXPECTED.glob(pattern))
    return [pytest.param(path.parent.name, path.name, id=f"{path.parent.name}-{path.stem}") for path in found]


def named(file: str) -> list[Any]:
    """A case for each name in a file of every kind that has it."""
    return [
        pytest.param(kind, name, id=f"{kind}-{name}")
        for kind in KINDS
        if (EXPECTED / kind / file).is_file()
        for name in read(EXPECTED / kind / file)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inputs, to stand in: kept settings name their data as `inputs/...`."""
    folder = tmp_path_factory.mktemp("golden")
    shutil.copytree(HERE / "inputs", folder / "inputs")
    return folder


@pytest.fixture
def place(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That folder as the current one, with fresh copies of the old runs."""
    monkeypatch.chdir(data)
    shutil.rmtree(data / "runs", ignore_errors=True)
    shutil.copytree(HERE / "runs", data / "runs")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    yield data
    shutil.rmtree(data / "found", ignore_errors=True)


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that succeeds prints."""
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    try:
        main()
        status: Any = 0
    except SystemExit as end:
        status = end.code or 0
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out


@pytest.mark.parametrize(("kind", "file"), cases("*/scores-*.json"))
def test_scores_of_old_records(kind: str, file: str) -> None:
    expected = read(EXPECTED / kind / file)
    scoring = load_experiment(HERE / expected["config"], expected["overrides"]).scoring
    runs = {side: [scoring.load(EXPECTED / kind / name) for name in names] for side, names in expected["files"].items()}
    margin, samples = expected["margin"], expected["samples"]
    found = {
        "headline": scoring.headline,
        "compared": list(scoring.compared),
        "unit": scoring.unit,
        "rule": scoring.rule,
        "count": scoring.count(runs["baseline"][0]),
        "confusions": [list(row) for row in scoring.confusions(runs["candidate"][0])],
        "higher_is_better": {name: scoring.higher_is_better(name) for name in expected["higher_is_better"]},
        "scores": {side: [scoring.scores(one) for one in seeds] for side, seeds in runs.items()},
    }
    for name, value in found.items():
        same(value, expected[name], rel=1e-9, where=name)
    for name, value in expected["intervals"].items():
        side, seeds = name.split(", ")
        over = next(iter(value.values()))["over"]  # that version drew no seeds of scans and label maps
        drawn = scoring.intervals(runs[side][: int(seeds[0])], samples=samples, over=over)
        same({key: one.to_dict() for key, one in drawn.items()}, value, rel=1e-9, where=name)
    for name, value in expected["paired"].items():
        metric, seeds = name.split(", ")
        sides = [side[: int(seeds[0])] for side in runs.values()]
        difference = scoring.paired(
            *sides, metric=metric, margin=margin, samples=samples, over=value["over"], steady=False
        )
        higher = bool(scoring.higher_is_better(metric))
        reading = read_interval(difference.low, difference.high, margin, higher_is_better=higher)
        same(as_then(difference.to_dict(), value, reading), value, rel=1e-9, where=name)


def as_then(found: dict[str, Any], expected: dict[str, Any], verdict: str) -> dict[str, Any]:
    """A difference with the fields of version 0.1.0, whose verdict was how the interval itself reads."""
    return {name: found[name] for name in expected} | {"verdict": verdict}


def without_verdicts(markdown: str) -> str:
    """A report without its sentences and columns of verdicts, whose words have changed since version 0.1.0."""
    kept, verdict = [], False
    for line in markdown.splitlines():
        if re.match(r"- \*\*.*\*\*: Against |- \*\*Verdicts\*\*", line):
            continue
        verdict = line.endswith("| Verdict |") or (verdict and line.startswith("|"))
        kept.append(line.rsplit("|", 2)[0] if verdict else line)
    return "\n".join(kept)


@pytest.mark.parametrize("kind", KINDS)
def test_old_settings_load(kind: str, place: Path) -> None:
    experiment = run_settings(place / "runs" / kind)
    assert experiment.kind == kind
    assert experiment == load_experiment(HERE / "configs" / f"{kind}-run.yaml")


@pytest.mark.parametrize(("kind", "name"), named("splits.json"))
def test_old_settings_give_the_old_split(kind: str, name: str, place: Path) -> None:
    expected = read(EXPECTED / kind / "splits.json")[name]
    built = load_experiment(HERE / "configs" / f"{kind}-{name}.yaml").build(progress=False)
    ids: list[str] = []
    for item in built.validation:
        one = getattr(item, "ids", None) or (item.id,)
        ids += [f"{item.part}: {each}" if hasattr(item, "part") else each for each in one]
    assert json.loads(json.dumps(built.note)) == expected["note"]
    assert len(built.training) == expected["training"]
    assert ids == expected["validation"]
    assert dataclasses.asdict(built.description) == expected["data"]


@pytest.mark.parametrize(("kind", "name"), named("evaluations.json"))
def test_old_runs_evaluate(
    kind: str, name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = read(EXPECTED / kind / "evaluations.json")[name]
    run = f"runs/{kind}"
    words = [run, "--quiet", "--samples", "200", *options]
    counted = kind in ("segmentation", "semantic")
    printed = json.loads(call(monkeypatch, capsys, "evaluate", *words, "--json"))
    weights = options[options.index("--weights") + 1] if "--weights" in options else "best"
    found, kept = (lines(folder / run / f"records-{weights}.jsonl") for folder in (place, HERE))
    expected = read(EXPECTED / kind / f"evaluate-{name}.json")
    records_alike(kind, found, kept)
    assert list(printed) == list(expected)
    if not counted or (found == kept and "--inference" not in options):
        alike(printed, expected)
    else:
        for score, value in expected.items():
            assert (printed[score]["over"], printed[score]["reason"]) == (value["over"], value["reason"])
            if value["value"] is not None and "_mm" not in score:
                assert printed[score]["value"] == pytest.approx(value["value"], abs=0.05), score
    if name == "best":
        shown = call(monkeypatch, capsys, "evaluate", *words)
        assert masked(shown) == masked((EXPECTED / kind / f"evaluate-{name}.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "name"), named("predictions.json"))
def test_old_runs_predict(
    kind: str, name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = read(EXPECTED / kind / "predictions.json")[name]
    printed = call(monkeypatch, capsys, *expected["words"], "--json").replace(f"{place}/", "")
    out, kept = place / "found" / kind / name, EXPECTED / kind / "predictions" / name
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    files = [file for file in files if file != "labels.json"]  # it lies beside masks since then
    assert files == expected["files"]
    printed_alike(json.loads(printed), expected["printed"])
    for path in sorted(file for file in kept.rglob("*") if file.is_file()):
        file_alike(out / path.relative_to(kept), path)
    if "text" in expected:
        shown = call(monkeypatch, capsys, *expected["words"], "--overwrite").replace(f"{place}/", "")
        lines = [line for line in shown.splitlines() if not line.startswith("  note: ")]  # notes came later
        assert [re.sub(r"\d+(\.\d+)?", "#", line) for line in lines] == [
            re.sub(r"\d+(\.\d+)?", "#", line) for line in expected["text"]
        ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["comparison", "report"])
def test_old_reports_are_read_and_written_alike(kind: str, file: str) -> None:
    folder = EXPECTED / kind
    stored = read_comparison(folder / f"{file}.json")
    scoring = load_experiment(HERE / "configs" / f"{kind}-compare.yaml").scoring
    seeds = len(stored.seeds)
    runs = [
        [scoring.load(folder / f"{side}-seed{seed}.jsonl") for seed in range(seeds)]
        for side in ("baseline", "candidate")
    ]
    over = scoring.unit if kind in ("segmentation", "semantic") else None  # that version drew no seeds of these
    rows = []
    for row, records in zip(stored.rows, runs, strict=False):
        drawn = scoring.intervals(records, samples=stored.resamples, over=over)
        single = [scoring.scores(one) for one in records]
        differences = {
            name: Difference.of(
                scoring.paired(
                    runs[0],
                    records,
                    metric=name,
                    margin=stored.margin,
                    samples=stored.resamples,
                    over=over,
                    steady=False,
                )
            )
            for name in row.differences or {}
        }
        rows.append(
            dataclasses.replace(
                row,
                scores={name: Estimate.of(one) for name, one in drawn.items()},
                per_seed={name: tuple(scores[name] for scores in single) for name in single[0]},
                differences=differences or None,
            )
        )
    again = dataclasses.replace(stored, rows=tuple(rows))
    expected = read(folder / f"{file}.json")
    found = json.loads(again.to_json())
    for row, old in zip(found["rows"], expected["rows"], strict=True):
        assert row.pop("units") == {}, "that version stored no scores of single units"
        for name, value in (old["differences"] or {}).items():
            ends = (row["differences"][name][end] for end in ("low", "high", "margin"))
            verdict = read_interval(*ends, higher_is_better=bool(scoring.higher_is_better(name)))
            row["differences"][name] = as_then(row["differences"][name], value, verdict)
    same(found, expected, rel=1e-9)
    written = (folder / f"{file}.md").read_text(encoding="utf-8")
    assert without_verdicts(comparison_markdown(again)) == without_verdicts(written)
