"""Partitions that move between pipelines with their state: the results are those of one pipeline."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream.checkpoint import Snapshot
from omnistream.errors import StateError
from omnistream.job import parse_job
from omnistream.pipeline import Outputs, Pipeline
from omnistream.spec import StateSpec

MEASURES = ["count", "units_net", "orders", "distinct(size)", "min(discount)", "std(unit_price)"]
JOB = parse_job(
    {
        "schema": {"use": "order_flat"},
        "time": {"max_disorder": "40m"},
        "clean": {"rule": [{"check": "positive_quantity"}], "duplicates": {"within": "1h"}},
        "window": [
            {"name": "sales", "size": "1h", "keys": ["sku", "order_id"], "measures": MEASURES},
            {
                "name": "rolling",
                "kind": "hopping",
                "size": "1h",
                "hop": "20m",
                "keys": ["sku"],
                "measures": MEASURES,
            },
            {"name": "visits", "kind": "session", "gap": "20m", "keys": ["sku"], "measures": MEASURES},
            {"name": "ever", "kind": "global", "keys": ["order_id"], "measures": ["count"]},
            {"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["units_net"]},
        ],
        "derive": [{"name": "demand", "from": "daily", "demand": "units_net", "horizon_days": 3}],
    }
)
PARTITIONS = 3
MEMBERS = 3
Row = tuple[tuple[str, Any], ...]
MIDNIGHT = datetime(2026, 11, 11, tzinfo=UTC)


def sale(minutes: int, number: int, partition: int, **other: Any) -> bytes:
    """One paid item; its sku, order and event id say which partition they are of."""
    event = {
        "event_id": f"{partition}/{number}",
        "event_type": "paid",
        "event_time": (MIDNIGHT + timedelta(minutes=minutes)).isoformat(),
        "order_id": f"{partition}/{number % 3}",
        "sku": f"{partition}/{number % 2}",
        "size": str(36 + number % 4),
        "qty": 1 + number % 3,
        "unit_price": 10 + number % 7,
        "discount": (number % 5) / 10,
    }
    return json.dumps(event | other).encode()


@dataclass(frozen=True)
class Step:
    """A push to one partition, or a move of one."""

    partition: int
    forward_minutes: int = 0
    disorder_minutes: tuple[int, ...] = ()
    to_member: int = -1
    restart: bool = False


PUSH = st.builds(
    Step,
    partition=st.integers(0, PARTITIONS - 1),
    forward_minutes=st.sampled_from([0, 5, 15, 30, 70, 70, 800, 1500, 9000]),
    disorder_minutes=st.lists(st.integers(0, 39), min_size=1, max_size=4).map(tuple),
)
MOVE = st.builds(
    Step,
    partition=st.integers(0, PARTITIONS - 1),
    to_member=st.integers(0, MEMBERS - 1),
    restart=st.booleans(),
)


def rows(outputs: Outputs, got: dict[str, Counter[Row]]) -> None:
    for name, batches in outputs.items():
        got.setdefault(name, Counter()).update(
            tuple(row.items()) for each in batches for row in each.to_pylist()
        )


def of_days_with_a_row(got: dict[str, Counter[Row]], demand: Counter[Row]) -> Counter[Row]:
    """Leave out what flush() says of keys that were silent on the last day: of each pipeline's last day."""
    days = {(row["window_start"], row["sku"]) for row in map(dict, got.get("daily", ()))}
    return Counter(
        {row: times for row, times in demand.items() if (dict(row)["day"], dict(row)["sku"]) in days}
    )


