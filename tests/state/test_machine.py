"""A job under any sequence of pushes, marks, snapshots, crashes and changes of size, against a model.

`make state-machine EXAMPLES=1000` runs it for longer, each time with other random choices.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, event, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from omnistream.checkpoint import Snapshot, prune
from omnistream.job import parse_job
from omnistream.pipeline import Outputs, Pipeline
from omnistream.spec import StateSpec
from tests.state.model import DAY, DISORDER, FOR_EVER, REMEMBER, WITHIN, Event, Model

# The long form: `make state-machine`. The short one is the same every time.
EXAMPLES = int(os.environ.get("OMNISTREAM_STATE_EXAMPLES", "0"))
SHORT_EXAMPLES = 20

PARTITIONS = 3
MEASURES = [
    "count",
    "units_net",
    "net_amount",
    "max(unit_price)",
    "distinct(size)",
    "last(order_id)",
    "top(size, 1)",
]
DICTIONARIES = ("event_type", "sku", "size")
TEXTS = ("event_id", "order_id")


def window(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "keys": ["sku"], "measures": MEASURES, **keys}


TABLES: dict[str, Any] = {
    "schema": {
        "field": [
            *({"name": name, "type": "dictionary"} for name in DICTIONARIES),
            *({"name": name, "type": "string"} for name in TEXTS),
            {"name": "event_time", "type": "timestamp", "format": "epoch_ms", "required": True},
            {"name": "sold_at", "type": "timestamp", "format": "epoch_ms"},
            {"name": "quantity", "type": "int64"},
            {"name": "unit_price", "type": "decimal"},
            {"name": "discount", "type": "decimal"},
        ]
    },
    "amount": {},
    "time": {"max_disorder": f"{DISORDER}m"},
    "lifecycle": {"sale_key": ["order_id"], "remember": f"{REMEMBER}m"},
    "clean": {"rule": [{"check": "positive_quantity"}], "duplicates": {"within": f"{WITHIN}m"}},
    "window": [
        window("tumbling", size="1h", offset="7m", allowed_lateness="5m", keys=["order_id", "size"]),
        window("early", size="1h", allowed_lateness="10m", emit="early", every="15m"),
        window("hopping", kind="hopping", size="1h", hop="25m"),
        window("hops_so_far", kind="hopping", size="1h", hop="25m", emit="early", every="10m"),
        window("session", kind="session", gap="30m", allowed_lateness="3m"),
        window("visits_so_far", kind="session", gap="30m", emit="early", every="10m"),
        window("ever", kind="global", keys=[]),
        window("found", size="1h", allowed_lateness="45m", correct="original_sale"),
        window(
            "days",
            size="1 day",
            time_zone="Asia/Shanghai",
            allowed_lateness="2d",
            emit="early",
            every="1d",
            correct="original_sale",
            original_time="sold_at",
        ),
    ],
}
JOB = parse_job(TABLES)
MINUTE_MS = 60_000
BEGIN = int(dt.datetime(2026, 11, 11, tzinfo=dt.UTC).timestamp()) // 60


def message(event: Event) -> bytes:
    text = json.dumps(
        {
            "event_id": event.id,
            "event_type": event.type,
            "event_time": event.at * MINUTE_MS,
            "sold_at": None if event.sold_at is None else event.sold_at * MINUTE_MS,
            "order_id": event.order,
            "sku": event.sku,
            "size": event.size,
            "quantity": event.quantity,
            "unit_price": event.price,
            "discount": event.discount_tenths / 10,
        }
    ).encode()
    return text[: len(text) // 2] if event.broken else text


def plain(value: Any) -> Any:
    return int(value.timestamp()) // 60 if isinstance(value, dt.datetime) else value


def bags(outputs: Iterable[Outputs]) -> dict[str, Counter[Any]]:
    """What was told, in the model's terms."""
    told: dict[str, Counter[Any]] = {}
    for each in outputs:
        for name, batches in each.items():
            bag = told.setdefault(name, Counter())
            for batch in batches:
                for row in batch.to_pylist():
                    if name == "rejects":
                        bag[row["partition"], row["position"], row["reason"]] += 1
                    else:
                        bag[tuple((column, plain(value)) for column, value in row.items())] += 1
    return told


@dataclass(frozen=True)
class Push:
    partition: int
    position: int
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Mark:
    """Anything else that moves the watermark: ``advance``, ``mark_idle``, ``declare``."""

    kind: str
    value: int


