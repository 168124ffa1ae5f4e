import base64
import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream.errors import SinkError
from omnistream.rules import CHECKS
from omnistream.sink import REJECT_SCHEMA, SINKS, open_dead_letter, open_sink
from omnistream.sink.json_text import json_lines, reject_lines
from omnistream.sink.parquet import MAX_OPEN_FILES, ROW_GROUP_ROWS, ParquetSink

REPOSITORY = Path(__file__).parents[1]
UTC = dt.UTC


@dataclass(frozen=True)
class Spec:
    type: str
    path: str = ""
    partition_by: tuple[str, ...] = ()
    mode: str = "error"


SCHEMA = pa.schema(
    [
        ("window_start", pa.timestamp("ms", "UTC")),
        ("store_id", pa.dictionary(pa.int32(), pa.utf8())),
        ("units", pa.int64()),
        ("net_amount", pa.decimal128(19, 4)),
        ("mean", pa.float64()),
    ]
)
MARCH = dt.datetime(2024, 3, 1, 8, tzinfo=UTC)
ROWS = [
    {"window_start": MARCH, "store_id": "S1", "units": 3, "net_amount": Decimal("59.9700"), "mean": 0.1},
    {"window_start": MARCH, "store_id": "S2", "units": -1, "net_amount": Decimal("-0.0001"), "mean": None},
    {
        "window_start": MARCH + dt.timedelta(days=1),
        "store_id": None,
        "units": None,
        "net_amount": None,
        "mean": 1e300,
    },
]


def sales(rows=ROWS):
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def contents(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()
    }


def write_all(sink, *batches):
    for batch in batches:
        sink.write(batch)
    sink.close()
    return sink.paths


# --- JSON text ------------------------------------------------------------------------------------


def test_rows_as_json_lines():
    text = b"".join(json_lines(sales())).decode()
    assert text == (
        '{"window_start":"2024-03-01T08:00:00.000Z","store_id":"S1","units":3,"net_amount":59.9700,"mean":0.1}\n'
        '{"window_start":"2024-03-01T08:00:00.000Z","store_id":"S2","units":-1,"net_amount":-0.0001,"mean":null}\n'
        '{"window_start":"2024-03-02T08:00:00.000Z","store_id":null,"units":null,"net_amount":null,"mean":1e+300}\n'
    )


