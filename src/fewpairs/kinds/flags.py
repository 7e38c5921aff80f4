"""Options of `fewpairs predict` that not every kind of experiment has, as data; importing this loads no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """One such option; the command line offers it, and `Experiment.predictor` gets its value where it is given."""

    name: str
    """As on the command line: `--batch-size`."""
    type: type[int | float | str]
    """int, float, str, or bool for an option without a value."""
    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    """The values that are allowed, of str; empty: all."""
    repeated: bool = False
    """Whether it may be given several times, which makes a list."""
    section: str | None = None
    """Section of the settings that its values change, as `flip=true`; None: `Experiment.predictor` gets the value."""

    @property
    def key(self) -> str:
        """The name in Python: `batch_size`."""
        return self.name.removeprefix("--").replace("-", "_")


BATCH_SIZE = Flag("--batch-size", int, "Slices, windows or pictures at once; 8 by default.", least=1)
