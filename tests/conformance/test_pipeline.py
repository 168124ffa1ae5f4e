"""The pipeline is what the stages of `tests/reference` are, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream.job import JobSpec
from omnistream.spec import REJECTS, ROWS
from tests import reference
from tests.engines import plain_rows
from tests.pipeline_jobs import JOBS, streams
from tests.pipeline_runs import NOW_MS, PLACES, cut, in_order, new_pipeline, run
from tests.reference.clean import END
from tests.reference.decode import reject

MAX_ULP = 4  # of means and standard deviations, and of the safety stock that comes from them


def reference_run(job: JobSpec, parts: Iterable[Sequence[bytes]]) -> dict[str, list[dict[str, Any]]]:
    """The stages of tests/reference, one after the other. Outputs are plain rows."""
    schema, columns = new_pipeline(job).decode.schema.to_core(), job.columns
    watermark = reference.Watermark(job.time.max_disorder_ms)
    duplicates = None if job.duplicates is None else reference.Duplicates(**job.duplicates.to_core())
    cleaner = reference.Cleaner(
        [rule.to_core() for rule in job.rules], job.time.column, watermark, duplicates
    )
    windows = {
        window.name: reference.Window(window.to_core(job.time.column, columns)) for window in job.windows
    }
    demands = {
        derive.name: reference.Demand(derive.to_core(job.window(derive.window), columns))
        for derive in job.derives
    }
    outputs: dict[str, list[dict[str, Any]]] = {name: [] for name in (REJECTS, ROWS, *windows, *demands)}

    def close(watermark_ms: int) -> None:
        closed = {name: window.advance(watermark_ms) for name, window in windows.items()}
        for name, days in closed.items():
            outputs[name] += [row for day in days for row in day]
        for derive in job.derives:
            for day in closed[derive.window]:
                outputs[derive.name] += demands[derive.name].push(day)

    at = 0
    for part in parts:
        rows, undecoded, _ = reference.decode_messages(schema, list(part), first_position=at)
        at += len(part)
        overflowed = []
        if job.amount is not None:
            amount = job.amount
            overflowed = reference.add_amounts(
                rows, columns, amount.quantity, amount.unit_price, amount.discount
            )
        survivors, unclean = cleaner.clean(rows, NOW_MS, overflowed)
        refused: dict[int, list[str]] = {}
        for name, window in windows.items():
            for place in window.push(survivors):
                refused.setdefault(place, []).append(name)
        late = [
            reject(row.message, row.line, "window", "late", ", ".join(names), None)
            for place, names in refused.items()
            for row in [survivors[place][0]]
        ]
        outputs[REJECTS] += [*undecoded, *unclean, *late]
        outputs[ROWS] += [row.values for row, _ in survivors]
        close(watermark.value_ms)
    close(END)
    for derive in job.derives:
        demand = demands[derive.name]
        last_day = [row for row in outputs[derive.name] if row["day"] == demand.today]
        with_rows = {tuple(row[key] for key in demand.spec["keys"]) for row in last_day}
        outputs[derive.name] += [
            row for row in demand.current() if tuple(row[key] for key in demand.spec["keys"]) not in with_rows
        ]
    return outputs


def assert_close(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for row, meant in zip(got, expected, strict=True):
        assert list(row) == list(meant)
        for name, value in meant.items():
            if isinstance(value, float) and isinstance(row[name], float):
                assert abs(row[name] - value) <= MAX_ULP * math.ulp(value), name
            else:
                assert repr(row[name]) == repr(value), name


@pytest.mark.parametrize("shape", JOBS)
@given(st.data())
def test_the_reference_says_the_same(shape: str, data: st.DataObject) -> None:
    job = JOBS[shape]
    parts = cut(data.draw(streams(shape, max_size=20)), data.draw(PLACES))
    got, expected = run(job, map(list, parts)), reference_run(job, parts)
    for name, rows in expected.items():
        batches = [row for batch in got.outputs.get(name, []) for row in plain_rows(batch)]
        if name == REJECTS:
            assert in_order(batches) == in_order(rows)
        elif name != ROWS or "rows" in got.outputs:
            assert_close(batches, rows)


def test_the_streams_reach_every_stage() -> None:
    """What the tests above draw from must close windows, be late, be twice, and break in every stage."""
    stages, outputs = set(), set()

    @given(streams("order"))
    def look(stream: list[bytes]) -> None:
        result = run(JOBS["order"], [stream[:12], stream[12:]])
        outputs.update(name for name in result.outputs if result.before_the_end["emitted"].get(name))
        stages.update((each["stage"], each["reason"]) for each in result.rows(REJECTS))

    look()
    assert outputs >= {"sales", "quarters", "daily", "demand", REJECTS}
    assert stages >= {
        *(("clean", "non_positive_quantity"), ("clean", "discount_out_of_range"), ("clean", "duplicate")),
        *(("window", "late"), ("decode", "invalid_json"), ("decode", "truncated_json")),
    }
