"""The demonstration keeps its promises: hard enough for a model that knows nothing, learned by those that train."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewpairs.runs.demo import run_demo


@pytest.mark.slow
def test_the_demo_learns_what_it_promises(tmp_path: Path) -> None:
    found = run_demo(tmp_path, progress=False, say=lambda _text: None)
    assert [row.attention for row in found.rows] == ["softmax", "kv", "kvpos"]
    for row in found.rows:
        jaccard = row.scores["jaccard"].value
        assert jaccard is not None
        assert jaccard >= 0.75, row.label
