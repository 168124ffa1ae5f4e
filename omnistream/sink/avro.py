"""Results as Avro: one record a row, framed as the Confluent Schema Registry asks for."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa

from omnistream import _core
from omnistream.errors import SinkError
from omnistream.registry import Registry

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def avro_schema(schema: pa.Schema, name: str) -> str:
    """Return the Avro schema of rows, in JSON: every field is a union of null and its type.

    Raises
    ------
    SinkError
        For a column whose name or type Avro does not have.
    """
    fields = []
    for field in schema:
        if not NAME.fullmatch(field.name):
            raise SinkError(
                f"column {field.name!r} cannot be a name in Avro, which has letters, digits and _; rename it"
            )
        fields.append({"name": field.name, "type": ["null", _avro_type(field)], "default": None})
    record = {"type": "record", "name": re.sub(r"\W|^(?=\d)", "_", name, flags=re.ASCII)}
    return json.dumps({**record, "namespace": "omnistream", "fields": fields})


def _avro_type(field: pa.Field) -> Any:
    is_a, kind = pa.types, field.type
    if is_a.is_dictionary(kind):
        kind = kind.value_type
    plain = ((is_a.is_boolean, "boolean"), (is_a.is_int32, "int"), (is_a.is_int64, "long"))
    texts = ((is_a.is_float64, "double"), (is_a.is_string, "string"), (is_a.is_binary, "bytes"))
    for matches, name in (*plain, *texts):
        if matches(kind):
            return name
    if is_a.is_timestamp(kind) and kind.unit == "ms":
        return {"type": "long", "logicalType": "timestamp-millis"}
    if is_a.is_decimal(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    raise SinkError(f"column {field.name!r} is {field.type}, which the Avro sink does not write")


class AvroRows:
    """Encodes batches of one schema, which is registered as the value of a topic.

    Raises
    ------
    SinkError
        When the registry refuses the schema, or the schema has what Avro lacks.
    """

    def __init__(self, schema: pa.Schema, name: str, topic: str, registry: Registry) -> None:
        id_ = registry.register(f"{topic}-value", avro_schema(schema, name))
        self._frame = b"\0" + id_.to_bytes(4, "big")

    def __call__(self, rows: pa.RecordBatch) -> Any:
        """Return an Arrow array with a message for each row."""
        return pa.record_batch(_core.encode_avro(rows, self._frame)).column(0)
