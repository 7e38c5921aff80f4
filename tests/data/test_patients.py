"""Names that share a patient are noticed, with a pattern that joins them; equal files are noticed too."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.data.duplicates import duplicate_notes
from fewpairs.data.files import CasePattern
from fewpairs.data.patients import patient_notes, shared_names
from fewpairs.runs.config import parse_override

ENDINGS = [
    ("_frame01", "_frame12"),
    ("_t1", "_t2"),
    ("_day0", "_day20"),
    ("_ses-1_T1w", "_ses-2_T1w"),
    ("-ses2", "-ses3"),
    ("_slice_12", "_slice_13"),
    ("_left", "_right"),
    ("_L_CC", "_R_MLO"),
    ("_T1w", "_FLAIR"),
    ("_tp2_x", "_tp3_y"),
    ("_VISIT1", "_VISIT2"),
]


@pytest.mark.parametrize("endings", ENDINGS)
@given(st.lists(st.from_regex(r"[a-z]{1,3}[0-9]{2,4}", fullmatch=True), min_size=2, max_size=8, unique=True))
def test_the_pattern_finds_the_patients(endings: tuple[str, str], patients: list[str]) -> None:
    names = [f"{patient}{ending}" for patient in patients for ending in endings]
    found = shared_names(names)
    assert found is not None
    case_of = CasePattern(found.pattern)  # which refuses a name that it does not fit
    assert {case_of(name) for name in names} == set(patients)
    assert len(found.cases) == len(patients)
    assert parse_override(f"data.source.case_pattern={found.pattern}")[1] == found.pattern


def test_names_without_an_ending_are_kept_apart() -> None:
    found = shared_names(["a1_day1", "a1_day2", "b2", "c3"])
    assert found is not None
    assert dict(found.cases) == {"a1": ["a1_day1", "a1_day2"], "b2": ["b2"], "c3": ["c3"]}


def test_patients_that_are_called_so() -> None:
    found = shared_names(["patient1_a", "patient1_b", "patient2_a", "patient10_c"])
    assert found is not None
    assert list(found.cases) == ["patient1", "patient2", "patient10"]


@pytest.mark.parametrize(
    "names",
    [
        [f"hippocampus_{number:03d}" for number in range(20)],
        [f"img_{number}" for number in range(20)],
        [f"aachen_{number:06d}_000019" for number in range(20)],
        [f"scan_{number}" for number in range(5)],
        [f"liver_slice_{number}" for number in range(9)],
        [f"train_{number}" for number in range(9)],
        [],
    ],
)
def test_ordinary_names_are_not_suspected(names: list[str]) -> None:
    assert shared_names(names) is None
    assert patient_notes({"training": names}, "x") == ()


def test_the_sentence_says_how_many_and_what_to_do() -> None:
    training, validation = ["a1_t1", "a1_t2", "b2_t1", "c3_t1"], ["b2_t2", "c3_t2", "d4_t1", "d4_t2"]
    (said,) = patient_notes({"training": training, "validation": validation}, "data.source.case_pattern", drawn=True)
    assert said == (
        "by their names, 8 files are of 4 patients ('a1_t1' and 'a1_t2' of one), 2 of them in more than one of "
        "training, validation; if so, scores are too good: join them with data.source.case_pattern='(.+?)[_-]t[0-9]+'"
    )
    assert patient_notes({"training": training[:2], "validation": validation[2:]}, "x", drawn=True) == ()
    assert "which a split may separate" in patient_notes({"train": training}, "x")[0]
    (said,) = patient_notes({"train": training, "validation": validation}, "p", pattern="(.+)_t[0-9]")
    assert said == (
        "8 files are 4 cases by p='(.+)_t[0-9]', 2 of them in more than one of train, validation: scores are too good"
    )
    assert patient_notes({"train": training}, "p", pattern="(.+)_t[0-9]") == ()


def test_many_names_are_searched_in_part_and_all_must_fit() -> None:
    names = [f"p{number:05d}_t{time}" for number in range(12_000) for time in (1, 2)]
    found = shared_names(names)
    assert found is not None
    assert len(found.cases) == 12_000
    assert shared_names([*names, "another"]) is None


def test_equal_files_are_counted_and_named(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one"), ("d", b"three"), ("e", b"two")):
        (tmp_path / name).write_bytes(content)
    parts = {"a": "train", "b": "train", "c": "validation", "d": "train", "e": "train"}
    assert duplicate_notes([(name, tmp_path / name, part) for name, part in parts.items()]) == (
        "4 images are 2 in truth, because their content is equal, 1 of them in several parts of the data set: a = c, "
        "b = e; a split that separates them gives scores that are too good",
    )
    assert duplicate_notes([("a", tmp_path / "a", "train"), ("x", tmp_path / "x", "train")]) == ()
