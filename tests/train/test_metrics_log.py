from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewpairs.errors import DataError, TrainingError
from fewpairs.train.metrics_log import MetricsLog, read_log


def test_one_valid_json_object_a_line_even_for_what_json_cannot_say(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1, "scores": {"hd95_mm": float("inf"), "dice": [float("nan"), 0.5]}})
    (line,) = log.path.read_text().splitlines()
    assert json.loads(line) == {"step": 1, "scores": {"hd95_mm": None, "dice": [None, 0.5]}}


def test_later_lines_and_a_torn_one_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"step": 8, "lo')
    assert [record["step"] for record in read_log(path)] == [2, 4, 6]
    log = MetricsLog(path, after=4)
    log.append({"step": 5})
    assert path.read_text() == '{"step": 2}\n{"step": 4}\n{"step": 5}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


DAMAGE = [
    b"[1]",
    b"\xff\xfe",
    b'{"step": 3, "epoch": "x"}',
    b"[" * 20_000,
    b'{"step": 3, "scores": [1]}',
    b'{"step": 1e9}',
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_the_middle_names_the_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 2}\n' + damage + b'\n{"step": 6}\n')
    with pytest.raises(DataError, match=r"line 2 of .*metrics\.jsonl"):
        read_log(path)
    path.write_bytes(b'{"step": 2}\n' + damage[:-1])
    assert [record["step"] for record in read_log(path)] == [2], "a last line that was cut off is left out"


def test_a_disk_that_refuses_is_one_message(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(TrainingError, match=r"could not write the log .*metrics\.jsonl"):
        log.append({"step": 1})