@dataclass(frozen=True)
class Kept:
    """A snapshot, and where the machine was when it was taken."""

    snapshot: bytes | Path | Snapshot
    model: Model
    steps: int


@dataclass(frozen=True)
class Block:
    data: bytes
    first_position: int
    partition: int
    source: str = "orders"


EVENTS = st.builds(
    Event,
    id=st.integers(0, 15).map(str),
    # Relative to the newest; -400 is late nearly everywhere.
    at=st.sampled_from([0, 0, 1, 3, 9, 20, 45, 90, 700, -1, -4, -10, -19, -20, -35, -80, -400]),
    type=st.sampled_from(["paid", "paid", "paid", "created", "returned", "cancelled"]),
    order=st.sampled_from(["o1", "o2", "é"]),
    sku=st.sampled_from(["a", "b", "c"]),
    size=st.sampled_from(["40", "41", None]),
    quantity=st.sampled_from([1, 1, 2, 7, 0]),
    price=st.integers(1, 3),
    discount_tenths=st.sampled_from([0, 0, 3]),
    sold_at=st.sampled_from([None, None, 0, -30, -DAY, -4 * DAY]),  # relative to the event
    broken=st.sampled_from([False] * 15 + [True]),
)


class Machine(RuleBasedStateMachine):
    """One job. Each step is compared with the model; a replay with what was told the first time."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="omnistream-")
        self.threads = 1
        self.pipeline = Pipeline(JOB)
        self.model = Model()
        self.newest = BEGIN
        self.positions = Counter[int]()
        self.steps: list[Push | Mark] = []
        self.told: list[dict[str, Counter[Any]]] = []
        self.kept = [self.keep("packed")]

    # --- steps ---

    @rule(partition=st.integers(0, PARTITIONS - 1), drawn=st.lists(EVENTS, min_size=1, max_size=6))
    def push(self, partition: int, drawn: list[Event]) -> None:
        events = []
        for each in drawn:
            at = self.newest + each.at
            self.newest = max(self.newest, at)
            sold_at = None if each.sold_at is None else at + each.sold_at
            events.append(replace(each, at=at, sold_at=sold_at))
        step = Push(partition, self.positions[partition], tuple(events))
        self.positions[partition] += len(events)
        self.take(step, self.model.push(step.partition, step.position, events))

    @rule(ahead=st.integers(-60, 30))
    def advance(self, ahead: int) -> None:
        self.take(Mark("advance", self.newest + ahead), self.model.advance(self.newest + ahead))

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def idle(self, partition: int) -> None:
        self.take(Mark("mark_idle", partition), self.model.mark_idle(partition))

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def declare(self, partition: int) -> None:
        self.take(Mark("declare", partition), self.model.declare(partition))

    def take(self, step: Push | Mark, expected: dict[str, Counter[Any]]) -> None:
        told = bags(self.do(step))
        assert told == expected
        self.steps.append(step)
        self.told.append(told)
        self.check_ledger()

    # --- state comes and goes ---

    @rule(how=st.sampled_from(["packed", "saved", "late"]))
    def snapshot(self, how: str) -> None:
        self.kept.append(self.keep(how))

    @rule(
        which=st.integers(0, 9),
        pieces=st.integers(1, 3),
        threads=st.sampled_from([1, 1, 2, 3]),
        shards=st.sampled_from([1, 2, 3]),
    )
    def crash(self, which: int, pieces: int, threads: int, shards: int) -> None:
        """Go on from one of the snapshots: what is told again must be the same, however the input is cut."""
        kept = self.kept[which % len(self.kept)]
        note(f"back to step {kept.steps} of {len(self.steps)}")
        event(f"steps told again: {min(len(self.steps) - kept.steps, 9)}")
        self.threads = threads
        self.pipeline = restored(kept.snapshot, threads, shards)
        again = copy.deepcopy(kept.model)
        assert self.ledger() == again.ledger
        for step, told in zip(self.steps[kept.steps :], self.told[kept.steps :], strict=True):
            assert bags(self.do(step, pieces)) == told
        self.check_ledger()

    @precondition(lambda self: self.model.newest)
    @rule(members=st.integers(2, PARTITIONS))
    def resize(self, members: int) -> None:
        """Share the partitions out among several pipelines, and bring them together again."""
        whole = through_bytes(self.pipeline.snapshot())
        apart = [Pipeline(JOB) for _ in range(members)]
        partitions = sorted(self.model.newest)
        for partition in partitions:
            apart[partition % members].take_partition(whole, "orders", partition)
        together = Pipeline(JOB)
        for partition in partitions:
            moved = apart[partition % members].drop_partition("orders", partition)
            together.take_partition(through_bytes(moved), "orders", partition)
        assert together.metrics().groups == self.pipeline.metrics().groups
        assert results(together.flush()) == results(Pipeline.restore(whole, JOB).flush())

    @rule()
    def retire(self) -> None:
        """Remove all checkpoints on disk but the newest two."""
        removed = prune(self.folder, 2)
        self.kept = [each for each in self.kept if each.snapshot not in removed]

    def keep(self, how: str) -> Kept:
        """Take a snapshot; a late one is written when it is asked for, however much has changed by then."""
        snapshot = self.pipeline.snapshot({"orders": len(self.steps)})
        kept = {
            "packed": snapshot.to_bytes,
            "saved": lambda: snapshot.save(self.folder),
            "late": lambda: snapshot,
        }
        return Kept(kept[how](), copy.deepcopy(self.model), len(self.steps))

    # --- the end ---

    def teardown(self) -> None:
        shutil.rmtree(self.folder)
        assert bags([self.pipeline.flush()]) == self.model.advance(FOR_EVER + DAY)
        self.check_ledger()
        metrics = self.pipeline.metrics()
        assert (metrics.windows_open, metrics.groups) == (0, 0)

    # --- how ---

    def do(self, step: Push | Mark, pieces: int = 1) -> list[Outputs]:
        if isinstance(step, Mark):
            if step.kind == "advance":
                return [self.pipeline.advance(step.value * MINUTE_MS)]
            if step.kind == "mark_idle":
                return [self.pipeline.mark_idle("orders", step.value)]
            self.pipeline.declare_partition("orders", step.value)
            return []
        messages = [message(each) for each in step.events]
        size = -(-len(messages) // pieces)
        cuts = range(0, len(messages), size)
        if self.threads == 1:
            return [
                self.pipeline.push(
                    messages[at : at + size],
                    source="orders",
                    partition=step.partition,
                    first_position=step.position + at,
                )
                for at in cuts
            ]
        blocks = [
            Block(b"\n".join(messages[at : at + size]) + b"\n", step.position + at, step.partition)
            for at in cuts
        ]
        return [
            self.pipeline.push(
                data, source="orders", partition=step.partition, first_position=block.first_position
            )
            for block, data in self.pipeline.decode_ahead(blocks)
        ]

    def ledger(self) -> Counter[str]:
        """What the pipeline has counted, in the model's terms."""
        metrics = self.pipeline.metrics()
        assert metrics.balanced
        counts = {
            "messages": metrics.messages,
            "aggregated": metrics.aggregated,
            "duplicate": metrics.duplicates,
            "late": metrics.late,
        }
        return Counter({name: count for name, count in (counts | metrics.rejects).items() if count})

    def check_ledger(self) -> None:
        """In = aggregated + late + duplicates + rejected, on both sides."""
        counts = self.ledger()
        assert counts == self.model.ledger
        assert counts["messages"] == counts.total() - counts["messages"]


def restored(snapshot: bytes | Path | Snapshot, threads: int, shards: int) -> Pipeline:
    job = replace(JOB, threads=threads, state=StateSpec(shards=shards))
    if isinstance(snapshot, Snapshot):
        return Pipeline.restore(through_bytes(snapshot), job)
    if isinstance(snapshot, Path):
        return Pipeline.restore(Snapshot.load(snapshot), job)
    return Pipeline.restore(Snapshot.from_bytes(snapshot), job)


def results(outputs: Outputs) -> dict[str, Counter[Any]]:
    """The last word on each window and key; how often it was told before may differ."""
    return {
        name: Counter(tuple(each for each in row if each[0] != "revision") for row in bag)
        for name, bag in bags([outputs]).items()
    }


def through_bytes(snapshot: Snapshot) -> Snapshot:
    return Snapshot.from_bytes(snapshot.to_bytes())


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=EXAMPLES or SHORT_EXAMPLES,
    stateful_step_count=40 if EXAMPLES else 25,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