def run(steps: list[Step], members: int) -> dict[str, Counter[Row]]:
    """Every row of every output, and how often it came. All partitions start at member 0."""
    # The members' keys are in one, two and three shards.
    jobs = [replace(JOB, state=StateSpec(shards=1 + member)) for member in range(members)]
    pipelines = [Pipeline(job) for job in jobs]
    home = dict.fromkeys(range(PARTITIONS), 0)
    for partition in home:
        pipelines[0].declare_partition("orders", partition)
    newest = dict.fromkeys(range(PARTITIONS), 60)
    numbers: Counter[int] = Counter()
    got: dict[str, Counter[Row]] = {}
    for step in steps:
        partition, at = step.partition, home[step.partition]
        if step.to_member < 0:
            newest[partition] += step.forward_minutes
            messages = []
            for disorder in (0, *step.disorder_minutes):
                numbers[partition] += 1
                messages.append(sale(newest[partition] - disorder, numbers[partition], partition))
            messages.append(messages[-1])  # a duplicate
            rows(pipelines[at].push(messages, source="orders", partition=partition), got)
        elif members > 1:
            if step.restart:
                packed = pipelines[at].snapshot().to_bytes()
                pipelines[at] = Pipeline.restore(Snapshot.from_bytes(packed), jobs[at])
            moved = pipelines[at].drop_partition("orders", partition)
            home[partition] = step.to_member % members
            pipelines[home[partition]].take_partition(moved, "orders", partition)
    for pipeline in pipelines:
        assert pipeline.metrics().late == 0
        rows(pipeline.flush(), got)
        assert pipeline.metrics().groups == 0
    total = [pipeline.metrics() for pipeline in pipelines]
    assert sum(each.rows for each in total) == sum(
        each.aggregated + each.duplicates + each.rejected_rows + each.late for each in total
    )
    got["demand"] = of_days_with_a_row(got, got.get("demand", Counter()))
    return got


@settings(max_examples=150)
@given(st.lists(st.one_of(PUSH, PUSH, MOVE), max_size=24), st.integers(2, MEMBERS))
def test_results_do_not_depend_on_who_holds_a_partition(steps: list[Step], members: int) -> None:
    alone, shared = run(steps, 1), run(steps, members)
    alone.pop("rejects", None), shared.pop("rejects", None)
    assert shared == alone


def test_every_kind_of_result_is_reached() -> None:
    steps = [
        Step(0, 30, (1, 2)),
        Step(1, 0, (3,)),
        Step(0, to_member=1),
        Step(0, 1500, (1,)),
        Step(1, 70, (1,)),
        Step(0, to_member=0),
    ]
    got = run(steps, 2)
    assert {"sales", "rolling", "visits", "ever", "daily", "demand", "rejects"} <= set(got)
    assert run(steps, 1) == got


@pytest.mark.parametrize("restart", [False, True])
def test_demand_of_a_partition_that_lags_by_more_than_the_horizon(restart: bool) -> None:
    """Its keys are kept as of its own days, where it moves to and from there on."""
    day = 24 * 60
    steps = [
        Step(2, 5 * day, (0,)),
        Step(1, to_member=1),
        *(Step(0, day, (0,)) for _ in range(3)),
        *(Step(1, forward, (0,)) for forward in (0, 10 * day, day)),
        Step(0, to_member=1),
        Step(0, day, (0,)),
        Step(0, to_member=2, restart=restart),
        *(Step(0, forward, (0,)) for forward in (day, day, 2 * day)),
        Step(1, day, (0,)),
        Step(2, 15 * day, (0,)),
        Step(0, 10 * day, (0,)),
    ]
    assert run(steps, 3) == run(steps, 1)


def test_a_partition_that_is_behind_moves_to_one_that_is_ahead() -> None:
    behind, ahead = Pipeline(JOB), Pipeline(JOB)
    behind.push([sale(70, 1, 0)], source="orders", partition=0)
    ahead.push([sale(70, 1, 1)], source="orders", partition=1)
    closed = ahead.push([sale(300, 2, 1)], source="orders", partition=1)
    assert closed["sales"][0].num_rows == 1
    ahead.take_partition(behind.drop_partition("orders", 0), "orders", 0)
    # Its own rows are in time, and those of the others as late as before.
    outputs = ahead.push([sale(80, 2, 0)], source="orders", partition=0)
    assert outputs == {}
    late = ahead.push([sale(80, 3, 1)], source="orders", partition=1)
    assert late["rejects"][0].column("reason").to_pylist() == ["late"]
    outputs = ahead.push([sale(200, 4, 0)], source="orders", partition=0)
    assert outputs["sales"][0].column("sku").to_pylist() == ["0/0", "0/1"]
    assert {sku[0] for batch in outputs["rolling"] for sku in batch.column("sku").to_pylist()} == {"0"}


