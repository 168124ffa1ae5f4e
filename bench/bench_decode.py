"""decode: NDJSON to columns, flat and nested, and one Kafka message per value."""

from __future__ import annotations

import pyarrow as pa
import pytest
from conftest import BLOCK_BYTES, EVENTS, Measure
from pipeline import stream

from omnistream.decode import Decode
from omnistream.encode import Encode
from omnistream.generate import GenerateSpec, generate_blocks
from omnistream.schema import BUILTIN


@pytest.mark.parametrize("form", ["lines", "messages"])
@pytest.mark.parametrize("name", ["order_flat", "order"])
def bench_decode(measure: Measure, name: str, form: str) -> None:
    spec = GenerateSpec(**stream(EVENTS), nested=name == "order")
    blocks = list(generate_blocks(spec, BLOCK_BYTES))
    pieces = blocks if form == "lines" else [pa.array(block.splitlines(), pa.binary()) for block in blocks]
    decode = Decode(BUILTIN[name], Encode(BUILTIN[name]).dictionaries)

    def work() -> None:
        for piece in pieces:
            assert all(batch.rows for batch, _ in decode.run(piece, "bench", 0, 0))

    work()
    assert (decode.counts["decoded"], decode.counts["rejected"]) == (EVENTS, 0)
    assert decode.counts["rows"] >= EVENTS
    measure(work, EVENTS)
