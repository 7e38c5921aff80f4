"""Ctrl-C and SIGTERM: the first stops training at the end of a step, the second at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from fewpairs.errors import TrainingError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(TrainingError):  # noqa: N818 (named for what happened, as KeyboardInterrupt is)
    """Training was stopped by a signal and its state was saved; the message has the command that resumes it."""


class StopRequest:
    """Within the block the first SIGINT or SIGTERM sets `signal`, the second raises KeyboardInterrupt.

    Handlers are installed in the main thread only (Python allows no others), and the previous ones are restored at the
    end. A launcher and the terminal may both deliver the same Ctrl-C, so signals within `debounce` seconds count as
    one.
    """

    def __init__(self, *, announce: bool = True, debounce: float = 0.0) -> None:
        self.signal: str | None = None
        self.announce, self.debounce = announce, debounce
        self._first = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if time.monotonic() - self._first < self.debounce:
                return
            raise KeyboardInterrupt
        self.signal, self._first = signal.Signals(number).name, time.monotonic()
        if self.announce:
            # A handler may interrupt a write to sys.stderr, whose buffer is not reentrant.
            os.write(2, b"\nStopping: the step is finished and its state saved. Once more aborts at once.\n")


def ignore_in_worker() -> None:
    """Set the signal handlers of a loading process: it ignores Ctrl-C, and SIGTERM ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
