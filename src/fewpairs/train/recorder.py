"""Recording of a run: log file, progress display, history and times."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import torch

from fewpairs.train.checkpoint import read_metadata
from fewpairs.train.config import FitConfig
from fewpairs.train.dataloader import BatchLoader
from fewpairs.train.history import History
from fewpairs.train.metrics_log import MetricsLog, Record, json_safe, read_log
from fewpairs.train.progress import ProgressReporter
from fewpairs.train.run_folder import RunFolder
from fewpairs.train.state import Position


class RunRecorder:
    """Record a run; all processes measure time, and only the first one (`main`) writes and prints."""

    def __init__(
        self, run: RunFolder, config: FitConfig, position: Position, batches: BatchLoader, *, main: bool, progress: bool
    ) -> None:
        self.config, self.position, self.batches = config, position, batches
        self.history = History(config.monitor)
        self.log = MetricsLog(run.metrics, after=position.step) if main else None
        for record in self.log.kept if self.log else ():
            self.history.add(record)
        self.reporter = ProgressReporter(start=position.step, steps=config.steps, enabled=progress and main)
        self._earlier = position.seconds
        self._started = time.perf_counter()
        if torch.cuda.is_available() and batches.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(batches.device)

    def __enter__(self) -> RunRecorder:
        self.reporter.__enter__()
        self.open_window()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reporter.__exit__(kind, error, trace)

    def step(self) -> None:
        """Record that a step is done."""
        self.reporter.step(self.position.step)

    def open_window(self) -> None:
        """Start counting time as training time, until `close_window`."""
        self._window = time.perf_counter(), self.batches.waited, self.position.step

    def close_window(self) -> Record:
        """Return seconds per step, and the share spent waiting for data, since `open_window`."""
        started, waited, step = self._window
        spent, waiting = time.perf_counter() - started, self.batches.waited - waited
        self.position.training_seconds += spent
        self.position.waiting_seconds += waiting
        return {"seconds_per_step": spent / (self.position.step - step), "waiting": waiting / spent}

    def write(self, record: Record) -> None:
        """Write one record to the log, add it to the history and show it."""
        at = self.position
        at.seconds = self._earlier + time.perf_counter() - self._started
        at.peak_memory_bytes = max(at.peak_memory_bytes, _peak_memory(self.batches.device))
        if self.log:
            record = json_safe(record)
            self.log.append(record)
            self.history.add(record)
            self.reporter.record(record, self.config.monitor, self.position.best_score)

    def finish(self) -> History:
        """Return the history of the whole run, including its parts before it was resumed."""
        return _complete(self.history, self.position, early=self.position.step < self.config.steps)


def read_history(run: RunFolder) -> History:
    """Return the history of a run so far from its folder.

    Raises:
        CheckpointError: `last.safetensors` is missing or damaged.
        DataError: the log is damaged.
    """
    metadata = read_metadata(run.last)
    position = Position.read(metadata, run.last)
    history = History(str(metadata.get("monitor")))
    for record in read_log(run.metrics) if run.metrics.exists() else ():
        if record["step"] <= position.step:
            history.add(record)
    return _complete(history, position, early=bool(metadata.get("finished")) and position.step != metadata.get("steps"))


def _complete(history: History, at: Position, *, early: bool) -> History:
    history.steps, history.best_step, history.best_score = at.step, at.best_step, at.best_score
    history.stopped_early = early
    history.seconds, history.training_seconds, history.waiting_seconds = (
        at.seconds,
        at.training_seconds,
        at.waiting_seconds,
    )
    history.peak_memory_bytes = at.peak_memory_bytes
    return history


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows, which has the peak elsewhere
        import psutil

        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
