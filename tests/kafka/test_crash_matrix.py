"""A few cases of the crash matrix (`make crash-matrix` runs all), and a test of its checker."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from tests.kafka.broker import Cluster
from tests.kafka.crash.matrix import Case, Tally, run_matrix
from tests.kafka.crash.orders import make_orders
from tests.kafka.crash.steps import STEPS
from tests.kafka.topics import Kafka


def check(tally: Tally, cases: int) -> None:
    assert tally.cases == cases
    assert tally.sound, "\n".join(tally.notes)
    assert tally.kills >= cases, "\n".join(tally.notes)
    assert tally.missed == 0, "\n".join(tally.notes)


def test_a_job_killed_at_any_step_loses_and_repeats_nothing(kafka: Kafka, tmp_path: Path) -> None:
    """In a group whose first member is killed, the second one does its work."""
    check(run_matrix(kafka, ["rebalance", *STEPS], [3], tmp_path), 1 + len(STEPS))


def test_a_killed_broker_changes_no_result(kafka: Kafka, own_cluster: Cluster, tmp_path: Path) -> None:
    check(run_matrix(kafka, ["broker"], [0, 1], tmp_path), 2)


def test_a_leader_that_is_lost_changes_no_result(three_nodes: Kafka, tmp_path: Path) -> None:
    check(run_matrix(three_nodes, ["cluster"], [0, 1], tmp_path), 2)


def test_orders_have_every_fault_and_their_results_add_up() -> None:
    orders = make_orders(seed=1, partitions=1)
    reasons = {reason for _, _, reason in orders.letters}
    assert reasons == {"truncated_json", "missing_field", "price_below_cost", "duplicate", "late"}
    counted = sum(count for count, _, _ in orders.results.values())
    assert counted + orders.letters.total() == orders.messages


def test_the_checker_sees_what_is_missing_twice_or_wrong(kafka: Kafka, tmp_path: Path) -> None:
    case = Case(kafka, "poll", 1, tmp_path)
    rows = [
        f'{{"window_start":"{dt.datetime.fromtimestamp(start / 1_000, dt.UTC).isoformat()}","sku":"{sku}",'
        f'"channel":"{channel}","count":{count},"units_net":{units},"net_amount":{amount}}}'
        for (sku, channel, start), (count, units, amount) in case.orders.results.items()
    ]
    wrong = rows[2].replace('"count":', '"count":1')
    kafka.produce(case.output, [row.encode() for row in [*rows[1:2], wrong, *rows[3:], rows[5]]])
    case.check_results()
    # rows[0] was left out, rows[2] is wrong (and so is missing, too), rows[5] is there twice
    assert (case.tally.lost, case.tally.aborted_reads, case.tally.duplicated) == (2, 1, 1)
    case.check_letters()
    assert case.tally.ledger_mismatches == case.orders.letters.total()
    assert not case.tally.sound
