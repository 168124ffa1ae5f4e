"""decode: Avro messages to columns, beside the same events as JSON and fastavro's reader."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from conftest import Measure

from omnistream import _core
from omnistream.avro import parse_avro_schema
from omnistream.schema import ORDER_FLAT
from tests.conformance.test_avro import encoded
from tests.test_message_formats import WRITER, json_message, orders

EVENTS, REPEATED = 20_000, 10


@pytest.mark.parametrize("engine", ["avro", "json", "fastavro"])
def bench_avro(measure: Measure, engine: str) -> None:
    events = orders(EVENTS)
    messages = [
        json_message(each) if engine == "json" else encoded(WRITER, each) for each in events
    ] * REPEATED
    core = ORDER_FLAT.to_core()
    dictionaries = {
        each["name"]: _core.Dictionary() for each in core["fields"] if each["type"] == "dictionary"
    }
    decoder: Any
    if engine == "avro":
        decoder = _core.AvroDecoder(core, dictionaries, parse_avro_schema(json.dumps(WRITER)), False)
    elif engine == "json":
        decoder = _core.Decoder(core, dictionaries)
    writer, column = fastavro.parse_schema(WRITER), pa.array(messages, pa.binary())

    def work() -> int:
        if engine == "fastavro":
            return sum("sku" in fastavro.schemaless_reader(io.BytesIO(each), writer) for each in messages)
        _, _, counts = decoder.decode_messages(column)
        return int(counts["decoded"])

    assert work() == len(messages)
    measure(work, len(messages))
