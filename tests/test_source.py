import gzip
import io
import logging
import os
import subprocess
import sys
import tempfile
import threading
from ast import literal_eval
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omnistream.errors import SourceError
from omnistream.source import MAX_LINE_BYTES, Position, formats, open_source

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Spec:
    type: str = "file"
    path: tuple[str, ...] = ()
    format: str = "ndjson"
    compression: str = "auto"
    batch_bytes: int = 4 << 20


def file_spec(*paths, **rest):
    return Spec(path=tuple(map(str, paths)), **rest)


def lines_of(blocks):
    """Every line with its number, cut as the decoder cuts them."""
    found = []
    for block in blocks:
        lines = bytes(block.data).split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        found += [(block.partition, block.first_position + index, line) for index, line in enumerate(lines)]
    return found


def numbered_lines(text, partition=0):
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [(partition, number, line) for number, line in enumerate(lines, 1)]


def pack(text, compression):
    return gzip.compress(text) if compression == "gzip" else pa.compress(text, "zstd", asbytes=True)


def run_on_stdin(command, **stdin):
    return subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, **stdin).stdout


# --- lines ----------------------------------------------------------------------------------------

PIECES = [b"\n", b"\r\n", b"a", b"bc" * 9, b"\0", b"\xff"]
texts = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


@settings(derandomize=True, deadline=None)
@given(texts, st.integers(1, 60))
@example(b"", 1)
@example(b"no newline", 3)
@example(b"\n\n\n", 1)
@example(b"abc\ndef\n", 4)
def test_lines_do_not_depend_on_the_size_of_blocks(text, batch_bytes):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.ndjson"
        file.write_bytes(text)
        blocks = list(open_source(file_spec(file, batch_bytes=batch_bytes)))
    assert b"".join(block.data for block in blocks) == text
    assert lines_of(blocks) == numbered_lines(text)
    assert all(bytes(block.data).endswith(b"\n") for block in blocks[:-1])
    assert all(block.bytes_total == len(text) for block in blocks)
    if blocks:
        assert blocks[-1].bytes_read == len(text)
        assert blocks[-1].next == Position(len(numbered_lines(text)) + 1, len(text))


@settings(derandomize=True, deadline=None)
@given(texts, st.integers(1, 30), st.integers(0, 9), st.sampled_from(["", ".gz", ".zst"]))
def test_reading_goes_on_where_a_checkpoint_was_taken(text, batch_bytes, stop, suffix):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"a.ndjson{suffix}"
        file.write_bytes(pack(text, formats.CODECS[suffix]) if suffix else text)
        spec = file_spec(file, batch_bytes=batch_bytes)
        blocks = list(open_source(spec))[:stop]
        position = blocks[-1].next if blocks else Position()
        rest = list(open_source(replace(spec, batch_bytes=7), {str(file): position}))
    assert lines_of(blocks) + lines_of(rest) == numbered_lines(text)


def test_a_block_stays_as_it_is_while_someone_holds_it(tmp_path):
    file = tmp_path / "a.ndjson"
    text = b"".join(b"%07d\n" % number for number in range(4000))
    file.write_bytes(text)
    held = [block.data for block in open_source(file_spec(file, batch_bytes=100))]
    assert b"".join(held) == text
    # As views of other libraries, whose blocks are gone.
    held = [pa.py_buffer(block.data) for block in open_source(file_spec(file, batch_bytes=100))]
    assert b"".join(held) == text


def test_buffers_that_nobody_holds_are_used_again(tmp_path):
    file = tmp_path / "a.ndjson"
    file.write_bytes(b"%07d\n" % 5 * 4000)
    places = {pa.py_buffer(block.data).address for block in open_source(file_spec(file, batch_bytes=80))}
    assert len(places) <= formats.POOL_BUFFERS


def test_a_block_cannot_be_written(tmp_path):
    (tmp_path / "a").write_bytes(b"x\n")
    (block,) = open_source(file_spec(tmp_path / "a"))
    with pytest.raises(TypeError, match="read-only"):
        block.data[0] = 1


# --- lines that are too long ----------------------------------------------------------------------


