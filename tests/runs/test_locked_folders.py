"""A second training, comparison or prediction in one folder is refused while the first one runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewpairs.errors import InputError
from fewpairs.runs.compare import ComparisonPlan, compare
from fewpairs.runs.config import load_experiment
from fewpairs.runs.run import train_run

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom fewpairs.folder_lock import lock_folder\n"
    "with lock_folder(Path(sys.argv[1]), 'training'):\n    print(flush=True)\n    time.sleep(60)"
)


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Path]:
    """A folder in which another process works."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "taken")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield tmp_path / "taken"
        process.kill()


def test_a_second_training_and_comparison_are_refused(taken: Path, tiny: list[str]) -> None:
    experiment = load_experiment("setr_kv_small", tiny)
    before = sorted(path.name for path in taken.iterdir())
    with pytest.raises(InputError, match=r"taken is in use: process \d+ on .* has been training there since"):
        train_run(experiment, taken, resume=False, overwrite=True, progress=False)
    with pytest.raises(InputError, match=r"taken is in use: process \d+ "):
        compare(ComparisonPlan(experiments={"a": experiment}), taken, title="", command="")
    assert sorted(path.name for path in taken.iterdir()) == before
