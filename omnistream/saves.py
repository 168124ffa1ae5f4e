"""The checkpoints of a run over files: taken between two batches, written by a thread of their own.

The order of the steps::

    prepare    what was written to the sinks is whole, in files that nobody sees
    snapshot   the state of this moment, with the names of these files
    write      in the other thread, while input goes on: the files are made durable, then the checkpoint
    commit     the files appear; what came after the first step waits for the next checkpoint

A run that dies before the checkpoint is whole leaves files that nobody sees, and one that dies after it lets
them appear when it starts. One checkpoint is on its way at a time: when the next is due, it waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict

from omnistream.checkpoint import Snapshot, prune
from omnistream.errors import OmnistreamError
from omnistream.pipeline import Pipeline
from omnistream.sink import Sink
from omnistream.sink.staging import Prepared
from omnistream.source import Position
from omnistream.spec import CheckpointSpec

log = logging.getLogger(__name__)

# The newest, and one to fall back to.
KEPT_CHECKPOINTS = 2


class Saves:
    """Moves input, state and files forward together.

    Parameters
    ----------
    checkpoint : CheckpointSpec
    sinks : iterable of Sink
        What they hold becomes visible with the checkpoints.
    """

    def __init__(self, checkpoint: CheckpointSpec, sinks: Iterable[Sink]) -> None:
        self._path = checkpoint.path
        self._interval_s = checkpoint.interval_ms / 1_000
        self._sinks: Sequence[Sink] = list(sinks)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omnistream-checkpoint")
        self._writing: Future[None] | None = None
        self._taken = time.monotonic()
        for sink in self._sinks:
            sink.hold()

    def step(self, pipeline: Pipeline, positions: Mapping[str, Position], at: tuple[str, int] | None) -> None:
        """Do what is due between two batches."""
        self.commit_written()
        if self._writing is None and time.monotonic() - self._taken >= self._interval_s:
            self.take(pipeline, positions, at)

    def take(self, pipeline: Pipeline, positions: Mapping[str, Position], at: tuple[str, int] | None) -> None:
        """Begin a checkpoint; waits for the one before.

        Parameters
        ----------
        positions : mapping
            How far each source is.
        at : tuple or None
            The source and the partition that are being read.
        """
        self.finish()
        self._taken = time.monotonic()
        prepared = [sink.prepare() for sink in self._sinks]
        snapshot = pipeline.snapshot({source: asdict(each) for source, each in positions.items()})
        snapshot.manifest["reading"] = None if at is None else list(at)
        snapshot.manifest["files"] = {
            "appearing": [path for each in prepared for path in each.appearing],
            "replaced": [path for each in prepared for path in each.replaced],
        }
        self._writing = self._thread.submit(self._write, snapshot, prepared)

    def commit_written(self) -> None:
        """Let what a checkpoint names appear, once it is written."""
        if self._writing is not None and self._writing.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is on its way, if there is one, and let what it names appear."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        writing.result()
        for sink in self._sinks:
            sink.commit()

    def close(self) -> None:
        """Part with the thread; a checkpoint that is on its way still counts."""
        try:
            self.finish()
        except OmnistreamError as error:
            log.warning("the last checkpoint is not complete: %s", error)
        finally:
            self._thread.shutdown()

    def _write(self, snapshot: Snapshot, prepared: Sequence[Prepared]) -> None:
        for each in prepared:
            each.sync()
        snapshot.save(self._path)
        prune(self._path, KEPT_CHECKPOINTS)
