"""window: every kind gives the reference's results, however the stream is cut, and from a snapshot."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream.errors import StateError
from omnistream.schema import Field
from tests.conformance.test_window import END_MS, SCHEMA, assert_same_windows, event, measures
from tests.engines import CpuEngine, ReferenceEngine
from tests.strategies import EVENT_TYPES, EVENTS, HOUR_MS, START_MS, batches, events

MINUTE_MS = 60_000


def spec(**changes: Any) -> dict[str, Any]:
    plain = {
        "name": "sales",
        "kind": "tumbling",
        "size_ms": HOUR_MS,
        "time_column": "event_time",
        "keys": ["sku"],
        "measures": measures(),
        "types": EVENT_TYPES,
    }
    return plain | changes


def run(
    engine: Any,
    parts: list[list[bytes]],
    spec: dict[str, Any],
    max_disorder_ms: int,
    every: int = 1,
    restart: bool = False,
    schema: dict[str, Any] = SCHEMA,
) -> tuple[list[Any], list[Any], dict[str, int]]:
    """Return the results in order, the late rows and the ledger; perhaps go on from a snapshot each time."""
    decoder, watermark = engine.decoder(schema), engine.watermark(max_disorder_ms)
    cleaner, window = engine.cleaner([], "event_time", watermark, None), engine.window(spec)
    closed: list[Any] = []
    late: list[Any] = []
    rows = 0
    for number, part in enumerate(parts):
        decoded, overflowed = engine.add_amounts(decoder.messages(part), EVENT_TYPES)
        cleaned = cleaner.clean(decoded, 0, overflowed)
        rows += len(cleaned.rows)
        late += window.push(cleaned)
        if number % every == 0:
            closed += window.advance(watermark.value_ms)
            if restart:
                before, window = window, engine.window(spec)
                window.window.restore(before.window.snapshot())
                assert window.counts == before.counts
    counts = window.counts
    closed += window.advance(END_MS)
    assert window.counts["open_windows"] == 0
    assert counts["aggregated"] + counts["late"] == rows
    return [result.rows for result in closed], late, counts


KEYS = st.sampled_from([[], ["sku"], ["size"], ["gift", "size"], ["quantity", "sku"]])
LENGTHS_MS = st.sampled_from([HOUR_MS, 90 * MINUTE_MS, 4 * HOUR_MS, 7 * MINUTE_MS])
OFFSETS_MS = st.sampled_from([0, -1, 17 * MINUTE_MS])
LATENESS_MS = st.sampled_from([0, 1, HOUR_MS])


@st.composite
def hopping(draw: st.DrawFn) -> dict[str, Any]:
    size_ms = draw(LENGTHS_MS)
    hops_ms = [size_ms, 7 * MINUTE_MS, 40 * MINUTE_MS, HOUR_MS]
    return {
        "kind": "hopping",
        "size_ms": size_ms,
        "hop_ms": min(size_ms, draw(st.sampled_from(hops_ms))),
        "offset_ms": draw(OFFSETS_MS),
        "allowed_lateness_ms": draw(LATENESS_MS),
    }


@st.composite
def calendar(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": "calendar",
        "unit": draw(st.sampled_from(["day", "week", "month"])),
        "time_zone": draw(st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kathmandu"])),
        "offset_ms": draw(st.sampled_from([0, 6 * HOUR_MS, 23 * HOUR_MS])),
        "allowed_lateness_ms": draw(LATENESS_MS),
    }


@st.composite
def session(draw: st.DrawFn) -> dict[str, Any]:
    gaps_ms = [1, 7 * MINUTE_MS, 40 * MINUTE_MS, 2 * HOUR_MS]
    lateness_ms = draw(LATENESS_MS)
    return {"kind": "session", "gap_ms": draw(st.sampled_from(gaps_ms)), "allowed_lateness_ms": lateness_ms}


@st.composite
def early(draw: st.DrawFn) -> dict[str, Any]:
    whole = st.fixed_dictionaries(
        {"kind": st.just("tumbling"), "size_ms": LENGTHS_MS, "offset_ms": OFFSETS_MS}
    )
    kind = draw(st.one_of(whole, calendar(), hopping(), session(), session(), st.just({"kind": "global"})))
    if kind["kind"] != "global":
        kind = {**kind, "allowed_lateness_ms": draw(LATENESS_MS)}
    return {**kind, "early_ms": draw(st.sampled_from([1, 7 * MINUTE_MS, HOUR_MS, 100 * HOUR_MS]))}


KINDS = {
    "early": early(),
    "hopping": hopping(),
    "calendar": calendar(),
    "session": session(),
    "global": st.just({"kind": "global"}),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_window(kind: str, data: st.DataObject) -> None:
    parts, keys = data.draw(batches(events(max_size=16))), data.draw(KEYS)
    names = {*keys, "window_start", "window_end"}
    chosen = [each for each in measures() if each["name"] not in names]
    wanted = spec(keys=keys, measures=chosen, **data.draw(KINDS[kind]))
    disorder_ms = data.draw(st.sampled_from([0, HOUR_MS]))
    expected, late, counts = run(ReferenceEngine(), parts, wanted, disorder_ms)
    for restart in (False, True):
        got, got_late, got_counts = run(CpuEngine(), parts, wanted, disorder_ms, restart=restart)
        assert got_late == late
        assert [got_counts[name] for name in ("aggregated", "late")] == [
            counts[name] for name in ("aggregated", "late")
        ]
        assert got_counts["open_windows"] == counts["open_windows"]
        assert_same_windows(got, expected)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_batching_and_any_moment_of_closing(kind: str, data: st.DataObject) -> None:
    parts, every = data.draw(batches(events(max_size=16))), data.draw(st.integers(1, 4))
    wanted = spec(**data.draw(KINDS[kind]))
    disorder_ms = data.draw(st.sampled_from([0, HOUR_MS]))
    whole = [[message for part in parts for message in part]]
    one_by_one = [[message] for part in parts for message in part]
    for engine in (ReferenceEngine(), CpuEngine()):
        at_once, late_at_once, counts_at_once = run(engine, whole, wanted, disorder_ms)
        for cut, step in ((parts, every), (one_by_one, 1)):
            closed, late, counts = run(engine, cut, wanted, disorder_ms, step)
            assert list(chain(*closed)) == list(chain(*at_once))
            assert late == late_at_once
            assert counts["aggregated"] == counts_at_once["aggregated"]


COUNT = [{"name": "rows", "op": "count"}]


def test_hopping_windows_share_rows_and_each_closes_once(engine: Any) -> None:
    """The worked example of docs/semantics.md: ten minutes, every five, no disorder."""
    at = [START_MS + minutes * MINUTE_MS for minutes in (2, 7, 12, 4, 9)]
    wanted = spec(kind="hopping", size_ms=10 * MINUTE_MS, hop_ms=5 * MINUTE_MS, keys=[], measures=COUNT)
    closed, late, counts = run(engine, [[event(time_ms, 1) for time_ms in at]], wanted, 0)
    shown = [((row["window_start"] - START_MS) // MINUTE_MS, row["rows"]) for (row,) in closed]
    assert shown == [(-5, 1), (0, 2), (5, 3), (10, 1)]
    assert [row["event_time"] for row in late] == [at[3]]
    assert counts["aggregated"] == 4


def utc_ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp() * 1_000)


@pytest.mark.parametrize(
    ("zone", "near"),
    [
        ("Asia/Shanghai", "2026-11-11T16:00"),
        ("America/New_York", "2026-03-08T07:00"),  # clocks go forward: a day of 23 hours
        ("America/New_York", "2026-11-01T06:00"),  # and back
        ("America/Sao_Paulo", "2017-10-15T03:00"),  # forward from midnight: it is never shown
        ("America/St_Johns", "2006-10-29T02:31"),  # back from a minute past midnight: shown twice
        ("America/Havana", "2026-11-01T05:00"),  # back to midnight: shown twice
        ("America/Toronto", "1974-04-28T07:00"),
        ("Pacific/Apia", "2011-12-30T10:00"),  # a day that clocks skip
        ("Africa/Casablanca", "2026-02-15T02:00"),
        ("Antarctica/Troll", "2026-03-29T01:00"),  # by two hours
    ],
)
@given(
    st.lists(st.one_of(st.integers(-4 * 24 * 60, 4 * 24 * 60), st.integers(-70, 70)), max_size=30),
    st.sampled_from(["day", "day", "week", "month"]),
    st.sampled_from([0, 0, 30 * MINUTE_MS, 6 * HOUR_MS]),
)
def test_calendar_windows_where_clocks_change(
    zone: str, near: str, minutes: list[int], unit: str, offset_ms: int
) -> None:
    messages = [event(utc_ms(near) + minute * MINUTE_MS - 1 + minute % 3, 1) for minute in minutes]
    wanted = spec(kind="calendar", unit=unit, time_zone=zone, offset_ms=offset_ms, keys=[], measures=COUNT)
    expected, late, _ = run(ReferenceEngine(), [messages], wanted, 99 * 24 * HOUR_MS)
    assert late == []
    assert run(CpuEngine(), [messages], wanted, 99 * 24 * HOUR_MS)[0] == expected


def test_a_day_in_shanghai_and_the_day_on_which_clocks_change(engine: Any) -> None:
    """The worked example of docs/semantics.md."""
    examples = {
        "Asia/Shanghai": ("2026-11-10T16:00", [("2026-11-09T16:00", 24), ("2026-11-10T16:00", 24)]),
        "America/New_York": ("2026-03-09T03:59", [("2026-03-08T05:00", 23)]),
    }
    for zone, (at, days) in examples.items():
        wanted = spec(kind="calendar", unit="day", time_zone=zone, keys=[], measures=COUNT)
        messages = [event(utc_ms(at) - 1, 1), event(utc_ms(at), 1)]
        closed, _, _ = run(engine, [messages], wanted, 0)
        assert [row["window_start"] for (row,) in closed] == [utc_ms(start) for start, _ in days]
        lengths_ms = [row["window_end"] - row["window_start"] for (row,) in closed]
        assert lengths_ms == [hours * HOUR_MS for _, hours in days]


def test_zones_end_in_2200() -> None:
    """Beyond the table the last offset holds: clocks no longer change."""
    at_ms = utc_ms("2300-07-01T12:00")
    wanted = spec(kind="calendar", unit="day", time_zone="America/New_York", keys=[], measures=COUNT)
    closed, _, _ = run(CpuEngine(), [[event(at_ms, 1)]], wanted, 0)
    assert closed[0][0]["window_start"] == utc_ms("2300-07-01T05:00")


def test_a_snapshot_of_another_zone_is_refused() -> None:
    def window(zone: str) -> Any:
        return CpuEngine().window(spec(kind="calendar", unit="day", time_zone=zone)).window

    with pytest.raises(StateError, match=r"a day in Asia/Tokyo.*a day in Asia/Seoul"):
        window("Asia/Seoul").restore(window("Asia/Tokyo").snapshot())


def test_sessions_grow_merge_and_close(engine: Any) -> None:
    """The worked example of docs/semantics.md: a gap of ten minutes, a bound on disorder of five."""
    at = [START_MS + minutes * MINUTE_MS for minutes in (0, 14, 8, 18, 30, 34, 17)]
    wanted = spec(kind="session", gap_ms=10 * MINUTE_MS, measures=COUNT)
    closed, late, counts = run(engine, [[event(time_ms, 1) for time_ms in at]], wanted, 5 * MINUTE_MS)
    shown = [
        [(row[name] - START_MS) // MINUTE_MS for name in ("window_start", "window_end")] + [row["rows"]]
        for row in chain(*closed)
    ]
    assert shown == [[0, 28, 4], [30, 44, 2]]
    assert [row["event_time"] for row in late] == [at[-1]]
    assert counts["aggregated"] == 6


def test_many_sessions_come_and_go() -> None:
    """So many that what is closed is cleared away, with keys and values of every type."""
    skus = ["a", "b", "c", "ab"]
    keys = [(minute, skus[minute % 4], minute % 7 if minute % 11 else None) for minute in range(2_400)]
    line = '{{"sku":"{0}","size":"{2}-{0}","qty":{1}}}'
    parts = []
    for begin in range(0, 2_400, 250):
        part = []
        for minute, sku, quantity in keys[begin : begin + 250]:
            number = "null" if quantity is None else quantity
            lines = ",".join(line.format(sku, number, minute % 13) for _ in range(2))
            message = f'{{"event_time":{START_MS + minute * MINUTE_MS},"lines":[{lines}]}}'
            part.append(message.encode())
        parts.append(part)
    chosen = [
        *COUNT,
        {"name": "sum_quantity", "op": "sum", "column": "quantity"},
        *(
            {"name": f"distinct_{each}", "op": "distinct", "column": each}
            for each in ("sku", "quantity", "size")
        ),
    ]
    chosen += [
        {"name": "last_size", "op": "last", "column": "size"},
        {"name": "last_quantity", "op": "last", "column": "quantity"},
        {"name": "top_size", "op": "top", "column": "size", "by": "quantity"},
        {"name": "approx_size", "op": "approx_distinct", "column": "size"},
        {"name": "median_quantity", "op": "quantile", "column": "quantity", "argument": 500_000},
    ]
    for keys_of in (["sku", "size"], ["quantity"]):
        for gap_ms in (1, 15 * MINUTE_MS):
            wanted = spec(kind="session", gap_ms=gap_ms, measures=chosen, keys=keys_of)
            expected = run(ReferenceEngine(), parts, wanted, HOUR_MS)
            for restart in (False, True):
                assert run(CpuEngine(), parts, wanted, HOUR_MS, restart=restart) == expected


def test_early_results_have_revisions_and_the_last_one_is_final(engine: Any) -> None:
    """The worked example of docs/semantics.md: ten minutes, every five, one minute of disorder."""
    sales = [(1, "a"), (4, "b"), (6, "a"), (7, "a"), (3, "b"), (12, "a"), (18, "a")]
    messages = [event(START_MS + minute * MINUTE_MS, 1, sku=sku) for minute, sku in sales]
    wanted = spec(size_ms=10 * MINUTE_MS, early_ms=5 * MINUTE_MS, measures=COUNT)
    closed, late, _ = run(engine, [messages], wanted, MINUTE_MS)
    shown = [
        (
            (row["window_start"] - START_MS) // MINUTE_MS,
            row["sku"],
            row["rows"],
            row["revision"],
            row["final"],
        )
        for row in chain(*closed)
    ]
    assert shown == [
        (0, "a", 1, 1, False),
        (0, "a", 2, 2, False),
        (0, "b", 1, 1, False),
        (0, "a", 3, 3, True),
        (0, "b", 2, 2, True),
        (10, "a", 1, 1, False),
        (10, "a", 2, 2, False),
        (10, "a", 2, 3, True),
    ]
    assert late == []


def test_hopping_windows_are_told_early_each_with_its_own_revisions(engine: Any) -> None:
    """The worked example of docs/semantics.md: ten minutes, every five, told every five, no disorder."""
    messages = [event(START_MS + minute * MINUTE_MS, 1) for minute in (2, 7, 8, 16)]
    wanted = spec(
        kind="hopping",
        size_ms=10 * MINUTE_MS,
        hop_ms=5 * MINUTE_MS,
        early_ms=5 * MINUTE_MS,
        keys=[],
        measures=COUNT,
    )
    closed, _, _ = run(engine, [messages], wanted, 0)
    shown = [
        ((row["window_start"] - START_MS) // MINUTE_MS, row["rows"], row["revision"], row["final"])
        for row in chain(*closed)
    ]
    assert shown == [
        (-5, 1, 1, False),
        (0, 1, 1, False),
        (-5, 1, 2, True),
        (0, 2, 2, False),
        (5, 1, 1, False),
        (0, 3, 3, True),
        (5, 2, 2, True),
        (10, 1, 1, False),
        (15, 1, 1, False),
        (10, 1, 2, True),
        (15, 1, 2, True),
    ]


def test_a_session_that_starts_earlier_than_told_is_retracted(engine: Any) -> None:
    """The worked example of docs/semantics.md: a gap of ten minutes, told every five, twenty of disorder."""
    messages = [event(START_MS + minute * MINUTE_MS, 1) for minute in (0, 14, 26, 8, 32)]
    wanted = spec(kind="session", gap_ms=10 * MINUTE_MS, early_ms=5 * MINUTE_MS, measures=COUNT)
    closed, late, _ = run(engine, [messages], wanted, 20 * MINUTE_MS)
    shown = [
        (
            *((row[name] - START_MS) // MINUTE_MS for name in ("window_start", "window_end")),
            row["rows"],
            row["revision"],
            row["final"],
            row["retracted"],
        )
        for row in chain(*closed)
    ]
    assert late == []
    assert shown == [
        (0, 10, 1, 1, False, False),
        (14, 24, 1, 1, False, False),
        (26, 36, 1, 1, False, False),
        (14, 24, 0, 2, True, True),
        (0, 24, 3, 2, False, False),
        (26, 42, 2, 2, False, False),
        (0, 24, 3, 3, True, False),
        (26, 42, 2, 3, True, False),
    ]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 60), st.sampled_from("ab")), max_size=8), max_size=6),
    st.sampled_from([4, 10]),
    st.sampled_from([0, 3]),
    st.sampled_from([2, 5, 15]),
    st.sampled_from([0, 10, 30]),
)
def test_sessions_told_early_and_retracted(
    parts: list[list[tuple[int, str]]], gap: int, lateness: int, every: int, disorder: int
) -> None:
    """However cut and restored; and a sink that keeps the last word has what is told without early ones."""
    messages = [[event(START_MS + at * MINUTE_MS, 1, sku=sku) for at, sku in part] for part in parts]
    plain = spec(
        kind="session",
        gap_ms=gap * MINUTE_MS,
        allowed_lateness_ms=lateness * MINUTE_MS,
        measures=[*COUNT, {"name": "sum_quantity", "op": "sum", "column": "quantity"}],
    )
    wanted = plain | {"early_ms": every * MINUTE_MS}
    expected, late, _ = run(ReferenceEngine(), messages, wanted, disorder * MINUTE_MS)
    assert run(CpuEngine(), messages, wanted, disorder * MINUTE_MS)[:2] == (expected, late)
    assert run(CpuEngine(), messages, wanted, disorder * MINUTE_MS, restart=True)[:2] == (expected, late)
    whole = [[message for part in messages for message in part]]
    for cut in (whole, [[message] for message in whole[0]]):
        told = list(chain(*run(CpuEngine(), cut, wanted, disorder * MINUTE_MS)[0]))
        assert told == list(chain(*expected))

    kept: dict[Any, dict[str, Any]] = {}
    for row in chain(*expected):
        place = row["window_start"], row["sku"]
        before = kept.get(place, {"revision": 0, "final": False})
        assert row["revision"] == before["revision"] + 1
        assert not before["final"]
        kept[place] = row
    assert all(row["final"] for row in kept.values())
    last_words = [row for row in kept.values() if not row["retracted"]]
    final = run(ReferenceEngine(), messages, plain, disorder * MINUTE_MS)[0]
    names = ("window_start", "window_end", "sku", "rows", "sum_quantity")
    assert sorted([*map(row.get, names)] for row in last_words) == sorted(
        [*map(row.get, names)] for row in chain(*final)
    )


WITH_SALES = dataclasses.replace(
    EVENTS, fields=(*EVENTS.fields, Field("sold_at", "timestamp", format="epoch_ms"))
).to_core()
CORRECTIONS = {
    "original_time": "sold_at",
    "corrections": {"column": "event_type", "plus": ["returned", "cancelled"], "minus": []},
    "types": {**EVENT_TYPES, "sold_at": "timestamp"},
}


@given(
    batches(events(max_size=16)),
    st.lists(st.one_of(st.none(), st.integers(0, 5 * HOUR_MS)), min_size=16, max_size=16),
    st.one_of(hopping(), calendar(), early().filter(lambda kind: kind["kind"] not in ("session", "global"))),
)
def test_corrections_fall_into_the_window_of_their_sale(
    parts: list[list[bytes]], before_ms: list[int | None], kind: dict[str, Any]
) -> None:
    ages_ms = iter(before_ms)
    aged = []
    for part in parts:
        messages = []
        for message in map(json.loads, part):
            age_ms = next(ages_ms)
            message["sold_at"] = None if age_ms is None else message["event_time"] - age_ms
            messages.append(json.dumps(message).encode())
        aged.append(messages)
    wanted = spec(**{**kind, **CORRECTIONS})
    expected = run(ReferenceEngine(), aged, wanted, 0, schema=WITH_SALES)
    for restart in (False, True):
        got = run(CpuEngine(), aged, wanted, 0, restart=restart, schema=WITH_SALES)
        assert got[1] == expected[1]
        assert_same_windows(got[0], expected[0])
    whole = [[message for part in aged for message in part]]
    assert list(chain(*run(CpuEngine(), whole, wanted, 0, schema=WITH_SALES)[0])) == list(chain(*got[0]))


def test_a_return_among_rows_of_one_window_falls_into_that_of_its_sale(engine: Any) -> None:
    def row(at_ms: int, kind: str = "paid", sold_ms: int | None = None) -> bytes:
        plain = json.loads(event(START_MS + at_ms, 1))
        return json.dumps({**plain, "event_type": kind, "sold_at": sold_ms}).encode()

    parts = [[row(hour * HOUR_MS + i) for i in range(8)] for hour in (0, 1)]
    parts.append([row(HOUR_MS + 8), row(HOUR_MS + 9, "returned", START_MS), row(HOUR_MS + 10)])
    hours = spec(size_ms=HOUR_MS, allowed_lateness_ms=2 * HOUR_MS, measures=COUNT, **CORRECTIONS)
    closed, late, _ = run(engine, parts, hours, 0, schema=WITH_SALES)
    assert [(row["window_start"], row["rows"]) for row in chain(*closed)] == [
        (START_MS, 9),
        (START_MS + HOUR_MS, 10),
    ]
    assert late == []


def test_a_global_window_has_no_interval_and_closes_with_the_input(engine: Any) -> None:
    parts = [[event(START_MS + hours * HOUR_MS, 1)] for hours in (900, 0, 1)]
    closed, late, counts = run(engine, parts, spec(kind="global", measures=COUNT), 0)
    assert closed == [[{"sku": "a", "rows": 3}]]
    assert late == []
    assert counts["open_windows"] == 1