@pytest.mark.parametrize("batch_bytes", [1, 7, 64])
@pytest.mark.parametrize("excess", [-1, 0, 1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nafter\n\nlast"])
def test_a_line_over_the_limit_is_cut(tmp_path, monkeypatch, batch_bytes, excess, end):
    limit = 64
    monkeypatch.setattr(formats, "MAX_LINE_BYTES", limit)
    long = bytes(range(100, 200)) * 20
    long = long[: limit + excess]
    file = tmp_path / "a.ndjson"
    file.write_bytes(b"before\n" + long + end)
    spec = file_spec(file, batch_bytes=batch_bytes)
    blocks = list(open_source(spec))
    rest = numbered_lines(b"before\nx" + end)[2:]
    assert lines_of(blocks) == [(0, 1, b"before"), (0, 2, long[:limit]), *rest]
    assert sum(block.skipped_bytes for block in blocks) == max(excess, 0)
    for index, block in enumerate(blocks):
        again = list(open_source(spec, {str(file): block.next}))
        assert lines_of(blocks[: index + 1]) + lines_of(again) == lines_of(blocks)


def test_the_real_limit(tmp_path, caplog):
    file = tmp_path / "a.ndjson"
    with file.open("wb") as opened:
        opened.write(b"before\n")
        opened.write(bytes(MAX_LINE_BYTES))
        opened.write(b"\n")
        opened.write(bytes(MAX_LINE_BYTES + 12345))
        opened.write(b"\nafter\n")
    with caplog.at_level(logging.WARNING):
        blocks = [
            (block.first_position, len(block.data), block.skipped_bytes)
            for block in open_source(file_spec(file))
        ]
    assert blocks == [(1, 7, 0), (2, MAX_LINE_BYTES + 1, 0), (3, MAX_LINE_BYTES, 12345), (4, 6, 0)]
    assert caplog.messages == [f"{file}:3: line cut, its last 12345 bytes are skipped"]


def test_memory_is_bounded_whatever_a_line_holds(tmp_path):
    # 1 GiB without a newline, in a process that may have much less than that.
    code = """
import resource, sys
from types import SimpleNamespace as Spec
from omnistream.source import open_source
before = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = before + (320 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
spec = Spec(type="file", path=[sys.argv[1]], format="ndjson", compression="auto", batch_bytes=4 << 20)
print([(len(block.data), block.skipped_bytes) for block in open_source(spec)])
"""
    file = tmp_path / "a.ndjson"
    with file.open("wb") as opened:
        opened.truncate(1 << 30)
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str([(MAX_LINE_BYTES, (1 << 30) - MAX_LINE_BYTES)])


# --- files ----------------------------------------------------------------------------------------


def test_files_are_partitions_in_the_order_of_their_names(tmp_path):
    texts = {
        "b/2.ndjson": b"b2",
        "b/10.ndjson": b"b10\n",
        "a/1.ndjson": b"a1\n\n",
        "a/empty.ndjson": b"",
        "z.ndjson": b"z\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    blocks = list(open_source(file_spec(tmp_path / "z.ndjson", tmp_path / "**/*.ndjson")))
    order = ["z.ndjson", "a/1.ndjson", "a/empty.ndjson", "b/10.ndjson", "b/2.ndjson"]
    expected = [line for index, name in enumerate(order) for line in numbered_lines(texts[name], index)]
    assert lines_of(blocks) == expected
    assert [block.source for block in blocks] == [str(tmp_path / order[index]) for index in (0, 1, 3, 4)]
    assert [block.bytes_read for block in blocks] == [2, 6, 10, 12]
    assert {block.bytes_total for block in blocks} == {12}


def test_a_literal_name_wins_over_a_pattern(tmp_path):
    (tmp_path / "a[1].ndjson").write_bytes(b"brackets\n")
    (tmp_path / "a1.ndjson").write_bytes(b"plain\n")
    assert lines_of(open_source(file_spec(tmp_path / "a[1].ndjson"))) == [(0, 1, b"brackets")]


def test_positions_are_by_file(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(f"{name}1\n{name}2\n".encode())
    positions = {str(tmp_path / "a"): Position(3, 6), str(tmp_path / "b"): Position(2, 3)}
    assert lines_of(open_source(file_spec(tmp_path / "*"), positions)) == [
        (1, 2, b"b2"),
        (2, 1, b"c1"),
        (2, 2, b"c2"),
    ]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("members", [1, 3])
def test_compressed_files(tmp_path, compression, members):
    text = b"".join(b'{"number":%d}\n' % number for number in range(20_000))
    suffix = {"gzip": ".gz", "zstd": ".zst"}[compression]
    packed = pack(text, compression)
    (tmp_path / f"a.ndjson{suffix}").write_bytes(packed * members)
    (tmp_path / "a.ndjson").write_bytes(packed * members)
    named = list(open_source(file_spec(tmp_path / f"a.ndjson{suffix}", batch_bytes=1 << 16)))
    told = list(open_source(file_spec(tmp_path / "a.ndjson", compression=compression, batch_bytes=1 << 16)))
    assert lines_of(named) == lines_of(told) == numbered_lines(text * members)
    assert named[-1].bytes_read == named[-1].bytes_total == len(packed) * members
    as_it_is = open_source(file_spec(tmp_path / f"a.ndjson{suffix}", compression="none"))
    assert b"".join(block.data for block in as_it_is) == packed * members


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_torn_compressed_file_gives_its_lines_and_then_an_error(tmp_path, suffix):
    text = b"".join(os.urandom(20).hex().encode() + b"\n" for _ in range(20_000))
    packed = pack(text, formats.CODECS[suffix])
    file = tmp_path / f"a.ndjson{suffix}"
    file.write_bytes(packed[: len(packed) * 3 // 4])
    blocks = []
    with pytest.raises(SourceError, match=f"{file}: Truncated .*check that it is whole"):
        blocks.extend(open_source(file_spec(file, batch_bytes=1 << 12)))
    found = lines_of(blocks)
    assert found == numbered_lines(text)[: len(found)]
    assert len(found) > 5_000


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (file_spec(), r"source\.path is empty"),
        (file_spec("{tmp}/missing.ndjson"), r"missing\.ndjson: no such file: check source\.path"),
        (file_spec("{tmp}/a.ndjson", "{tmp}/*.json"), r"\*\.json: no such file"),
        (file_spec("{tmp}"), r"is a folder: name its files in source\.path, such as .*/\*\.ndjson"),
        (
            file_spec("{tmp}/a.ndjson", type="kafak"),
            "'kafak' is unknown: use one of file, stdin",
        ),
        (file_spec("{tmp}/a.ndjson", format="csv"), "use one of ndjson, arrow, parquet"),
        (file_spec("{tmp}/a.ndjson", compression="lz4"), "use auto, none, gzip or zstd"),
        (
            file_spec("{tmp}/a.ndjson", compression="gzip", format="parquet"),
            "compresses its own pages",
        ),
        (file_spec("{tmp}/a.ndjson", batch_bytes=0), "batch_bytes = 0 is out of range"),
        (file_spec("{tmp}/a.ndjson", batch_bytes=MAX_LINE_BYTES + 1), "is out of range: use 1 to 67108864"),
        (Spec("stdin", format="parquet"), "stdin cannot: name a file"),
    ],
)
def test_mistakes_are_named_before_anything_is_read(tmp_path, spec, message):
    (tmp_path / "a.ndjson").write_bytes(b"x\n")
    spec = replace(spec, path=tuple(path.replace("{tmp}", str(tmp_path)) for path in spec.path))
    with pytest.raises(SourceError, match=message):
        open_source(spec)


def test_stdin_cannot_go_back():
    with pytest.raises(SourceError, match="stdin cannot go back"):
        open_source(Spec("stdin"), {"stdin": Position(5, 100)})


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_shrank_since_the_checkpoint_is_refused(tmp_path, suffix):
    file = tmp_path / f"a.ndjson{suffix}"
    file.write_bytes(gzip.compress(b"one\n") if suffix else b"one\n")
    assert list(open_source(file_spec(file), {str(file): Position(2, 4)})) == []
    with pytest.raises(SourceError, match=f"{file}: is shorter than when the checkpoint was taken"):
        list(open_source(file_spec(file), {str(file): Position(3, 8)}))


@pytest.mark.parametrize("form", ["ndjson", "arrow", "parquet"])
def test_a_file_of_another_format_is_an_error_or_a_line(tmp_path, form):
    file = tmp_path / "a.ndjson"
    file.write_bytes(b"this is no order\n")
    if form == "ndjson":
        assert lines_of(open_source(file_spec(file))) == [(0, 1, b"this is no order")]
    else:
        with pytest.raises(SourceError, match=f"{file}: .*check that it is whole and that it is {form}"):
            list(open_source(file_spec(file, format=form)))


# --- pipes ----------------------------------------------------------------------------------------

PRINT_LINES = """
import sys
from types import SimpleNamespace as Spec
from omnistream.source import open_source
form, compression, batch_bytes = sys.argv[1:]
spec = Spec(type="stdin", path=[], format=form, compression=compression, batch_bytes=int(batch_bytes))
for block in open_source(spec):
    data = bytes(block.data) if form == "ndjson" else block.data.to_pylist()
    print((block.source, block.partition, block.first_position, data), flush=True)
"""


def stdin_command(form="ndjson", compression="auto", batch_bytes=4 << 20):
    return [sys.executable, "-c", PRINT_LINES, form, compression, str(batch_bytes)]


@pytest.mark.parametrize("as_file", [False, True])
def test_stdin_is_read_to_its_end(tmp_path, as_file):
    text = b"".join(b'{"number":%d}\n' % number for number in range(100_000))
    if as_file:
        (tmp_path / "a").write_bytes(text)
        with (tmp_path / "a").open("rb") as stdin:
            printed = run_on_stdin(stdin_command(), stdin=stdin)
    else:
        printed = run_on_stdin(stdin_command(), input=text)
    blocks = [literal_eval(line.decode()) for line in printed.splitlines()]
    assert b"".join(data for *_, data in blocks) == text
    position = 1
    for name, partition, first, data in blocks:
        assert (name, partition, first) == ("stdin", 0, position)
        position += data.count(b"\n")


def test_a_quiet_pipe_hands_over_what_it_has():
    with subprocess.Popen(
        stdin_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as reader:
        for position, text in enumerate([b"one\n", b"two\n", b"three\n"], 1):
            reader.stdin.write(text)
            reader.stdin.flush()
            assert literal_eval(reader.stdout.readline().decode()) == ("stdin", 0, position, text)
        reader.stdin.write(b"half ")
        reader.stdin.flush()
        reader.stdin.write(b"a line")
        reader.stdin.close()
        assert literal_eval(reader.stdout.readline().decode()) == ("stdin", 0, 4, b"half a line")
    assert reader.returncode == 0


def test_stdin_may_be_compressed_or_arrow():
    text = b"a\nb\n"
    printed = run_on_stdin(stdin_command(compression="gzip"), input=gzip.compress(text))
    assert literal_eval(printed.decode()) == ("stdin", 0, 1, text)
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, ROWS.schema) as writer:
        writer.write(ROWS)
    printed = run_on_stdin(stdin_command("arrow"), input=stream.getvalue())
    assert literal_eval(printed.decode()) == ("stdin", 0, 1, ROWS.to_pylist())


def test_a_named_pipe_is_a_file(tmp_path):
    pipe = tmp_path / "pipe.ndjson"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"one\ntwo\n",))
    writer.start()
    found = lines_of(open_source(file_spec(pipe)))
    writer.join()
    assert found == [(0, 1, b"one"), (0, 2, b"two")]


