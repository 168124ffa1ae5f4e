"""Messages in Avro and in Arrow IPC, pushed into a pipeline: the results of their JSON, and rejects."""

from __future__ import annotations

import datetime as dt
import json
import random
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from omnistream import Pipeline
from omnistream.errors import JobError, OmnistreamError, SourceError
from omnistream.job import JobSpec, parse_job
from omnistream.registry import Registry
from omnistream.spec import MessageSpec
from tests.conformance.test_avro import encoded, frame
from tests.registry_server import running_registry

FLAT: dict[str, Any] = {
    "job": {"name": "flat"},
    "schema": {"use": "order_flat"},
    "clean": {"duplicates": {}},
    "window": [
        {"name": "sales", "size": "1m", "keys": ["sku"], "measures": ["count", "units_sold", "net_amount"]}
    ],
}
PRICE = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
WRITER = {
    "type": "record", "name": "Order", "namespace": "shop",
    "fields": [
        *({"name": name, "type": "string"} for name in ("event_id", "event_type", "channel", "sku")),
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "note", "type": ["null", "string"]},
        {"name": "qty", "type": "int"},
        {"name": "unit_price", "type": PRICE},
    ],
}  # fmt: skip
START_MS = 1_794_355_200_000


def orders(count: int) -> list[dict[str, Any]]:
    rng = random.Random(count)
    return [
        {
            "event_id": f"e{number}",
            "event_type": rng.choice(["paid", "returned", "created"]),
            "channel": "web",
            "sku": f"BOOT-{rng.randrange(5)}",
            "event_time": START_MS + number * 500,
            "note": None,
            "qty": rng.randrange(1, 9),
            "unit_price": Decimal(rng.randrange(100, 99_999)).scaleb(-2),
        }
        for number in range(count)
    ]


def json_message(order: dict[str, Any]) -> bytes:
    changed = {**order, "unit_price": float(order["unit_price"])}
    changed["event_time"] = dt.datetime.fromtimestamp(order["event_time"] / 1_000, dt.UTC).isoformat()
    return json.dumps(changed).encode()


def results(job: JobSpec, messages: list[list[bytes]]) -> tuple[list[Any], Pipeline]:
    pipeline = Pipeline(job)
    outputs = [pipeline.push(each) for each in messages]
    outputs.append(pipeline.flush())
    assert pipeline.metrics().balanced
    return [row for each in outputs for batch in each.get("sales", []) for row in batch.to_pylist()], pipeline


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with running_registry() as url:
        yield url