def test_one_process_needs_no_particular_partitions() -> None:
    together, apart = Pipeline(JOB), Pipeline(JOB)
    for number in range(9):
        message = [sale(70, number, 0)]
        together.push(message, source="orders", partition=0)
        apart.push(message, source="orders", partition=number % 2)
    assert [each.to_pylist() for each in apart.flush()["sales"]] == [
        each.to_pylist() for each in together.flush()["sales"]
    ]


def test_keys_that_two_members_held_are_added_up_when_they_meet_in_time() -> None:
    alone, first, second = Pipeline(JOB), Pipeline(JOB), Pipeline(JOB)
    messages = [sale(70, number, 0) for number in range(12)]
    alone.push(messages, source="orders")
    first.push(messages[:4], source="orders", partition=0)
    first.push(messages[4:6], source="orders", partition=1)
    second.take_partition(first.drop_partition("orders", 1), "orders", 1)
    second.push(messages[6:], source="orders", partition=1)
    first.take_partition(second.drop_partition("orders", 1), "orders", 1)
    got = first.flush()
    for name, batches in alone.flush().items():
        assert [each.to_pylist() for each in batches] == [each.to_pylist() for each in got[name]]


def test_members_go_on_from_the_snapshots_of_other_numbers_of_members() -> None:
    whole = Pipeline(JOB)
    for partition in range(PARTITIONS):
        whole.push([sale(70 + n, n, partition) for n in range(6)], source="orders", partition=partition)
    snapshot = Snapshot.from_bytes(whole.snapshot().to_bytes())
    members = [Pipeline(JOB) for _ in range(2)]
    for partition in range(PARTITIONS):
        members[partition % 2].take_partition(snapshot, "orders", partition)
    again = Pipeline(JOB)
    for partition in range(PARTITIONS):
        again.take_partition(members[partition % 2].snapshot(), "orders", partition)
    got: dict[str, Counter[Row]] = {}
    expected: dict[str, Counter[Row]] = {}
    rows(whole.flush(), expected)
    rows(again.flush(), got)
    assert got == expected
    got = {}
    for member in members:
        rows(member.flush(), got)
    assert got == expected


def test_a_partition_that_is_taken_from_a_whole_snapshot_makes_room_for_its_own_keys_alone() -> None:
    job = replace(JOB, windows=(JOB.windows[0],), derives=())
    whole, alone = Pipeline(job), Pipeline(job)
    for partition in range(64):
        keys = [f"{partition}/{number}" for number in range(500)]
        sales = [sale(1, 1, partition, event_id=key, order_id=key) for key in keys]
        whole.push(sales, partition=partition)
        if partition == 3:
            alone.push(sales, partition=partition)
    taken = Pipeline(job)
    taken.take_partition(whole.snapshot(), "push", 3)
    assert taken.metrics().groups == alone.metrics().groups == 500
    sizes = [each.metrics().windows["sales"]["bytes"] for each in (taken, alone)]
    assert sizes[0] <= 2 * sizes[1]


def test_what_cannot_be_taken_is_refused() -> None:
    pipeline = Pipeline(JOB)
    pipeline.push([sale(70, 1, 0)], source="orders", partition=0)
    snapshot = pipeline.snapshot()
    with pytest.raises(StateError, match="knows no partition 7 of orders"):
        Pipeline(JOB).take_partition(snapshot, "orders", 7)
    other = parse_job({"schema": {"use": "order_flat"}, "clean": {}, "window": []})
    with pytest.raises(StateError, match="another job"):
        Pipeline(other).take_partition(snapshot, "orders", 0)


def test_a_declared_partition_is_waited_for() -> None:
    pipeline = Pipeline(JOB)
    pipeline.declare_partition("orders", 1)
    assert "sales" not in pipeline.push([sale(70, 1, 0), sale(900, 2, 0)], source="orders", partition=0)
    assert "sales" in pipeline.push([sale(900, 1, 1)], source="orders", partition=1)
    pipeline.drop_partition("orders", 1)
    assert pipeline.metrics().groups == 7  # one of p0 in sales, daily, ever and visits, three in rolling