STRINGS = (
    st.none()
    | st.text()
    | st.text(st.characters(max_codepoint=0x7F, categories=None) | st.sampled_from('"\\é'))
)
JSON_COLUMNS = {
    "string": (pa.utf8(), STRINGS),
    "dictionary": (pa.dictionary(pa.int32(), pa.utf8()), STRINGS),
    "int32": (pa.int32(), st.none() | st.integers(-(2**31), 2**31 - 1)),
    "int64": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "decimal": (
        pa.decimal128(19, 4),
        st.none() | st.integers(-(2**63), 2**63 - 1).map(lambda lane: Decimal(lane).scaleb(-4)),
    ),
    "float64": (pa.float64(), st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    "bool": (pa.bool_(), st.none() | st.booleans()),
    "list": (pa.list_(pa.utf8()), st.none() | st.lists(STRINGS, max_size=4)),
    "vector": (
        pa.list_(pa.float64(), 2),
        st.none() | st.lists(st.none() | st.floats(-9, 9), min_size=2, max_size=2),
    ),
    "struct": (
        pa.struct({"a": pa.int64(), 'q"': pa.utf8()}),
        st.none() | st.fixed_dictionaries({"a": st.none() | st.integers(0, 9), 'q"': STRINGS}),
    ),
}


@pytest.mark.parametrize("kind", JSON_COLUMNS)
def test_any_value_is_what_a_json_parser_reads(kind):
    arrow_type, values = JSON_COLUMNS[kind]

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(st.lists(values, min_size=1, max_size=20), st.integers(0, 5))
    def check(column, start):
        batch = pa.record_batch({'the "name"': pa.array(column, arrow_type)}).slice(start)
        lines = b"".join(json_lines(batch)).decode().split("\n")
        assert lines.pop() == ""
        read = [json.loads(line, parse_float=Decimal if kind == "decimal" else float) for line in lines]
        assert [list(row) for row in read] == [['the "name"']] * batch.num_rows
        assert [row['the "name"'] for row in read] == column[start:]

    check()


def test_every_timestamp_is_iso_8601():
    times = [
        "0001-01-01T00:00:00.000",
        "1969-12-31T23:59:59.999",
        "1970-01-01T00:00:00.000",
        "9999-12-31T23:59:59.999",
    ]
    lanes = pa.array([dt.datetime.fromisoformat(time) for time in times], pa.timestamp("ms"))
    batch = pa.record_batch({"utc": lanes.cast(pa.timestamp("ms", "UTC")), "local": lanes})
    read = [json.loads(line) for line in b"".join(json_lines(batch)).splitlines()]
    assert read == [{"utc": f"{time}Z", "local": time} for time in times]
    shanghai = pa.record_batch({"at": pa.array([0], pa.timestamp("s", "Asia/Shanghai"))})
    assert b"".join(json_lines(shanghai)) == b'{"at":"1970-01-01T00:00:00Z"}\n'


def test_numbers_that_json_lacks_are_null():
    batch = pa.record_batch({"x": pa.array([float("nan"), float("inf"), -float("inf"), -0.0])})
    assert b"".join(json_lines(batch)) == b'{"x":null}\n{"x":null}\n{"x":null}\n{"x":-0}\n'


def test_more_rows_than_a_chunk_come_in_order():
    batch = pa.record_batch(
        {"x": pa.array(range(50_000)), "d": pa.array(["a", "b"] * 25_000).dictionary_encode()}
    )
    read = [json.loads(line) for line in b"".join(json_lines(batch)).splitlines()]
    assert read == batch.to_pylist()


def test_a_column_without_json_form_is_refused(tmp_path):
    for kind in (pa.binary(), pa.list_(pa.binary()), pa.struct({"a": pa.duration("ms")})):
        for sink in (Spec("ndjson", str(tmp_path / "x.ndjson")), Spec("stdout")):
            with pytest.raises(SinkError, match=r"column x of type .* has no JSON form: use"):
                open_sink(sink, pa.schema([("x", kind)]), "job")


# --- one file -------------------------------------------------------------------------------------


def read_file(kind, path):
    if kind == "ndjson":
        return [json.loads(line, parse_float=Decimal) for line in Path(path).read_bytes().splitlines()]
    return pa.ipc.open_stream(Path(path).read_bytes()).read_all().to_pylist()


@pytest.mark.parametrize("kind", ["ndjson", "arrow"])
def test_a_file_appears_when_it_is_whole(tmp_path, kind):
    path = tmp_path / "new" / f"sales.{kind}"
    sink = open_sink(Spec(kind, str(path)), SCHEMA, "job")
    sink.write(sales())
    sink.write(sales(ROWS[:0]))
    sink.write(sales(ROWS[1:]))
    assert not path.exists()
    assert sink.paths == []
    sink.close()
    assert sink.paths == [str(path)]
    assert list(path.parent.iterdir()) == [path]
    assert [row["units"] for row in read_file(kind, path)] == [3, -1, None, -1, None]


@pytest.mark.parametrize("kind", ["ndjson", "arrow", "parquet"])
def test_a_pipe_is_not_replaced_by_a_file(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SinkError, match=r"a pipe or device|is a file: a Parquet sink needs a folder"):
        write_all(open_sink(Spec(kind, str(tmp_path / "pipe"), mode="overwrite"), SCHEMA, "job"))
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("kind", ["ndjson", "arrow"])
def test_an_output_without_rows_is_a_file_without_rows(tmp_path, kind):
    path = tmp_path / f"sales.{kind}"
    assert write_all(open_sink(Spec(kind, str(path)), SCHEMA, "job")) == [str(path)]
    assert read_file(kind, path) == []


@pytest.mark.parametrize("kind", ["ndjson", "arrow"])
def test_what_follows_a_flush_is_a_numbered_file(tmp_path, kind):
    path = tmp_path / f"sales.v1.{kind}"
    sink = open_sink(Spec(kind, str(path)), SCHEMA, "job")
    sink.flush()
    assert sink.paths == []
    sink.write(sales())
    sink.flush()
    sink.flush()
    assert sink.paths == [str(path)]
    sink.write(sales(ROWS[:1]))
    sink.close()
    assert sink.paths == [str(path), str(tmp_path / f"sales.v1-00001.{kind}")]
    assert [len(read_file(kind, each)) for each in sink.paths] == [3, 1]


@pytest.mark.parametrize("kind", ["ndjson", "arrow"])
def test_modes_of_a_file(tmp_path, kind):
    spec = Spec(kind, str(tmp_path / f"sales.{kind}"))
    stranger = tmp_path / f"sales-eu.{kind}"
    stranger.write_text("another output")
    first = open_sink(spec, SCHEMA, "job")
    first.write(sales())
    first.flush()
    write_all(first, sales(ROWS[:1]))
    before = contents(tmp_path)

    with pytest.raises(SinkError, match=r"has output already, such as .*overwrite"):
        open_sink(spec, SCHEMA, "job")
    with pytest.raises(SinkError, match="mode 'maybe' is unknown"):
        open_sink(spec, SCHEMA, "job", "maybe")
    appended = write_all(open_sink(spec, SCHEMA, "job", "append"), sales(ROWS[:2]))
    assert appended == [str(tmp_path / f"sales-00002.{kind}")]
    assert {**contents(tmp_path), **before} == contents(tmp_path)

    replacing = open_sink(replace(spec, mode="overwrite"), SCHEMA, "job")
    replacing.write(sales(ROWS[2:]))
    assert len(contents(tmp_path)) == 5  # old ones stay until the new one is whole
    replacing.close()
    assert sorted(tmp_path.iterdir()) == [stranger, Path(spec.path)]
    assert len(read_file(kind, spec.path)) == 1


@pytest.mark.parametrize("kind", ["ndjson", "arrow"])
def test_abort_leaves_nothing_new(tmp_path, kind):
    spec = Spec(kind, str(tmp_path / f"sales.{kind}"))
    write_all(open_sink(spec, SCHEMA, "job"), sales())
    before = contents(tmp_path)
    sink = open_sink(spec, SCHEMA, "job", "overwrite")
    sink.write(sales(ROWS[:1]))
    sink.abort()
    assert contents(tmp_path) == before


def test_arrow_streams_carry_growing_dictionaries_as_deltas(tmp_path):
    path = tmp_path / "sales.arrow"
    values = [f"SKU-{number:05d}" for number in range(2000)]
    schema = pa.schema([("sku", pa.dictionary(pa.int32(), pa.utf8()))])
    batches = [
        pa.record_batch(
            [pa.DictionaryArray.from_arrays(pa.array([size - 1], pa.int32()), pa.array(values[:size]))],
            schema,
        )
        for size in range(100, 2001, 100)
    ]
    write_all(open_sink(Spec("arrow", str(path)), schema, "job"), *batches)
    assert [row["sku"] for row in read_file("arrow", path)] == values[99::100]
    assert path.stat().st_size < 3 * sum(map(len, values))  # 10 times as much without deltas


def test_stdout_gets_json_lines(capfdbinary):
    sink = open_sink(Spec("stdout"), SCHEMA, "job")
    assert write_all(sink, sales()) == []
    assert capfdbinary.readouterr().out == b"".join(json_lines(sales()))


def test_a_closed_stdout_is_a_sink_error():
    code = (
        "import sys, time, pyarrow as pa\n"
        "from types import SimpleNamespace as Spec\n"
        "from omnistream.errors import SinkError\n"
        "from omnistream.sink import open_sink\n"
        "batch = pa.record_batch({'x': pa.array(range(100_000))})\n"
        "sink = open_sink(Spec(type='stdout', path='', partition_by=(), mode='error'), batch.schema, 'job')\n"
        "try:\n"
        "    for _ in range(100):\n"
        "        sink.write(batch)\n"
        "except SinkError as error:\n"
        "    sys.stderr.write(str(error))\n"
        "    sys.stderr.flush()\n"
        "    import os; os._exit(3)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    )
    with process:
        assert process.stdout.readline() == b'{"x":0}\n'
        process.stdout.close()
        assert b"stdout: Broken pipe" in process.stderr.read()
    assert process.returncode == 3


# --- Parquet --------------------------------------------------------------------------------------


def test_a_dataset_without_partitions(tmp_path):
    paths = write_all(
        open_sink(Spec("parquet", str(tmp_path / "sales")), SCHEMA, "nightly"), sales(), sales()
    )
    assert paths == [str(tmp_path / "sales" / "part-00000.parquet")]
    table = pq.read_table(paths[0])
    assert table.to_pylist() == ROWS + ROWS
    assert table.schema.field("store_id").type == pa.utf8()
    assert table.schema.field("net_amount").type == pa.decimal128(19, 4)
    assert table.schema.metadata[b"omnistream.job"] == b"nightly"


def test_an_empty_dataset_has_a_schema(tmp_path):
    paths = write_all(open_sink(Spec("parquet", str(tmp_path)), SCHEMA, "job"))
    assert pq.read_table(paths[0]).schema.names == SCHEMA.names
    # Nothing to add is nothing to write.
    assert write_all(open_sink(Spec("parquet", str(tmp_path)), SCHEMA, "job", "append")) == []


def test_partitions_are_read_by_every_reader(tmp_path):
    awkward = ["S1", "a b", "x/y=z", "100%", "..", "", "größe", "007", None]
    rows = [{**ROWS[0], "store_id": store, "units": number} for number, store in enumerate(awkward)]
    spec = Spec("parquet", str(tmp_path / "sales"), ("window_start", "store_id"))
    paths = write_all(open_sink(spec, SCHEMA, "job"), sales(rows), sales(ROWS[2:]))
    assert len(paths) == 9  # the empty store and the missing one share a folder
    assert str(tmp_path / "sales/window_start_date=2024-03-01/store_id=S1/part-00000.parquet") in paths
    assert pq.read_schema(paths[0]).names == ["window_start", "units", "net_amount", "mean"]

    by_units = {number: store or None for number, store in enumerate(awkward)}
    table = ds.dataset(spec.path, partitioning="hive").to_table(filter=ds.field("units").is_valid())
    assert dict(zip(table["units"].to_pylist(), table["store_id"].to_pylist(), strict=True)) == by_units
    query = """
        select units, store_id, window_start_date::varchar
        from read_parquet(?, hive_partitioning = true) where units >= 0
    """
    rows = duckdb.execute(query, [f"{spec.path}/**/*.parquet"]).fetchall()
    assert {units: store for units, store, _ in rows} == by_units
    assert {date for _, _, date in rows} == {"2024-03-01"}
    frame = pl.scan_parquet(spec.path, hive_partitioning=True).filter(pl.col("units").is_not_null()).collect()
    assert dict(frame.select("units", "store_id").iter_rows()) == by_units


def test_files_do_not_depend_on_how_rows_were_batched(tmp_path):
    rows = [{**ROWS[n % 2], "units": n, "store_id": f"S{n % 7 // 3}"} for n in range(1000)]
    spec = [Spec("parquet", str(tmp_path / name), ("store_id",)) for name in ("one", "many")]
    write_all(open_sink(spec[0], SCHEMA, "job"), sales(rows))
    sizes = [0, 1, 500, 7, 492]
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    write_all(
        open_sink(spec[1], SCHEMA, "job"),
        *[sales(rows[end - size : end]) for size, end in zip(sizes, ends, strict=True)],
    )
    assert len(contents(spec[0].path)) == 3
    assert contents(spec[0].path) == contents(spec[1].path)


@pytest.mark.parametrize("limit", [{"rotate_rows": ROW_GROUP_ROWS}, {"rotate_bytes": 1}])
def test_files_rotate(tmp_path, limit):
    schema = pa.schema([("x", pa.int64())])
    sink = ParquetSink(str(tmp_path), schema, "error", **limit)
    total = 2 * ROW_GROUP_ROWS + 5
    for start in range(0, total, 50_000):
        sink.write(pa.record_batch({"x": pa.array(range(start, min(start + 50_000, total)))}))
    assert [Path(path).name for path in sink.paths] == ["part-00000.parquet", "part-00001.parquet"]
    sink.close()
    tables = [pq.read_table(path) for path in sink.paths]
    assert [table.num_rows for table in tables] == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5]
    assert pa.concat_tables(tables)["x"].to_pylist() == list(range(total))


def test_more_folders_than_open_files(tmp_path):
    stores = [f"S{number:04d}" for number in range(2 * MAX_OPEN_FILES + 3)]
    rows = [{**ROWS[0], "store_id": store, "units": number} for number, store in enumerate(stores)]
    sink = open_sink(Spec("parquet", str(tmp_path), ("store_id",)), SCHEMA, "job")
    for _ in range(2):
        sink.write(sales(rows))
        sink.flush()
    sink.close()
    assert len(sink.paths) == 2 * len(stores)
    assert ds.dataset(tmp_path, partitioning="hive").to_table()["units"].to_pylist() == sorted(
        2 * list(range(len(stores)))
    )


def test_modes_of_a_dataset(tmp_path):
    spec = Spec("parquet", str(tmp_path / "sales"), ("store_id",))
    folder = Path(spec.path)
    write_all(open_sink(spec, SCHEMA, "job"), sales(), sales())
    (folder / "README.txt").write_text("the operator's")
    before = contents(folder)
    with pytest.raises(SinkError, match="has output already"):
        open_sink(spec, SCHEMA, "job")

    write_all(open_sink(spec, SCHEMA, "job", "append"), sales(ROWS[:1]))
    assert set(contents(folder)) - set(before) == {"store_id=S1/part-00001.parquet"}

    sink = open_sink(spec, SCHEMA, "job", "overwrite")
    sink.write(sales(ROWS[1:2]))
    assert {**contents(folder), **before} == contents(folder)
    sink.close()
    assert set(contents(folder)) == {"README.txt", "store_id=S2/part-00000.parquet"}
    assert not (folder / "store_id=S1").exists()

    write_all(open_sink(spec, SCHEMA, "job", "overwrite"))
    assert set(contents(folder)) == {"README.txt"}
    with pytest.raises(SinkError, match=r"such as README\.txt"):
        open_sink(spec, SCHEMA, "job")


def test_abort_of_a_dataset_keeps_what_is_visible(tmp_path):
    sink = ParquetSink(str(tmp_path), pa.schema([("x", pa.int64())]), "error", rotate_rows=ROW_GROUP_ROWS)
    sink.write(pa.record_batch({"x": pa.array(range(ROW_GROUP_ROWS + 1))}))
    before = contents(tmp_path)
    assert list(before) == ["part-00000.parquet"]
    sink.write(pa.record_batch({"x": pa.array(range(ROW_GROUP_ROWS - 2))}))
    sink.abort()
    assert contents(tmp_path) == before


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Spec("kafak", "x"), r"sink\.type = 'kafak' is unknown: use one of parquet, ndjson, arrow, stdout"),
        (Spec("ndjson", "{tmp}/x.ndjson", ("store_id",)), "partition_by is for Parquet only"),
        (Spec("ndjson", "{tmp}"), "is a folder: name a file in it"),
        (Spec("arrow", "{tmp}/file/x.arrow"), "check the path"),
        (Spec("parquet", "{tmp}/file"), "is a file: a Parquet sink needs a folder"),
        (Spec("parquet", "{tmp}/d", ("stor",)), "no column 'stor': use one of window_start, store_id, units"),
        (Spec("parquet", "{tmp}/d", ("mean",)), "mean is double: use strings"),
        (Spec("parquet", "{tmp}/d", ("net_amount",)), "net_amount is decimal"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, spec, message):
    (tmp_path / "file").touch()
    spec = Spec(spec.type, spec.path.replace("{tmp}", str(tmp_path)), spec.partition_by)
    with pytest.raises(SinkError, match=message):
        open_sink(spec, SCHEMA, "job")
    assert list(contents(tmp_path)) == ["file"]


