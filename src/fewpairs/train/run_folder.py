"""The folder of a run."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from fewpairs.errors import InputError
from fewpairs.folder_lock import is_own, lock_folder
from fewpairs.train.checkpoint import read_metadata
from fewpairs.train.environment import describe_environment
from fewpairs.writing import TEMPORARY, replace_text

Weights = Literal["best", "last"]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Folder that holds the files of one run.

    `config.yaml` (settings), `environment.json` (software and hardware), `metrics.jsonl` (the log),
    `last.safetensors` (everything needed to resume) and `best.safetensors` (the weights that scored best).
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def resume_command(self) -> str:
        return f"fewpairs train --resume {shlex.quote(str(self.path))}"

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step or stopped early, by patience."""
        return self.last.exists() and bool(read_metadata(self.last).get("finished"))

    def lock(self, *, main: bool = True) -> AbstractContextManager[None]:
        """Hold the folder while training, in the first process of a launcher; see `folder_lock.lock_folder`.

        Raises:
            InputError: another process trains in this folder, or it cannot be written.
        """
        return lock_folder(self.path, "training", "run folder") if main else nullcontext()

    def create(self, config: str, *, overwrite: bool = False) -> None:
        """Make the folder and write `config` (YAML text) and the environment.

        `overwrite` removes the files of an earlier run in the folder, and nothing else.

        Raises:
            InputError: the folder holds something other than a run, holds a run without `overwrite`, or cannot be
                written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; name a folder for the run")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = {entry.name for entry in self.path.iterdir() if not is_own(entry.name)}
        except OSError as error:
            raise self._unwritable(error) from error
        if names and self.config.name not in names:
            raise InputError(
                f"{self.path} is not empty and holds no run (no {self.config.name}); name a new or an empty folder"
            )
        if self.last.name in names and not overwrite:
            state = "a finished" if self.finished else "an unfinished"
            raise InputError(
                f"{self.path} already holds {state} run; resume it with `{self.resume_command}`, name another folder, "
                f"or replace it with --overwrite"
            )
        self._check_writable()
        try:
            for old in (self.last, self.best, self.metrics):
                old.unlink(missing_ok=True)
            replace_text(self.config, config)
            replace_text(self.environment, json.dumps(describe_environment(), indent=2) + "\n")
        except OSError as error:
            raise self._unwritable(error) from error

    def open(self, *, resume: bool, settings: Mapping[str, Any]) -> None:
        """Prepare the folder for training; create it with `settings` as config if `create` has not been called.

        Raises:
            InputError: as `create` and `check_resumable`.
        """
        if resume:
            self.check_resumable()
        elif not self.config.exists() or self.last.exists():
            self.create(yaml.safe_dump(dict(settings), sort_keys=False))
        else:
            self._check_writable()

    def check_resumable(self) -> None:
        """Raise InputError unless training can be resumed from this folder."""
        if not self.config.exists():
            raise InputError(f"{self.path} holds no run to resume (no {self.config.name})")
        if not self.last.exists():
            raise InputError(
                f"{self.path} has no {self.last.name}: its run stopped before the first checkpoint; start it again"
            )
        self._check_writable()

    def _check_writable(self) -> None:
        try:
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=TEMPORARY):
                pass
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"cannot write to the run folder {self.path}: {error.strerror or error}; choose a folder that you may "
            f"write to, or change its permissions"
        )


def weights_file(folder: Path, weights: Weights) -> Path:
    """Return the checkpoint of a run: `best` by the monitored score, or `last`.

    Raises:
        InputError: the run has no such checkpoint.
    """
    run = RunFolder(folder)
    file = {"best": run.best, "last": run.last}[weights]
    if not file.is_file():
        raise InputError(f"{folder} has no {file.name}; train first: fewpairs train RECIPE --out {folder}")
    return file
