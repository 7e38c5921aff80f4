"""What ends a training from outside: a loading process that dies, a full disk, data that go away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from fewpairs.errors import DataError, TrainingError
from fewpairs.train.interruption import Interrupted
from fewpairs.train.run_folder import RunFolder


@contextmanager
def explained(run: RunFolder, *, again: str | None = None) -> Iterator[None]:
    """Turn such an end into one message with the command `again`; by default that which resumes the run.

    Raises:
        TrainingError: a loading process died, or a file cannot be read or written.
        DataError: the data raised it.
    """
    try:
        yield
    except Interrupted:
        raise
    except TrainingError as error:
        if not isinstance(error.__cause__, OSError | SafetensorError):
            raise
        raise TrainingError(f"{error}\n{_remedy(run, again)}") from error
    except DataError as error:
        if again is None and not run.last.exists():
            raise
        raise type(error)(f"{error}\n{_remedy(run, again)}") from error
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise TrainingError(f"the system refused{where}: {error.strerror or error}\n{_remedy(run, again)}") from error
    except RuntimeError as error:
        # PyTorch says so with a plain RuntimeError, at whatever line runs when the process ends.
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            f"a process that loads data died ({' '.join(str(error).split())[:200]}): memory ran out, so that fewer "
            "fit.workers or a smaller fit.batch_size help, or a file was cut off while it was read, or somebody "
            f"stopped it\n{_remedy(run, again)}"
        ) from error


def _remedy(run: RunFolder, again: str | None) -> str:
    if again is not None:
        return f"The run's weights are kept. Score them with: {again}"
    if not run.last.exists():
        return "No checkpoint was written yet; start the run again."
    return f"Resume with: {run.resume_command}"