def test_every_kind_of_sink_refuses_another_schema(tmp_path):
    other = pa.record_batch({"units": pa.array([1], pa.int32())})
    for kind in SINKS:
        sink = open_sink(Spec(kind, str(tmp_path / kind)), pa.schema([("units", pa.int64())]), "job")
        with pytest.raises(SinkError, match="does not fit the sink: units int32 for units int64"):
            sink.write(other)
        with pytest.raises(SinkError, match="0 columns for 1"):
            sink.write(other.select([]))


def test_columns_that_cannot_name_folders(tmp_path):
    only = pa.schema([("store_id", pa.utf8())])
    with pytest.raises(SinkError, match="names every column"):
        open_sink(Spec("parquet", str(tmp_path), ("store_id",)), only, "job")
    both = pa.schema([("at", pa.timestamp("ms")), ("at_date", pa.date32())])
    with pytest.raises(SinkError, match="names its folders at_date"):
        open_sink(Spec("parquet", str(tmp_path), ("at",)), both, "job")


# --- rejects --------------------------------------------------------------------------------------


def rejects(messages):
    return pa.RecordBatch.from_pylist(
        [
            {
                "source": "a.ndjson", "partition": 0, "position": number + 1, "line": None if number else 2,
                "stage": "decode", "reason": "wrong_type", "field": "qty" if number else None,
                "byte_offset": number, "size_bytes": len(message), "bytes": message,
                "key": None if number % 3 == 1 else message[::-1],
            }
            for number, message in enumerate(messages)
        ],
        REJECT_SCHEMA,
    )  # fmt: skip


