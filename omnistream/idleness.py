"""Which partitions are silent, so that event time need not wait for them: of Kafka, or standard input.

A partition is idle when all its messages have been taken and none has come for a while: one that is behind,
or whose broker cannot be reached, is not idle. When all are idle, event time goes on with the clock, so that
the last windows of a stream that has stopped are closed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from omnistream.pipeline import Outputs, Pipeline

P = TypeVar("P", bound=tuple[str, int])


class Idleness(Generic[P]):
    """Times are in seconds of one clock that never goes back.

    Parameters
    ----------
    timeout_s : float
        How long a partition is silent before it is idle; 0: none ever is.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._last_seen: dict[P, float] = {}
        self._idle: set[P] = set()

    def add(self, partitions: Iterable[P], now: float) -> None:
        """Begin to wait for partitions."""
        self._last_seen.update(dict.fromkeys(partitions, now))

    def remove(self, partitions: Iterable[P]) -> None:
        """Forget partitions."""
        for partition in partitions:
            self._last_seen.pop(partition, None)
            self._idle.discard(partition)

    def saw(self, partition: P, now: float) -> None:
        """Note that messages came."""
        self._last_seen[partition] = now
        self._idle.discard(partition)

    def fallen_silent(self, now: float, caught_up: Callable[[P], bool]) -> list[P]:
        """Return the partitions that have just become idle."""
        if not self._timeout_s:
            return []
        fallen = [
            partition
            for partition, seen in self._last_seen.items()
            if partition not in self._idle and now - seen >= self._timeout_s and caught_up(partition)
        ]
        self._idle.update(fallen)
        return fallen

    def silence_s(self, now: float) -> float | None:
        """Return for how long all have been silent; None unless all are idle."""
        if not self._last_seen or len(self._idle) < len(self._last_seen):
            return None
        return now - max(self._last_seen.values())

    def let_time_pass(
        self, pipeline: Pipeline, now: float, caught_up: Callable[[P], bool]
    ) -> Iterator[Outputs]:
        """Let event time go on without the partitions that are silent; yields what that makes final."""
        for partition in self.fallen_silent(now, caught_up):
            yield pipeline.mark_idle(*partition)
        silence_s = self.silence_s(now)
        newest_ms = pipeline.clean.watermark.max_event_time_ms
        if silence_s is not None and newest_ms > 0:
            yield pipeline.advance(newest_ms - pipeline.job.time.max_disorder_ms + int(silence_s * 1_000))
