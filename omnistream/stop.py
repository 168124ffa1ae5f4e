"""How a run is asked to end: by a signal, or by who started it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequestedError(Exception):
    """Ends a wait for input; a batch that is being worked on is never interrupted."""


class Stop:
    """Asks a run to end after its current batch.

    As a context manager it takes SIGINT and SIGTERM: the first asks, a second one raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.waiting = False  # for input: then there is no batch to finish
        self._before: dict[signal.Signals, Any] = {}

    def request(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Ask; has the shape of a signal handler."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if self.waiting:
            raise StopRequestedError

    def __enter__(self) -> Self:
        for each in (signal.SIGINT, signal.SIGTERM):
            self._before[each] = signal.signal(each, self.request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
