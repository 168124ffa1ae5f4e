"""A file with broken lines runs to its end: good rows arrive, bad ones are kept with place, reason, bytes."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

REPOSITORY = Path(__file__).parents[2]
TEN_MB = 10_000_000
BOM = b"\xef\xbb\xbf"

JOB = """
[source]
path = "orders.*"
batch_bytes = "{batch_bytes}"
[schema]
{schema}
[[clean.rule]]
check = "positive_quantity"
[clean.duplicates]
[[window]]
name = "daily"
size = "1d"
measures = ["count", "units_sold"]
[[sink]]
output = "rows"
type = "ndjson"
path = "rows.ndjson"
[[sink]]
output = "daily"
type = "ndjson"
path = "daily.ndjson"
[dead_letter]
type = "{letters}"
path = "letters"
"""


def order(number: int | str, more: bytes = b"", quantity: bytes = b"2", price: bytes = b"59.90") -> bytes:
    return (
        b'{"event_id":"%s","event_type":"paid","event_time":"2026-11-11T08:00:00Z","sku":"BOOT-42",'
        b'"qty":%s,"unit_price":%s%s}'
    ) % (str(number).encode(), quantity, price, more)


WHOLE = order("x")
BAD: list[tuple[str, bytes]] = [
    ("truncated_json", WHOLE[:-1]),
    ("truncated_json", WHOLE[:30]),
    ("truncated_json", b"{"),
    ("truncated_json", WHOLE[:-1] + b',"note":"\\u00'),
    ("wrong_type", order("x", quantity=b'"two"')),
    ("wrong_type", order("x", quantity=b"{}")),
    ("wrong_type", order("x", price=b"true")),
    ("wrong_type", order("x", b',"event_id":7')),
    ("null_field", order("x", quantity=b"null")),
    ("missing_field", WHOLE.replace(b'"sku"', b'"sky"')),
    ("invalid_timestamp", WHOLE.replace(b"11-11", b"11-31")),
    ("out_of_range", order("x", price=b"1e400")),
    ("inexact_number", order("x", price=b"0.00001")),
    ("invalid_utf8", WHOLE.replace(b"BOOT", b"\xff\xfe")),
    ("invalid_utf8", WHOLE.replace(b"BOOT", b"\\ud800")),
    ("invalid_json", b"\xff\xfe" + WHOLE),
    ("invalid_json", BOM + WHOLE),
    ("message_too_large", order("x", b',"note":"%s"' % (b"n" * TEN_MB))),
    ("message_too_large", b"x" * TEN_MB),
    ("message_too_large", b"\0" * TEN_MB),
    ("invalid_json", WHOLE.replace(b"BOOT", b"BO\0T")),
    ("invalid_json", b"\0"),
    ("invalid_json", b"\0" * 4096),
    ("invalid_json", order("x", price=b"NaN")),
    ("invalid_json", b"event_id,event_type"),
    ("trailing_data", WHOLE + WHOLE),
    ("trailing_data", WHOLE + b"\0"),
    ("nesting_too_deep", order("x", b',"deep":%s%s' % (b"[" * 64, b"]" * 64))),
    ("nesting_too_deep", b"[" * 100_000),
    ("nesting_too_deep", b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    ("not_an_object", b"[%s]" % WHOLE),
    ("not_an_object", b'"order"'),
    ("not_an_object", b"null"),
    ("non_positive_quantity", order("x", quantity=b"0")),
]
# Odd, but legal: (the line, its event id, its quantity).
ODD = [
    (order("twice-a-key", b',"qty":3'), "twice-a-key", 3),
    (order("forgotten", b',"event_id":"last-wins"'), "last-wins", 2),
    (order("deep", b',"deep":%s%s' % (b"[" * 63, b"]" * 63)), "deep", 2),
    (order("dos") + b"\r", "dos", 2),
    (b" \t" + order("spaces") + b" \r", "spaces", 2),
    (order("nul\\u0000"), "nul\0", 2),
    (order("skipped", b',"note":"\xff"'), "skipped", 2),
]
BLANK = [b"", b"\r", b" \t ", b"   \r"]


def write_lines(last: bytes) -> tuple[bytes, list[tuple[int, str, bytes]], list[tuple[str, int]]]:
    """Return a file, its bad lines as (number, reason, bytes), and its good ones as (event id, quantity)."""
    lines, bad, good = [BOM + order("first")], [], [("first", 2)]
    for number, (reason, line) in enumerate(BAD):
        # Some bad lines end like DOS lines: the end is no part of the message.
        lines.append(line + b"\r" * (number % 2))
        bad.append((len(lines), reason, line))
        lines += [BLANK[number % len(BLANK)], order(number)]
        good.append((str(number), 2))
    for line, event_id, quantity in ODD:
        lines.append(line)
        good.append((event_id, quantity))
    lines.append(last)
    if last.startswith(b'{"event_id"') and last.endswith(b"}"):
        good.append(("last", 2))
    elif last.strip():
        bad.append((len(lines), "truncated_json", last))
    return b"\n".join(lines), bad, good


def run_command(job: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "omnistream", "run", "--json", str(job)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_letters(folder: Path, kind: str) -> list[dict[str, Any]]:
    if kind == "parquet":
        return pq.read_table(folder / "letters").to_pylist()
    letters = [json.loads(line) for line in (folder / "letters").read_bytes().splitlines()]
    for letter in letters:
        letter["bytes"] = b64decode(letter["base64"]) if "base64" in letter else letter["text"].encode()
    return letters


@pytest.mark.parametrize(
    ("letters", "batch_bytes", "packed", "last"),
    [
        ("ndjson", "4 MiB", False, order("last")),
        ("ndjson", "1 KiB", False, WHOLE[:50]),
        ("parquet", "4 MiB", False, b""),
        ("parquet", "100 KiB", True, order("last")),
    ],
)
def test_a_file_with_broken_lines(
    tmp_path: Path, letters: str, batch_bytes: str, packed: bool, last: bytes
) -> None:
    text, bad, good = write_lines(last)
    source = tmp_path / ("orders.ndjson.gz" if packed else "orders.ndjson")
    source.write_bytes(gzip.compress(text, 1) if packed else text)
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(schema='use = "order_flat"', letters=letters, batch_bytes=batch_bytes))
    result = run_command(job)

    rows = [json.loads(line) for line in (tmp_path / "rows.ndjson").read_text().splitlines()]
    assert [(row["event_id"], row["quantity"]) for row in rows] == good
    daily = json.loads((tmp_path / "daily.ndjson").read_text())
    assert (daily["count"], daily["units_sold"]) == (len(good), sum(quantity for _, quantity in good))

    kept = sorted(read_letters(tmp_path, letters), key=lambda letter: letter["position"])
    assert [(letter["position"], letter["reason"]) for letter in kept] == [each[:2] for each in bad]
    for letter, (_, reason, line) in zip(kept, bad, strict=True):
        assert letter["bytes"] == line
        assert letter["size_bytes"] == len(line)
        assert (letter["source"], letter["partition"]) == (str(source), 0)
        assert letter["stage"] == ("clean" if reason == "non_positive_quantity" else "decode")

    assert result["rejects"] == Counter(reason for _, reason, _ in bad)
    assert result["messages"] == len(good) + len(bad)
    assert result["messages"] == result["decoded"] + result["rejected_messages"]
    assert result["rows"] == result["decoded"] == len(good) + 1
    assert (result["aggregated"], result["rejected_rows"]) == (len(good), 1)
    assert (result["duplicates"], result["late"]) == (0, 0)


def test_a_long_line_is_read_where_the_schema_allows_it(tmp_path: Path) -> None:
    long = order("long", b',"note":"%s"' % (b"n" * TEN_MB))
    lines = [order(1), long, order(2), b"x" * TEN_MB, long[:-2], order(3)]
    (tmp_path / "orders.ndjson").write_bytes(b"\n".join(lines))
    schema = allow_long_messages()
    (tmp_path / "job.toml").write_text(JOB.format(schema=schema, letters="parquet", batch_bytes="1 MiB"))
    result = run_command(tmp_path / "job.toml")
    rows = [json.loads(line)["event_id"] for line in (tmp_path / "rows.ndjson").read_text().splitlines()]
    assert rows == ["1", "long", "2", "3"]
    kept = read_letters(tmp_path, "parquet")
    places = [(letter["position"], letter["reason"], letter["byte_offset"]) for letter in kept]
    assert places == [(4, "invalid_json", 0), (5, "truncated_json", len(long) - 2)]
    assert [letter["bytes"] for letter in kept] == lines[3:5]
    assert result["rejects"] == {"invalid_json": 1, "truncated_json": 1}


def allow_long_messages() -> str:
    fields = [
        ("event_id", "string", "event_id"),
        ("event_type", "dictionary", "event_type"),
        ("event_time", "timestamp", "event_time"),
        ("quantity", "int64", "qty"),
    ]
    tables = [
        f'[[schema.field]]\nname = "{name}"\ntype = "{kind}"\npath = "{path}"\nrequired = true'
        for name, kind, path in fields
    ]
    return "\n".join([f"max_message_bytes = {2 * TEN_MB}", *tables])
