"""How input, state and output move together when the input is Kafka: the order of the steps.

Between two checkpoints (`omnistream.run_kafka` has the loop)::

    poll       messages of the partitions that this member has
    push       decode, clean, window: `Pipeline.push`
    write      results to the sinks; Kafka sinks write into the open transaction, if delivery is exactly once

A checkpoint (`Delivery.begin`, and `Delivery.settle` once it is saved)::

    flush      what was written is durable, or is in the transaction
    snapshot   the state and the offsets of this moment
    save       in the other thread, while messages come in: the snapshot is durable, and has a name.
               Exactly once, results wait meanwhile: they belong to the next transaction
    commit     the offsets of the snapshot, each with its name as metadata:
               at least once: to the group; exactly once: into the transaction, which is then committed
    retire     snapshots that no committed offset names are removed, in the other thread, too

So a committed offset always names a snapshot that is there. Who gets a partition (`Delivery.assigned`) reads
the committed offset, takes the state of just that snapshot and goes on from there; whatever was done after it
has left nothing behind (exactly once: its transaction was aborted), or will be done again with the same keys
(at least once).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from omnistream import _core
from omnistream.checkpoint import Snapshot, as_state_error, latest, prune, remove
from omnistream.errors import NotCommittedError, SourceError, StateError
from omnistream.pipeline import Outputs, Pipeline
from omnistream.remote import AnyPath, place_of
from omnistream.sink.kafka import Producer, member_of
from omnistream.source.kafka import COMMITTED_MS, KafkaSource, Partition
from omnistream.spec import CheckpointSpec, JobSpec

log = logging.getLogger(__name__)

# Kept besides those that committed offsets name.
KEPT_SNAPSHOTS = 2
# How long to ask which snapshots others need: while a transaction of theirs is open there is no answer, and
# the next checkpoint asks again.
RETIRE_MS = 2_000
# Results that wait for a checkpoint to be saved; with more of them, input waits, too.
HELD_BYTES = 64 * 1024 * 1024

Positions = dict[Partition, int]


class Results(Protocol):
    """Where results go."""

    def write(self, outputs: Outputs) -> None:
        """Hand them to the sinks."""

    def flush(self) -> None:
        """Make durable what was written; leaves alone what a transaction holds."""


@dataclass(slots=True)
class Saving:
    """A checkpoint on its way: its name, once it is saved, and what came after it."""

    name: Future[str]
    positions: Positions
    held: list[Outputs] = field(default_factory=list)
    held_bytes: int = 0


class Delivery:
    """One member's state, and its checkpoints.

    Parameters
    ----------
    producer : Producer or None
        None when no sink is Kafka.
    results : Results
    saver : Executor
        The thread that saves snapshots and removes them, one at a time.

    Attributes
    ----------
    pipeline : Pipeline
        A new one whenever state is taken back to a snapshot.
    dirty : bool
        Whether there is anything that the last checkpoint does not have.
    committed : dict of Partition to int
        The offsets of the last commit; none since state was last taken back to a snapshot.
    """

    def __init__(
        self, job: JobSpec, source: KafkaSource, producer: Producer | None, results: Results, saver: Executor
    ) -> None:
        self.job = job
        self.source = source
        self.producer = producer
        self.pipeline = Pipeline(job)
        self.dirty = False
        self.committed: Positions = {}
        self._empty = True  # whether the pipeline has had no partition yet
        self._results = results
        self._saver = saver
        self._saving: Saving | None = None
        self._checkpoint: CheckpointSpec | None = job.checkpoint
        self._member = member_of(job)

    def write(self, outputs: Outputs) -> None:
        """Hand results to the sinks, now or when the transaction is theirs."""
        self.dirty = True
        saving = self._saving
        if saving is None or not self.job.exactly_once:
            self._results.write(outputs)
            return
        saving.held.append(outputs)
        saving.held_bytes += sum(batch.nbytes for batches in outputs.values() for batch in batches)
        if saving.held_bytes > HELD_BYTES:
            self.settle()

    # --- checkpoints ---

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is on its way."""
        return self._saving is not None

    def begin(self) -> None:
        """Begin a checkpoint of all that was read; waits for the one before.

        Raises
        ------
        NotCommittedError
            As from `settle`.
        """
        self.settle()
        if self._checkpoint is None or not self.dirty:
            return
        self._results.flush()
        self.source.resolve_positions()
        positions = dict(self.source.positions)
        snapshot = self.pipeline.snapshot({str(each): offset for each, offset in positions.items()})
        self._saving = Saving(self._saver.submit(self.save, snapshot), positions)
        self.dirty = False

    def save(self, snapshot: Snapshot) -> str:
        """Make the state durable; returns the name of the snapshot."""
        return f"{self._member}/{snapshot.save(self._folder(self._member)).name}"

    def settle_saved(self) -> None:
        """Commit the checkpoint that is on its way, if it is saved by now."""
        if self._saving is not None and self._saving.name.done():
            self.settle()

    def settle(self) -> None:
        """Wait for the checkpoint that is on its way, if there is one, and commit it.

        Raises
        ------
        NotCommittedError
            When the group or the transaction refuses it: `rewind` then.
        """
        if self._saving is None:
            return
        saving = self._saving
        self.commit(saving.name.result(), saving.positions)
        self._saving = None
        for outputs in saving.held:
            self._results.write(outputs)
        self.retire()

    def checkpoint(self) -> None:
        """Commit all that was read, together with its state and its results, before anything else is done.

        Raises
        ------
        NotCommittedError
            As from `settle`.
        """
        self.begin()
        self.settle()

    def commit(self, snapshot: str, positions: Positions) -> None:
        """Commit the offsets; `snapshot` is empty where there is no state to go on from."""
        metadata = json.dumps({"job": self.job.name, "snapshot": snapshot}) if snapshot else ""
        offsets = [
            _core.KafkaPartition(*partition, offset, metadata) for partition, offset in positions.items()
        ]
        if self.job.exactly_once and self.producer is not None:
            if offsets:
                self.producer.send_offsets(offsets, self.source.consumer)
            self.producer.commit()
            self.producer.begin()
        elif offsets:
            self.source.commit(offsets)
        self.committed = dict(positions)

    def retire(self) -> None:
        """Have this member's snapshots removed that are older than the newest and that nobody will ask for.

        A partition that has gone to another member names the snapshot it went with until that member commits.
        """
        if (asked_for := self._asked_for()) is not None:
            self._saver.submit(self._remove_old, asked_for)

    def _remove_old(self, asked_for: set[str]) -> None:
        try:
            prune(self._folder(self._member), KEPT_SNAPSHOTS, asked_for)
        except StateError as error:  # the next checkpoint tries again
            log.warning("old snapshots stay for now: %s", error)

    def finish(self) -> None:
        """Commit after the end of the input: every window is closed, so there is no state to keep."""
        if self._checkpoint is None:
            return
        self.settle()
        self._results.flush()
        self.source.resolve_positions()
        self.commit("", self.source.positions)
        self.dirty = False
        if (asked_for := self._asked_for()) is not None:
            self._saver.submit(remove, self._folder(self._member), asked_for).result()

    def _asked_for(self) -> set[str] | None:
        """Return those of this member's snapshots that committed offsets name, besides the newest.

        None when there is no saying, such as while another member's transaction takes its time.
        """
        elsewhere = self.source.known - self.source.positions.keys()
        try:
            named = [snapshot.partition("/") for _, snapshot in self._committed(elsewhere, RETIRE_MS)]
        except SourceError as error:
            log.info("old snapshots stay for now: %s", error)
            return None
        return {name for member, _, name in named if member == self._member}

    # --- partitions come and go ---

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """Take partitions over, with the state that their committed offsets name."""
        try:
            self.settle()
        except NotCommittedError as refused:
            self._go_back(refused, list(self.source.positions))
        self.source.assign(self._recover(partitions))

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Give partitions back: all they have brought is committed first, and their state goes with them."""
        try:
            self.checkpoint()
        except NotCommittedError as refused:
            self._go_back(refused, [each for each in self.source.positions if each not in partitions])
        else:
            for partition in partitions:
                self.pipeline.drop_partition(*partition)
        self.source.unassign(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Drop partitions that the group has given away: what was not committed is for others to do."""
        log.warning("the group went on without this member, which joins it again: %s", _listed(partitions))
        self._abort()
        self.source.unassign(partitions)
        self._reset(list(self.source.positions))

    def rewind(self, refused: NotCommittedError) -> None:
        """Go back to the last checkpoint, with the partitions that are still here."""
        self._go_back(refused, list(self.source.positions))

    def _go_back(self, refused: NotCommittedError, partitions: list[Partition]) -> None:
        log.warning("%s; going back to the last checkpoint", refused)
        self._abort()
        self._reset(partitions)

    def _abort(self) -> None:
        if self._saving is not None:
            wait([self._saving.name])  # one process at a time writes checkpoints, and this one is for nothing
            self._saving = None
        if self.job.exactly_once and self.producer is not None:
            self.producer.abort()
            self.producer.begin()
        self.dirty = False
        self.committed = {}

    def _reset(self, partitions: list[Partition]) -> None:
        self.pipeline = Pipeline(self.job)
        self._empty = True
        if partitions:
            self.source.seek(self._recover(partitions))

    # --- state of partitions ---

    def _recover(self, partitions: Sequence[Partition]) -> Positions:
        """Take back the state of partitions; returns where to go on in each."""
        offsets: Positions = {}
        if self._checkpoint is not None or self.source.spec.start == "stored":
            by_snapshot: dict[str, list[Partition]] = {}
            for each, snapshot in self._committed(partitions):
                partition = Partition(each.topic, each.partition)
                offsets[partition] = each.offset
                if snapshot:
                    by_snapshot.setdefault(snapshot, []).append(partition)
            if self._checkpoint is not None:
                for snapshot in sorted(by_snapshot, key=self._age):
                    self._take(snapshot, by_snapshot[snapshot], offsets)
        for partition in partitions:
            if partition not in offsets:
                offsets[partition] = self.source.first_offset(partition)
            self.pipeline.declare_partition(*partition)
        self._empty = self._empty and not partitions
        if offsets:  # the group may give none
            log.info("reading %s", ", ".join(f"{each} from {offset}" for each, offset in offsets.items()))
        return offsets

    def _committed(
        self, partitions: Iterable[Partition], timeout_ms: int = COMMITTED_MS
    ) -> list[tuple[_core.KafkaPartition, str]]:
        """Return the committed offsets, where there are any, and the snapshots that they name ("": none)."""
        return [
            (each, self._named(each))
            for each in self.source.committed(partitions, timeout_ms)
            if each.offset != _core.KAFKA_NO_OFFSET
        ]

    def _named(self, committed: _core.KafkaPartition) -> str:
        if not committed.metadata:
            return ""  # moved by an operator's tool, or after the end of a run: the state begins anew there
        place = f"{committed.topic}[{committed.partition}]"
        try:
            metadata: dict[str, Any] = json.loads(committed.metadata)
            job, snapshot = metadata["job"], str(metadata["snapshot"])
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{place}: the group's offset was committed by something else, with the metadata "
                f'{committed.metadata!r}: give this job a "group.id" of its own, or reset the offsets'
            ) from error
        if job != self.job.name:
            raise StateError(
                f"{place}: the group's offsets are of the job {job!r}, not of {self.job.name!r}: "
                'give each job a "group.id" of its own'
            )
        return snapshot

    def _take(self, name: str, partitions: list[Partition], offsets: Positions) -> None:
        """Add what a snapshot has of the partitions to the state."""
        snapshot, folder = self._load(name, partitions[0])
        positions: dict[str, int] = snapshot.manifest["positions"]
        for partition in partitions:
            if positions.get(str(partition)) != offsets[partition]:
                raise StateError(
                    f"{folder}: is of offset {positions.get(str(partition))} of {partition}, and the group "
                    f"has committed {offsets[partition]}: reset the group's offsets to begin with no state"
                )
        if self._empty and name.startswith(f"{self._member}/"):
            # Our own, from before a restart: the ledger goes on, too. Others may have some partitions by now.
            self.pipeline = Pipeline.restore(snapshot, self.job)
            here = {str(partition) for partition in partitions}
            for place in positions.keys() - here:
                self.pipeline.drop_partition(*Partition.parse(place))
        else:
            for partition in partitions:
                self.pipeline.take_partition(snapshot, *partition)
        self._empty = False

    def _load(self, name: str, partition: Partition) -> tuple[Snapshot, AnyPath]:
        member, _, number = name.partition("/")
        folder = self._folder(member) / number
        with as_state_error(folder):
            found = folder.is_dir()
        if not found:
            raise StateError(
                f"{folder}: is missing, and the committed offset of {partition} names it: bring it back "
                "(members need one checkpoint.path), or reset the group's offsets to begin with no state"
            )
        return Snapshot.load(folder), folder

    def _age(self, snapshot: str) -> tuple[bool, int]:
        """Sort our own newest snapshot first: what others have is added to it."""
        member, _, number = snapshot.partition("/")
        return member != self._member, -int(number)

    def _folder(self, member: str) -> AnyPath:
        assert self._checkpoint is not None
        return place_of(self._checkpoint.path) / member

    @property
    def resumed(self) -> bool:
        """Whether this member has a checkpoint, so that files are added to and not begun."""
        return self._checkpoint is not None and latest(self._folder(self._member)) is not None


def _listed(partitions: Iterable[Partition]) -> str:
    return ", ".join(map(str, partitions))
