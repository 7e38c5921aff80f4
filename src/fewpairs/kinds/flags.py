"""Options of `fewpairs predict` that not every kind of experiment has, as data; importing this loads no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """Option of the command line; if it is given, `Experiment.predictor` gets its value."""

    name: str
    """Name on the command line, such as `--batch-size`."""
    type: type[int | float | str]
    """Type of the value; bool for an option without a value."""
    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    """Allowed values of str; empty allows all."""
    repeated: bool = False
    """Whether the option may be repeated, which makes a list."""
    section: str | None = None
    """Section of the settings that values such as `flip=true` change; None gives them to `Experiment.predictor`."""

    @property
    def key(self) -> str:
        """Name in Python, such as `batch_size`."""
        return self.name.removeprefix("--").replace("-", "_")


BATCH_SIZE = Flag("--batch-size", int, "Slices, windows or pictures at once; 8 by default.", least=1)
