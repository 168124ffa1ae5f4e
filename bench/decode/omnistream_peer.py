"""omnistream: blocks of whole lines to Arrow record batches, one decoder for the life of the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pyarrow as pa
from answers import Digest
from workloads import Workload

from omnistream import NdjsonDecoder, _core
from omnistream.schema import Schema
from omnistream.spec import SourceSpec

BLOCK_BYTES = SourceSpec(type="file").batch_bytes  # as a job reads them

Use = Callable[[pa.RecordBatch], None]


class Lines:
    """NDJSON in memory, decoded by one or more threads, each with a decoder and a share of the lines."""

    def __init__(self, schema: Schema, data: bytes, threads: int) -> None:
        self.version = _version()
        self._work = [(NdjsonDecoder(schema), share) for share in _shares(data, threads)]
        cores = iter(sorted(os.sched_getaffinity(0)))
        self._threads = ThreadPoolExecutor(
            threads, initializer=lambda: os.sched_setaffinity(0, {next(cores)})
        )

    def run(self) -> None:
        if len(self._work) == 1:
            _decode_lines(*self._work[0], use=_drop)
        else:
            list(self._threads.map(lambda work: _decode_lines(*work, use=_drop), self._work))

    def answer(self, digest: Digest) -> None:
        for work in self._work:
            _decode_lines(*work, use=lambda batch: digest.add(pa.table(batch)))


class Documents:
    """Messages that are not lines, as an Arrow array over the bytes of the file."""

    def __init__(self, schema: Schema, data: bytes) -> None:
        self.version = _version()
        self._decoder = _decoder(schema)
        ends = [0, *_document_ends(data)]
        offsets = pa.array(ends, pa.int64()).buffers()[1]
        messages = pa.Array.from_buffers(
            pa.large_binary(), len(ends) - 1, [None, offsets, pa.py_buffer(data)]
        )
        step = max(1, BLOCK_BYTES * len(messages) // len(data))
        self._pieces = [messages[first : first + step] for first in range(0, len(messages), step)]

    def run(self) -> None:
        self._decode(_drop)

    def answer(self, digest: Digest) -> None:
        self._decode(lambda batch: digest.add(pa.table(batch)))

    def _decode(self, use: Use) -> None:
        for piece in self._pieces:
            batch, _, counts = self._decoder.decode_messages(piece)
            assert counts["rejected"] == 0
            use(pa.record_batch(batch))


def load(workload: Workload, path: Path, variant: str = "1") -> Lines | Documents:
    data = path.read_bytes()
    if workload.framing == "documents":
        return Documents(workload.schema, data)
    return Lines(workload.schema, data, int(variant))


def _version() -> str:
    try:
        number = metadata.version("omnistream")
    except metadata.PackageNotFoundError:
        number = "working tree"
    return f"{number} ({_core.decode_isa()})"


def _decoder(schema: Schema) -> _core.Decoder:
    dictionaries = {field.name: _core.Dictionary() for field in schema.fields if field.type == "dictionary"}
    return _core.Decoder(schema.to_core(), dictionaries)


def _decode_lines(decoder: NdjsonDecoder, lines: memoryview, use: Use) -> None:
    stream = decoder.stream(lines)
    for batch in pa.RecordBatchReader.from_stream(stream):
        use(batch)
        del batch  # so that the next one can have its memory
    assert stream.counts["rejected"] == 0


def _drop(batch: pa.RecordBatch) -> None:
    """Streams hand each batch on and forget it."""


def _shares(data: bytes, count: int) -> Iterator[memoryview]:
    """Whole lines, as many bytes for each as can be."""
    begin = 0
    for share in range(1, count + 1):
        end = len(data) if share == count else data.index(b"\n", share * len(data) // count) + 1
        yield memoryview(data)[begin:end]
        begin = end


def _document_ends(data: bytes) -> Iterator[int]:
    end = 0
    while end < len(data):
        end = data.index(b"\n}\n", end) + 3
        yield end
