"""Interface of every kind of experiment: settings as plain data, and the objects that they build."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from fewpairs.data.description import DataDescription
from fewpairs.data.identity import DataIdentity
from fewpairs.errors import InputError
from fewpairs.kinds.predictor import Predictor
from fewpairs.report import Overlay
from fewpairs.report.vocabulary import VOCABULARIES, Vocabulary
from fewpairs.scoring.scoring import Scoring
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig
from fewpairs.train.dataloader import Collate, KeyedDataset
from fewpairs.train.protocols import Items
from fewpairs.train.schedule import check_schedule
from fewpairs.types import Size


@dataclass(frozen=True)
class Built:
    """Data, model and task of an experiment."""

    model: nn.Module
    task: Any
    """Loss, prediction and metric (`fewpairs.train.protocols.Task`), with the names of its `classes`."""
    training: KeyedDataset
    validation: Items
    collate: Collate
    size: Size
    """Height and width in pixels of the model's input."""
    channels: int
    """Channels of the model's input."""
    note: dict[str, Any]
    """Plain data from which `Experiment.restore` makes model and task without the data set."""
    description: DataDescription
    identity: Callable[[], DataIdentity]
    """Digests of names and labels, which may read label files; see `runs.same_data`."""
    notices: Sequence[str] = ()
    """Sentences on what was found in the files, such as files that were left out; training prints them."""
    costed: nn.Module | None = None
    """Part of the model whose cost reports show because it is used after training; None is the whole model."""


class Experiment(ABC):
    """All settings that determine the result of a run, as plain data; written beside every checkpoint.

    Each kind of experiment is a frozen dataclass with these fields and its own sections for model, data and task.
    """

    kind: ClassVar[str]
    """Name of the kind in the first line of a YAML file."""
    show: ClassVar[Callable[..., tuple[Overlay, ...]] | None] = None
    """Function that draws `pictures`; None if the kind has none."""

    name: str
    model: Any
    """Settings of the model, including `attention` and `pretrained`."""
    fit: FitConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig

    @property
    @abstractmethod
    def scoring(self) -> Scoring:
        """Scoring of the records of this kind."""

    @property
    @abstractmethod
    def comparable(self) -> Mapping[str, Any]:
        """Settings that must be equal in compared experiments, by name."""

    @abstractmethod
    def build(self, *, progress: bool = True) -> Built:
        """Open the data; make the task, the data sets and the model, with fresh weights from `fit.seed`."""

    @abstractmethod
    def restore(self, note: Mapping[str, Any]) -> tuple[nn.Module, Any]:
        """Make model and task of a run from its `Built.note`; raise KeyError or TypeError if it is damaged."""

    @abstractmethod
    def start(self, built: Built) -> str | None:
        """Load pretrained weights if the settings name some, and return a report on each tensor."""

    def pictures(
        self, folder: Path, records: Sequence[Any], *, chosen_by: Sequence[Any] | None = None, **options: Any
    ) -> tuple[Overlay, ...]:
        """Return pictures of right and wrong predictions for the report; empty if the kind has none.

        The cases or images are chosen by the records `chosen_by`, by default by `records`: so that those of several
        runs show the same ones. `options` are `weights` and `headline`, and `built` if it is there already.
        """
        return self.show(self, folder, records, chosen_by=chosen_by or records, **options) if self.show else ()

    @property
    def words(self) -> Vocabulary:
        """Words of reports about this kind; stored reports find them by the kind's name."""
        return VOCABULARIES[self.kind]

    def inference_model(self, model: nn.Module) -> nn.Module:
        """Return the model for final scores and prediction, which may see an image several times or in parts."""
        return model

    def predictor(
        self, note: Mapping[str, Any], model: nn.Module, task: Any, **flags: Any
    ) -> Predictor[Any, Any, Any, Any]:
        """Return the predictor of new files, given the `Built.note` of a run and its restored model and task.

        `flags` are `device` and the options of the kind in `PREDICTIONS`, such as `batch_size=4`.

        Raises:
            InputError: this kind predicts nothing, or the value of a flag is out of range.
        """
        raise InputError(f"runs of the kind {self.kind} predict no masks, classes or objects")

    def training_task(self, built: Built) -> Any:
        """Return the task for scores during training, which may leave out slow scores that are not monitored."""
        return built.task

    def with_seed(self, seed: int) -> Self:
        """Return the experiment with another seed of initial weights, data order and augmentation."""
        return replace(self, fit=replace(self.fit, seed=seed))  # type: ignore[type-var]  # every kind is a dataclass

    def _check(self) -> None:
        """Check combinations of settings; called by `__post_init__`."""
        check_schedule(self.schedule, self.fit.steps)
        better = self.scoring.higher_is_better(self.fit.monitor)
        if better is not None and better != self.fit.maximise:
            raise InputError(
                f"fit.monitor={self.fit.monitor} is better when {'higher' if better else 'lower'}; "
                f"fit.maximise={self.fit.maximise} would keep the worst weights; set fit.maximise={str(better).lower()}"
            )
