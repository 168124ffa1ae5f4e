"""decode as an Arrow stream gives what decode of the same lines gives, batch by batch."""

from __future__ import annotations

import gc
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from omnistream import NdjsonDecoder, _core
from omnistream.schema import Field, Schema

SCHEMA = Schema(
    "sale",
    (
        Field("id", "string", required=True),
        Field("shop", "dictionary"),
        Field("amount", "decimal"),
        Field("paid", "bool"),
        Field("at", "timestamp"),
    ),
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def decoder() -> _core.Decoder:
    return _core.Decoder(SCHEMA.to_core(), {"shop": _core.Dictionary()})


def lines(count: int) -> bytes:
    sales: list[dict[str, Any]] = [
        {
            "id": f"sale-{number}",
            "shop": f"shop-{number % 7}" if number % 5 else None,
            "amount": number / 4,
            "paid": number % 3 == 0,
            "at": f"2026-11-11T00:00:{number % 60:02}Z",
        }
        for number in range(count)
    ]
    return b"".join(json.dumps(sale).encode() + b"\n" for sale in sales)


def rows_of(batches: list[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


def all_at_once(data: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]:
    batch, rejects, counts = decoder().decode_lines(data)
    return rows_of([pa.record_batch(batch)]), rows_of([pa.record_batch(rejects)]), counts


@pytest.mark.parametrize("block_bytes", [1, 100, 4_096, 1 << 20])
@pytest.mark.parametrize("end", [b"", b"\n", b'{"id": "last", "shop": "new"}'])
def test_rows_rejects_and_counts_are_those_of_the_lines(block_bytes: int, end: bytes) -> None:
    good = lines(500)
    data = BYTE_ORDER_MARK + good + b'{"id": null}\n\n  \r\n{"id": "x", "paid": 1}\nnonsense\n' + good + end
    stream = _core.DecodeStream(decoder(), data, block_bytes)
    batches = list(pa.RecordBatchReader.from_stream(stream))
    rows, rejects, counts = all_at_once(data)
    assert rows_of(batches) == rows
    assert rows_of([pa.record_batch(table) for table in stream.take_rejects()]) == rejects
    assert [row["position"] for row in rejects] == [501, 504, 505]
    ignored = {"speculated"}  # which path a message took
    assert {k: v for k, v in stream.counts.items() if k not in ignored} == {
        k: v for k, v in counts.items() if k not in ignored
    }
    assert stream.take_rejects() == []
    if block_bytes == 100:
        assert len(batches) > 500


def test_a_batch_has_whole_lines_of_at_least_the_size_asked_for() -> None:
    line = b'{"id": "0123456789"}\n'
    stream = _core.DecodeStream(decoder(), line * 10, 2 * len(line) + 1)
    assert [batch.num_rows for batch in pa.RecordBatchReader.from_stream(stream)] == [3, 3, 3, 1]


def test_nothing_to_decode_is_a_stream_of_no_batch_but_with_its_columns() -> None:
    reader = pa.RecordBatchReader.from_stream(_core.DecodeStream(decoder(), b"", 1))
    assert reader.schema == pa.record_batch(decoder().decode_lines(lines(3))[0]).schema
    assert list(reader) == []


def test_another_reader_goes_on_where_the_first_stopped() -> None:
    stream = _core.DecodeStream(decoder(), lines(20), 1)
    first = pa.RecordBatchReader.from_stream(stream).read_next_batch()
    rest = list(pa.RecordBatchReader.from_stream(stream))
    assert rows_of([first, *rest]) == all_at_once(lines(20))[0]


def test_batches_outlive_the_stream_and_its_bytes() -> None:
    reader = pa.RecordBatchReader.from_stream(_core.DecodeStream(decoder(), lines(300), 1_000))
    gc.collect()
    batches = list(reader)
    del reader
    gc.collect()
    assert rows_of(batches) == all_at_once(lines(300))[0]


def test_positions_and_source_are_told() -> None:
    stream = _core.DecodeStream(decoder(), b"nonsense\n" * 3, 1, "orders.ndjson", 4, 1_000)
    assert list(pa.RecordBatchReader.from_stream(stream).read_all().to_pylist()) == []
    rejects = rows_of([pa.record_batch(table) for table in stream.take_rejects()])
    assert [row["position"] for row in rejects] == [1_000, 1_001, 1_002]
    assert {(row["source"], row["partition"]) for row in rejects} == {("orders.ndjson", 4)}


def test_codes_go_on_from_stream_to_stream() -> None:
    whole = NdjsonDecoder(SCHEMA, block_bytes=1_000)
    data = lines(200)
    half = data.index(b"\n", len(data) // 2) + 1
    streams = [
        whole.stream(data[:half], source="orders"),
        whole.stream(data[half:] + b"nonsense\n", source="orders", first_position=101),
    ]
    tables = [pa.RecordBatchReader.from_stream(stream).read_all() for stream in streams]
    assert pa.concat_tables(tables).to_pylist() == all_at_once(data)[0]
    [rejected] = rows_of([pa.record_batch(table) for table in streams[1].take_rejects()])
    assert (rejected["source"], rejected["position"]) == ("orders", 100 + data[half:].count(b"\n") + 1)
    codes = [table["shop"].chunk(0).dictionary.to_pylist() for table in tables]
    assert codes[1][: len(codes[0])] == codes[0]


def test_streams_in_threads_do_not_disturb_each_other() -> None:
    data = lines(5_000)

    def decode(_: int) -> list[dict[str, Any]]:
        return rows_of(list(pa.RecordBatchReader.from_stream(_core.DecodeStream(decoder(), data, 8_192))))

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(decode, range(8)))
    assert all(answer == all_at_once(data)[0] for answer in answers)
