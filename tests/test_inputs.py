"""The forms in which messages come in: the same messages give the same rows and rejects in each."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from omnistream.errors import SchemaError
from omnistream.infer import diff_schema
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline
from omnistream.schema import Schema

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = {
    "field": [
        {"name": "id", "type": "string", "required": True},
        {"name": "store", "type": "dictionary"},
        {"name": "units", "type": "int64"},
        {"name": "event_time", "type": "timestamp", "format": "epoch_s", "required": True},
    ]
}
BROKEN = 3  # the place of the message that is none

ROWS = [
    {
        "id": f"e{number}",
        "store": ("Köln", "鞋", None)[number % 3],
        "units": number,
        "event_time": 1000 + number,
    }
    for number in range(7)
]
MESSAGES = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
MESSAGES[BROKEN] = b'{"id": }'
GOOD = [row for number, row in enumerate(ROWS) if number != BROKEN]
TEXTS = [message.decode() for message in MESSAGES]
LINES = b"\n".join(MESSAGES) + b"\n"


def new_pipeline(**options: Any) -> Pipeline:
    return Pipeline(parse_job({"schema": SCHEMA | options}))


def rows_of(outputs: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [row for batch in outputs.get("rows", []) for row in batch.to_pylist()]
    return [row | {"event_time": int(row["event_time"].timestamp())} for row in rows]


def rejects_of(outputs: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows = [row for batch in outputs.get("rejects", []) for row in batch.to_pylist()]
    return [(row["position"], row["reason"], row["byte_offset"], row["bytes"]) for row in rows]


# ---- pushed ----

LINE_FORMS: dict[str, Callable[[], Any]] = {
    "lines": lambda: LINES,
    "lines without the last newline": lambda: LINES[:-1],
    "lines that end in CRLF": lambda: LINES.replace(b"\n", b"\r\n"),
    "lines after a byte-order mark": lambda: b"\xef\xbb\xbf" + LINES,
    "a byte-order mark and CRLF": lambda: b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"),
    "bytearray": lambda: bytearray(LINES),
    "memoryview": lambda: memoryview(LINES),
}

MESSAGE_FORMS: dict[str, Callable[[], Any]] = {
    "list of bytes": lambda: MESSAGES,
    "tuple of bytes": lambda: tuple(MESSAGES),
    "printed over lines": lambda: [
        message if number == BROKEN else json.dumps(json.loads(message), indent=2).encode()
        for number, message in enumerate(MESSAGES)
    ],
    "binary": lambda: pa.array(MESSAGES, pa.binary()),
    "large_binary": lambda: pa.array(MESSAGES, pa.large_binary()),
    "binary_view": lambda: pa.array(MESSAGES, pa.binary_view()),
    "string": lambda: pa.array(TEXTS, pa.string()),
    "large_string": lambda: pa.array(TEXTS, pa.large_string()),
    "string_view": lambda: pa.array(TEXTS, pa.string_view()),
    "a slice": lambda: pa.array([b"x", *MESSAGES, b"y"]).slice(1, len(MESSAGES)),
    "chunks": lambda: pa.chunked_array([MESSAGES[:2], [], MESSAGES[2:]]),
    "record batch": lambda: pa.record_batch({"value": pa.array(MESSAGES)}),
    "table": lambda: pa.table({"value": pa.chunked_array([MESSAGES[:5], MESSAGES[5:]])}),
    "polars series of bytes": lambda: pl.Series(MESSAGES),
    "polars series of text": lambda: pl.Series(TEXTS),
    "polars frame": lambda: pl.DataFrame({"value": MESSAGES}),
    "duckdb relation": lambda: duckdb.from_arrow(pa.table({"value": pa.array(MESSAGES)})),
    "duckdb relation of text": lambda: duckdb.from_arrow(pa.table({"value": pa.array(TEXTS)})),
}


@pytest.mark.parametrize("form", LINE_FORMS)
def test_lines(form: str) -> None:
    pipeline = new_pipeline()
    outputs = pipeline.push(LINE_FORMS[form]())
    assert rows_of(outputs) == GOOD
    assert rejects_of(outputs) == [(BROKEN + 1, "invalid_json", 7, MESSAGES[BROKEN])]
    assert pipeline.metrics().messages == len(MESSAGES)


@pytest.mark.parametrize("form", MESSAGE_FORMS)
def test_messages(form: str) -> None:
    pipeline = new_pipeline()
    outputs = pipeline.push(MESSAGE_FORMS[form]())
    assert rows_of(outputs) == GOOD
    assert rejects_of(outputs) == [(BROKEN, "invalid_json", 7, MESSAGES[BROKEN])]
    assert pipeline.metrics().messages == len(MESSAGES)
    # The next push is counted on from this one.
    assert rejects_of(pipeline.push([b"?"])) == [(len(MESSAGES), "invalid_json", 0, b"?")]


@pytest.mark.parametrize("indent", [None, 2])
def test_one_message_that_is_an_array_of_messages(indent: int | None) -> None:
    batch = [row | {"more": [{"deep": [1, "]"]}]} for row in GOOD]
    pipeline = new_pipeline(array_messages=True)
    outputs = pipeline.push([json.dumps(batch, indent=indent).encode()])
    assert rows_of(outputs) == GOOD
    assert pipeline.metrics().messages == len(GOOD)
    assert pipeline.metrics().unknown_fields == len(GOOD)
    # One that lacks its end: what came before stands, and the rest is one reject.
    cut = json.dumps(batch, indent=indent).encode()[:-20]
    outputs = new_pipeline(array_messages=True).push([cut])
    assert rows_of(outputs) == GOOD[:-1]
    ((position, reason, byte_offset, rest),) = rejects_of(outputs)
    assert (position, reason, byte_offset) == (0, "truncated_json", len(rest))
    assert cut.endswith(rest)
    assert rest.startswith(b"{")


def test_an_array_of_messages_may_be_a_line_or_a_value_of_an_arrow_array() -> None:
    text = json.dumps(GOOD[:2])
    pipeline = new_pipeline(array_messages=True)
    assert rows_of(pipeline.push(f"{text}\r\n{text}\n".encode())) == GOOD[:2] * 2
    assert rows_of(pipeline.push(pa.array([text, "[]", text]))) == GOOD[:2] * 2
    assert [each[1] for each in rejects_of(new_pipeline().push([text.encode()]))] == ["not_an_object"]


def test_a_null_of_an_arrow_array_is_no_message_but_has_a_position() -> None:
    pipeline = new_pipeline()
    outputs = pipeline.push(pa.array([MESSAGES[0], None, b"?"]))
    assert (rows_of(outputs), rejects_of(outputs)) == (GOOD[:1], [(2, "invalid_json", 0, b"?")])
    assert pipeline.metrics().messages == 2


def test_blank_lines_are_no_messages_but_have_numbers() -> None:
    pipeline = new_pipeline()
    outputs = pipeline.push(b"\n \t\r\n" + MESSAGES[0] + b"\n\n?\n")
    assert (rows_of(outputs), rejects_of(outputs)) == (GOOD[:1], [(5, "invalid_json", 0, b"?")])
    assert pipeline.metrics().messages == 2


def test_rows_of_the_schema_need_no_decoding() -> None:
    columns = {name: [row[name] for row in GOOD] for name in GOOD[0]}
    table = pa.table(columns | {"event_time": pa.array(columns["event_time"]).cast(pa.timestamp("s", "UTC"))})
    for rows in (table, table.to_batches()[0], pl.from_arrow(table), duckdb.from_arrow(table)):
        pipeline = new_pipeline()
        assert rows_of(pipeline.push(rows)) == GOOD
        assert pipeline.metrics().rejected_messages == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text", "cannot read a str; push bytes of NDJSON"),
        (5, "cannot read a int; push bytes of NDJSON"),
        (pa.array([1, 2]), "int64 holds neither messages"),
        (pa.table({"key": ["a"], "value": ["{}"]}), "the columns key, value, and none of the schema's"),
        (pa.table({"store": ["a"], "units": [1]}), "lack the required column 'id'"),
        (pa.table({"id": ["a"], "units": ["many"]}), "column 'units' is string and does not cast to int64"),
    ],
)
def test_what_is_no_input_is_refused_in_words(data: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        new_pipeline().push(data)


# ---- files, through the command ----

JOB = """
[source]
path = "FILE"
[schema]
path = "schema.toml"
[[sink]]
output = "rows"
type = "ndjson"
path = "rows.ndjson"
mode = "overwrite"
[dead_letter]
path = "rejects.ndjson"
mode = "overwrite"
"""

FILES: dict[str, Callable[[bytes], bytes]] = {
    "orders.ndjson": lambda text: text,
    "orders.ndjson.gz": lambda text: gzip.compress(text[:50]) + gzip.compress(text[50:]),
    "orders.ndjson.zst": lambda text: pa.compress(text, "zstd", asbytes=True),
}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("file", FILES)
def test_files_of_each_compression_and_line_end(tmp_path: Path, file: str) -> None:
    fields = "".join(
        "[[field]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in field.items())
        for field in SCHEMA["field"]
    )
    (tmp_path / "schema.toml").write_text(fields, encoding="utf-8")
    (tmp_path / "job.toml").write_text(JOB.replace("FILE", file), encoding="utf-8")
    text = b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n") + b'{"id":"e9","event_time":1009,"colour":"red"}'
    (tmp_path / file).write_bytes(FILES[file](text))
    command = [sys.executable, "-m", "omnistream", "run", str(tmp_path / "job.toml"), "--json"]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    rows = lines_of(tmp_path / "rows.ndjson")
    assert [row["units"] for row in rows] == [*(row["units"] for row in GOOD), None]
    assert [row["store"] for row in rows] == [*(row["store"] for row in GOOD), None]
    (reject,) = lines_of(tmp_path / "rejects.ndjson")
    assert (reject["position"], reject["text"]) == (BROKEN + 1, MESSAGES[BROKEN].decode())
    metrics = json.loads(ran.stdout)
    assert (metrics["messages"], metrics["unknown_fields"]) == (len(MESSAGES) + 1, 1)
    # The field that nobody reads is named, whatever packs the sample.
    named = diff_schema(Schema.from_toml(tmp_path / "schema.toml"), tmp_path / file)
    assert [each.path for each in named.unread] == ["colour"]