def asked_of(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/asked") as answer:
        return list(json.load(answer))


def avro_job(url: str) -> JobSpec:
    settings = (("url", url), ("max.retries", "0"))
    return replace(parse_job(FLAT), messages=MessageSpec("avro"), registry=settings)


# ---- Avro ----


def test_avro_gives_the_results_of_json(registry: str) -> None:
    id_ = Registry({"url": registry}).register("orders-value", json.dumps(WRITER))
    events = orders(500)
    expected, of_json = results(parse_job(FLAT), [[json_message(each) for each in events]])
    messages = [frame(id_, encoded(WRITER, each)) for each in events]
    got, pipeline = results(avro_job(registry), [messages[:7], messages[7:]])
    assert got == expected
    assert len(got) > 10
    assert pipeline.metrics().unknown_fields == of_json.metrics().unknown_fields == 1_000
    assert asked_of(registry).count(f"/schemas/ids/{id_}") == 1
    assert "Avro to" in pipeline.explain()


def test_avro_without_a_frame() -> None:
    events = orders(50)
    expected, _ = results(parse_job(FLAT), [[json_message(each) for each in events]])
    job = replace(parse_job(FLAT), messages=MessageSpec("avro", json.dumps(WRITER)))
    bodies = [encoded(WRITER, each) for each in events]
    assert results(job, [bodies])[0] == expected
    pipeline = Pipeline(job)
    pipeline.push(bodies[0])  # bytes are one message
    pipeline.push(pa.array(bodies[1:], pa.binary()))
    assert pipeline.metrics().decoded == 50


def test_schemas_that_refer_to_others(registry: str) -> None:
    client = Registry({"url": registry})
    money = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    price = {
        "type": "record",
        "name": "Price",
        "namespace": "shop",
        "fields": [{"name": "value", "type": money}],
    }
    client.register("price", json.dumps(price))
    refers = {"type": "record", "name": "Refers", "fields": [{"name": "price", "type": "shop.Price"}]}
    body = {
        "schema": json.dumps(refers),
        "references": [{"name": "shop.Price", "subject": "price", "version": 1}],
    }
    request = urllib.request.Request(f"{registry}/subjects/refers/versions", json.dumps(body).encode())
    with urllib.request.urlopen(request) as answer:
        types = client.types_of(json.load(answer)["id"])
    assert types is not None
    assert types[types[0]["children"][0]]["names"] == ["value"]


def test_ids_that_nobody_knows_are_rejects(registry: str) -> None:
    id_ = Registry({"url": registry}).register("orders-value", json.dumps(WRITER))
    other = {"schema": json.dumps({"type": "object"}), "schemaType": "JSON"}
    request = urllib.request.Request(f"{registry}/subjects/other/versions", json.dumps(other).encode())
    with urllib.request.urlopen(request) as answer:
        json_id = json.load(answer)["id"]
    broken_id = Registry({"url": registry}).register("broken", '{"type": "record"}')
    good = encoded(WRITER, orders(1)[0])
    pipeline = Pipeline(avro_job(registry))
    ids = (id_, 4_000, json_id, broken_id, 4_000)
    outputs = pipeline.push([frame(each, good) for each in ids], source="orders")
    (rejects,) = outputs["rejects"]
    assert rejects["reason"].to_pylist() == ["unknown_schema"] * 4
    assert rejects["position"].to_pylist() == [1, 2, 3, 4]
    assert rejects["bytes"].to_pylist() == [frame(each, good) for each in ids[1:]]
    assert pipeline.metrics().decoded == 1


def test_a_registry_that_fails_is_an_error_and_no_reject(registry: str) -> None:
    pipeline = Pipeline(avro_job(registry))
    with pytest.raises(SourceError, match=r"schema 500 cannot be had from http.*the store is down"):
        pipeline.push([frame(500, b"")])
    assert pipeline.metrics().messages == 0
    nowhere = Pipeline(avro_job("http://127.0.0.1:9"))
    with pytest.raises(SourceError, match="schema 1 cannot be had"):
        nowhere.push([frame(1, b"")])
    with pytest.raises(OmnistreamError, match=r"schema_registry: .*url"):
        Registry({})


# ---- Arrow ----


def stream(rows: pa.Table | pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write(rows)
    return sink.getvalue().to_pybytes()


def table_of(events: list[dict[str, Any]]) -> pa.Table:
    columns = {name: [each[name] for each in events] for name in events[0] if name not in ("note", "qty")}
    columns["quantity"] = [each["qty"] for each in events]
    table = pa.table(columns)
    index = table.schema.get_field_index("event_time")
    moments = table["event_time"].cast(pa.timestamp("ms", "UTC")).cast(pa.timestamp("us", "UTC"))
    return table.set_column(index, "event_time", moments)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow_gives_the_results_of_json(compression: str | None) -> None:
    events = orders(500)
    expected, _ = results(parse_job(FLAT), [[json_message(each) for each in events]])
    job = replace(parse_job(FLAT), messages=MessageSpec("arrow"))
    table = table_of(events)
    several = pa.Table.from_batches(table.slice(200).to_batches(max_chunksize=64))
    dictionary = several.set_column(
        several.schema.get_field_index("sku"), "sku", several["sku"].dictionary_encode()
    )
    messages = [stream(each, compression=compression) for each in (table.slice(0, 200), table.slice(0, 0))]
    got, pipeline = results(job, [[*messages, stream(dictionary, emit_dictionary_deltas=True)]])
    assert got == expected
    metrics = pipeline.metrics()
    assert (metrics.messages, metrics.empty_messages, metrics.rows) == (3, 1, 500)


def test_arrow_messages_that_are_rejects() -> None:
    job = replace(parse_job(FLAT), messages=MessageSpec("arrow"))
    table = table_of(orders(20))

    def changed(name: str, column: Any) -> bytes:
        return stream(table.set_column(table.schema.get_field_index(name), name, column))

    good = stream(table)
    cases = {
        good[: len(good) // 2]: ("invalid_arrow", None),
        b"": ("invalid_arrow", None),
        b"no stream": ("invalid_arrow", None),
        stream(table.drop_columns(["sku"])): ("missing_field", "sku"),
        changed("sku", pa.array([None] * 20, pa.utf8())): ("null_field", "sku"),
        changed("sku", pa.array([[1]] * 20)): ("wrong_type", "sku"),
        changed("quantity", pa.array(["three"] * 20)): ("wrong_type", "quantity"),
        changed("quantity", pa.array([1.5] * 20)): ("inexact_number", "quantity"),
        changed("quantity", pa.array([2**63] * 20, pa.uint64())): ("out_of_range", "quantity"),
        changed("unit_price", pa.array([1.23456] * 20)): ("inexact_number", "unit_price"),
        changed("sku", pa.array([b"\xff"] * 20)): ("invalid_utf8", "sku"),
        stream(pa.table({"x": pa.nulls(500_000)}), compression="zstd"): ("missing_field", "event_id"),
        stream(pa.table({"x": pa.array([0] * 500_000)}), compression="zstd"): ("message_too_large", None),
        b"x" * (2 << 20): ("message_too_large", None),
    }  # fmt: skip
    pipeline = Pipeline(job)
    outputs = pipeline.push([*cases, good], source="orders", partition=3, first_position=70)
    (rejects,) = outputs["rejects"]
    got = zip(rejects["reason"].to_pylist(), rejects["field"].to_pylist(), strict=True)
    assert list(got) == list(cases.values())
    assert rejects["position"].to_pylist() == list(range(70, 70 + len(cases)))
    assert rejects["bytes"].to_pylist() == list(cases)
    metrics = pipeline.metrics()
    assert (metrics.decoded, metrics.rejected_messages, metrics.rows) == (1, len(cases), 20)


def test_rows_of_arrow_messages_that_a_later_stage_rejects() -> None:
    job = replace(parse_job(FLAT), messages=MessageSpec("arrow"))
    table = table_of(orders(5))
    pipeline = Pipeline(job)
    pipeline.push([stream(table)], first_position=40)
    (rejects,) = pipeline.push([stream(table.slice(2, 2))], first_position=41)["rejects"]
    assert rejects["reason"].to_pylist() == ["duplicate"] * 2
    assert rejects["position"].to_pylist() == [41, 41]
    assert rejects["line"].to_pylist() == [0, 1]
    ids = [json.loads(each)["event_id"] for each in rejects["bytes"].to_pylist()]
    assert ids == ["e2", "e3"]


def test_damaged_arrow_harms_nothing() -> None:
    """Any byte of a message may be anything."""
    job = replace(parse_job(FLAT), messages=MessageSpec("arrow"))
    rng = random.Random(7)
    whole = stream(table_of(orders(9)))
    broken = []
    for _ in range(2_000):
        message = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            message[rng.randrange(len(message))] = rng.randrange(256)
        broken.append(bytes(message[: rng.randrange(len(message))] if rng.random() < 0.2 else message))
    pipeline = Pipeline(job)
    pipeline.push([*broken, whole])
    metrics = pipeline.metrics()
    assert metrics.balanced
    assert metrics.rejects["invalid_arrow"] > 100


# ---- jobs ----

KAFKA = {"type": "kafka", "topics": "orders", "config": {"bootstrap.servers": "localhost:9092"}}


@pytest.mark.parametrize(
    ("source", "rest", "problem"),
    [
        ({"format": "avro"}, {}, "schema_registry is missing"),
        ({"format": "avro"}, {"schema_registry": {"timeout": "5"}}, "schema_registry has no url"),
        ({"format": "avro", "writer_schema": "no.avsc"}, {}, '"no.avsc" cannot be read'),
        ({"format": "json", "writer_schema": "no.avsc"}, {}, "source.writer_schema makes no sense"),
        ({"format": "arrow", "columns": {"k": "key"}}, {}, "source.columns messages of many rows have none"),
        ({"format": "arrow"}, {"schema": {"use": "order"}}, "schema.explode the rows of Arrow messages"),
    ],
)  # fmt: skip
def test_mistakes(source: dict[str, Any], rest: dict[str, Any], problem: str) -> None:
    with pytest.raises(JobError) as mistakes:
        parse_job({**FLAT, "source": {**KAFKA, **source}, **rest})
    assert problem in str(mistakes.value).replace(": ", " ")


def test_jobs_name_their_format(tmp_path: Path) -> None:
    (tmp_path / "order.avsc").write_text(json.dumps(WRITER))
    source = {**KAFKA, "format": "avro", "writer_schema": "order.avsc"}
    job = parse_job({**FLAT, "source": source}, base_dir=tmp_path)
    assert job.messages == MessageSpec("avro", json.dumps(WRITER))
    registry = {"url": "http://localhost:8081", "basic": {"auth.user.info": "me:secret"}}
    job = parse_job({**FLAT, "source": {**KAFKA, "format": "avro"}, "schema_registry": registry})
    assert dict(job.registry) == {"url": "http://localhost:8081", "basic.auth.user.info": "me:secret"}
    assert job.messages == MessageSpec("avro")