def message_of(record, text="text", packed="base64"):
    return record[text].encode() if text in record else base64.b64decode(record[packed], validate=True)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.binary() | st.text().map(str.encode), max_size=8))
def test_reject_lines_lose_nothing(messages):
    batch = rejects(messages)
    lines = b"".join(reject_lines(batch)).decode().split("\n")
    assert lines.pop() == ""
    for line, message, row in zip(lines, messages, batch.to_pylist(), strict=True):
        record = json.loads(line)
        assert message_of(record) == message
        key = row.pop("key")
        del row["bytes"]
        assert {name: record[name] for name in row} == row
        expected = {"text" if is_utf8(message) else "base64"}
        if key is not None:
            assert message_of(record, "key", "key_base64") == key
            expected.add("key" if is_utf8(key) else "key_base64")
        assert set(record) - set(row) == expected


def is_utf8(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("neighbour", [b"\xff", b"fine"])
def test_a_reject_line_does_not_depend_on_its_neighbours(neighbour):
    awkward = 'NUL \0 tab \t quote " back \\ é 😀 \x7f\u2028 \x1f'.encode()
    line = b"".join(reject_lines(rejects([awkward, neighbour]))).splitlines()[0]
    assert line == b"".join(reject_lines(rejects([awkward]))).rstrip(b"\n")
    assert message_of(json.loads(line)) == awkward


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_dead_letters(tmp_path, kind):
    messages = [b'{"a":1', b"\xff\x00", b""]
    sink = open_dead_letter(Spec(kind, str(tmp_path / "rejects")))
    (path,) = write_all(sink, rejects(messages))
    if kind == "ndjson":
        found = [message_of(json.loads(line)) for line in Path(path).read_bytes().splitlines()]
    else:
        table = pq.read_table(path)
        assert table.schema.equals(REJECT_SCHEMA)
        found = table["bytes"].to_pylist()
    assert found == messages
    with pytest.raises(SinkError, match="has output already"):
        open_dead_letter(Spec(kind, str(tmp_path / "rejects")))
    with pytest.raises(SinkError, match="unknown: use ndjson or parquet"):
        open_dead_letter(Spec("arrow", str(tmp_path / "rejects")))


def test_every_reason_is_explained():
    page = (REPOSITORY / "docs" / "rejects.md").read_text()
    header = (REPOSITORY / "cpp" / "include" / "omnistream" / "decode.hpp").read_text()
    decode = re.findall(r'"(\w+)"', header.split("kDecodeReasons[] = {")[1].split("}")[0])
    clean = [check.reason for check in CHECKS.values() if "{" not in check.reason]
    assert len(decode) == 17
    for reason in [*decode, *clean, "amount_overflow", "duplicate", "late"]:
        assert page.count(f"\n| `{reason}` |") == 1, reason
    for column in REJECT_SCHEMA.names:
        assert f"\n| `{column}` |" in page


# --- a crash --------------------------------------------------------------------------------------

WRITE_FOREVER = """
import sys
import pyarrow as pa
from types import SimpleNamespace as Spec
from omnistream.sink import open_sink
kind, path, partition = sys.argv[1:]
batch = pa.record_batch({"x": pa.array(range(200_000)), "store": pa.array(["a", "b"] * 100_000)})
spec = Spec(type=kind, path=path, partition_by=(partition,) if partition else (), mode="error")
sink = open_sink(spec, batch.schema, "job")
for number in range(1_000_000):
    sink.write(batch)
    if number % 3 == 2:
        sink.flush()
    print(number, flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "partition", "batches"),
    [("parquet", "", 4), ("parquet", "store", 7), ("ndjson", "", 5), ("arrow", "", 7), ("arrow", "", 1)],
)
def test_a_killed_job_leaves_whole_files_only(tmp_path, kind, partition, batches):
    path = tmp_path / f"sales.{kind}"
    command = [sys.executable, "-c", WRITE_FOREVER, kind, str(path), partition]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as job:
        for _ in range(batches):
            job.stdout.readline()
        job.send_signal(signal.SIGKILL)
        said = batches + len(job.stdout.read().split())
    files = [Path(root) / name for root, _, names in os.walk(tmp_path) for name in names]
    visible = sorted(file for file in files if not file.name.startswith("."))
    if kind == "parquet":
        rows = [pq.read_table(file, partitioning=None).num_rows for file in visible]
    else:
        rows = [len(read_file(kind, file)) for file in visible]
    # The last flush that was reported is there, and at most one more; every file holds whole batches.
    flushes = sum(rows) // 600_000
    assert set(rows) <= {300_000 if partition else 600_000}
    assert said // 3 <= flushes <= said // 3 + 1

    spec = Spec(kind, str(path), (partition,) if partition else ())
    schema = pa.schema([("x", pa.int64()), ("store", pa.utf8())])
    before = {file: file.read_bytes() for file in visible}
    new = write_all(open_sink(spec, schema, "job", "append"), pa.record_batch([[1], ["a"]], schema))
    files = {Path(root) / name for root, _, names in os.walk(tmp_path) for name in names}
    assert files == {*visible, *map(Path, new)}
    assert {file: file.read_bytes() for file in visible} == before


def test_a_job_that_was_killed_before_any_file_was_whole_can_start_again(tmp_path):
    schema = pa.schema([("x", pa.int64()), ("store", pa.utf8())])
    spec = Spec("parquet", str(tmp_path / "sales"), ("store",))
    begun = tmp_path / "sales" / "store=b" / ".part-00000.parquet.tmp"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"PAR1")
    (part,) = write_all(open_sink(spec, schema, "job"), pa.record_batch([[1], ["a"]], schema))
    assert [Path(part)] == [path for path in (tmp_path / "sales").rglob("*") if path.is_file()]
    assert not begun.exists()
    with pytest.raises(SinkError, match="has output already"):
        open_sink(spec, schema, "job")
