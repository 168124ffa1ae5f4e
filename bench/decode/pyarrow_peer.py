"""pyarrow.json with the types given, and what it does not know ignored."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.json
from answers import Digest, explode
from shape import Tree, tree_of
from workloads import Workload

from omnistream.schema import Field

BLOCK_BYTES = 8 << 20
TYPES = {"int64": pa.int64(), "decimal": pa.float64(), "timestamp": pa.timestamp("ms", "UTC")}


class Peer:
    version = pa.__version__

    def __init__(self, workload: Workload, path: Path) -> None:
        self._workload = workload
        self._path = path
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        columns = pa.schema([(key, _type(branch)) for key, branch in tree_of(workload.schema).items()])
        self._read = pa.json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
        self._parse = pa.json.ParseOptions(
            explicit_schema=columns,
            unexpected_field_behavior="ignore",
            newlines_in_values=workload.framing != "lines",
        )

    def run(self) -> pa.Table:
        return pa.json.read_json(self._path, read_options=self._read, parse_options=self._parse)

    def answer(self, digest: Digest) -> None:
        digest.add(explode(self.run(), self._workload.schema))


def load(workload: Workload, path: Path) -> Peer | None:
    coerces = any(field.coerce for field in workload.schema.fields)
    return None if coerces or workload.name.endswith("dictionary") else Peer(workload, path)


def _type(branch: Tree) -> pa.DataType:
    if isinstance(branch, Field):
        return TYPES.get(branch.type, pa.string())
    if isinstance(branch, list):
        return pa.list_(_type(branch[0]))
    return pa.struct([(key, _type(each)) for key, each in branch.items()])
