"""docs/transforms.md says what PyTorch can do with each operator and with swapped models; here it is done."""

from __future__ import annotations

import pytest
from transformations import SUBJECTS, TRANSFORMATIONS, outcome, rows

QUICK = [name for name in TRANSFORMATIONS if name not in ("ONNX", "`torch.compile`")]
LONG = [
    pytest.param(name, subject, marks=pytest.mark.slow)
    for name in TRANSFORMATIONS
    for subject in SUBJECTS
    if name not in QUICK or subject.startswith("swap.")
]
GRID = [(name, subject) for name in QUICK for subject in SUBJECTS if subject.startswith("ops.")] + LONG


def test_the_page_has_a_row_for_each_transformation() -> None:
    assert list(rows()) == list(TRANSFORMATIONS)
    assert all(list(row) == list(SUBJECTS) for row in rows().values())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, about tracing and forward mode
@pytest.mark.parametrize(("name", "subject"), GRID)
def test_the_page_says_what_happens(name: str, subject: str) -> None:
    assert outcome(name, SUBJECTS[subject]()) == rows()[name][subject]
