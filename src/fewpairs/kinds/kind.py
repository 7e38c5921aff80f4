"""What every kind of experiment has: settings as plain data, and what is built of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from fewpairs.data.description import DataDescription
from fewpairs.errors import InputError
from fewpairs.kinds.predictor import Predictor
from fewpairs.report import Overlay
from fewpairs.scoring.scoring import Scoring
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig
from fewpairs.train.dataloader import Collate, KeyedDataset
from fewpairs.train.protocols import Items
from fewpairs.train.run_folder import Weights
from fewpairs.train.schedule import check_schedule
from fewpairs.types import Size


@dataclass(frozen=True)
class Built:
    """An experiment put together: data -> model -> task."""

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
    """Plain data from which `Experiment.restore` makes model and task again, without the files."""
    description: DataDescription
    costed: nn.Module | None = None
    """The part of the model that is used after training, whose costs reports tell; None: all of it."""


class Experiment(ABC):
    """Everything that decides a run's result, as plain data; written beside every checkpoint.

    A kind of experiment is a frozen dataclass with these fields and its own sections for model, data and task.
    """

    kind: ClassVar[str]
    """What the first line of a YAML file calls it."""

    name: str
    model: Any
    """Settings of the model, with `attention` and `pretrained` among them."""
    fit: FitConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig

    @property
    @abstractmethod
    def scoring(self) -> Scoring:
        """How records become scores, intervals and paired differences."""

    @property
    @abstractmethod
    def comparable(self) -> Mapping[str, Any]:
        """The settings that two experiments must share for their scores to be compared, by name."""

    @abstractmethod
    def build(self, *, progress: bool = True) -> Built:
        """Opens the data and makes the model with fresh weights drawn from `fit.seed`, the task and the data sets."""

    @abstractmethod
    def restore(self, note: Mapping[str, Any]) -> tuple[nn.Module, Any]:
        """Model and task of a run from its `Built.note` alone; KeyError or TypeError when that is damaged."""

    @abstractmethod
    def start(self, built: Built) -> str | None:
        """Puts pretrained weights into the model where the settings ask for them, and says what became of each."""

    def pictures(
        self, folder: Path, records: Sequence[Any], *, weights: Weights, headline: str, built: Built | None = None
    ) -> tuple[Overlay, ...]:
        """Pictures of what a run got right and wrong, for its report; none where the kind has none."""
        return ()

    def inference_model(self, model: nn.Module) -> nn.Module:
        """The model as it is finally scored and used: it may see an image more than once, or in parts."""
        return model

    def predictor(
        self, note: Mapping[str, Any], model: nn.Module, task: Any, **flags: Any
    ) -> Predictor[Any, Any, Any, Any]:
        """What predicts new files, of a run's `Built.note` with its restored model and task.

        `flags` are `device` and those that the table `PREDICTIONS` lists for the kind, as `batch_size=4`.

        Raises:
            InputError: this kind predicts nothing, or the value of a flag is out of its range.
        """
        raise InputError(f"runs of the kind {self.kind} predict no masks, classes or objects")

    def training_task(self, built: Built) -> Any:
        """The task for scores during training; a kind may leave out what is slow and not monitored."""
        return built.task

    def with_seed(self, seed: int) -> Self:
        """The same experiment with another start: initial weights, order of the data and augmentation."""
        return replace(self, fit=replace(self.fit, seed=seed))  # type: ignore[type-var]  # every kind is a dataclass

    def _check(self) -> None:
        """What no field can check alone; for `__post_init__`."""
        check_schedule(self.schedule, self.fit.steps)
        better = self.scoring.higher_is_better(self.fit.monitor)
        if better is not None and better != self.fit.maximise:
            raise InputError(
                f"fit.monitor={self.fit.monitor} is better when {'higher' if better else 'lower'}; "
                f"fit.maximise={self.fit.maximise} would keep the worst weights; set fit.maximise={str(better).lower()}"
            )