# --- rows -----------------------------------------------------------------------------------------

ROWS = pa.record_batch({"sku": ["a", None, "b"], "quantity": [1, 2, 3]})


def write_rows(path, kind, table, rows_per_batch):
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=rows_per_batch)
        return
    opened = pa.ipc.new_file if kind == "arrow file" else pa.ipc.new_stream
    with opened(path, table.schema) as writer:
        writer.write_table(table, rows_per_batch)


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_rows_have_numbers_and_can_be_resumed(tmp_path, kind):
    table = pa.table({"number": list(range(1, 1001)), "bytes": [b"%d" % n for n in range(1, 1001)]})
    write_rows(tmp_path / "a", kind, table, 300)
    write_rows(tmp_path / "b", kind, table.slice(0, 0), 300)
    write_rows(tmp_path / "c", kind, table.slice(0, 10), 300)
    spec = file_spec(tmp_path / "*", format=kind.split()[0])
    blocks = list(open_source(spec))
    numbers = []
    for block in blocks:
        assert isinstance(block.data, pa.RecordBatch)
        assert block.data["number"][0].as_py() == block.first_position
        assert block.next.line == block.first_position + block.data.num_rows
        numbers += block.data["number"].to_pylist()
    assert numbers == [*range(1, 1001), *range(1, 11)]
    assert [block.partition for block in blocks] == [0] * (len(blocks) - 1) + [2]
    read = [block.bytes_read for block in blocks]
    assert read == sorted(read)
    assert read[-1] <= blocks[-1].bytes_total == sum(file.stat().st_size for file in tmp_path.iterdir())

    for line in (1, 2, 300, 301, 555, 1000, 1001):
        rest = list(open_source(spec, {str(tmp_path / "a"): Position(line)}))
        assert rest[0].first_position == (line if line <= 1000 else 1)
        found = [number for block in rest for number in block.data["number"].to_pylist()]
        assert found == [*range(line, 1001), *range(1, 11)]
    with pytest.raises(SourceError, match="is shorter than when the checkpoint was taken"):
        list(open_source(spec, {str(tmp_path / "a"): Position(1002)}))


def test_a_torn_arrow_file_is_an_error(tmp_path):
    write_rows(tmp_path / "a", "arrow stream", pa.table({"number": list(range(1000))}), 100)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="check that it is whole and that it is arrow"):
        list(open_source(file_spec(tmp_path / "a", format="arrow")))


def test_a_compressed_arrow_stream(tmp_path):
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, ROWS.schema) as writer:
        writer.write(ROWS)
    (tmp_path / "a.arrow.gz").write_bytes(gzip.compress(stream.getvalue()))
    (block,) = open_source(file_spec(tmp_path / "a.arrow.gz", format="arrow"))
    assert block.data.equals(ROWS)
