"""DuckDB: read_json with the types given, into an Arrow table. It has no dictionary that grows."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
from answers import Digest, explode
from shape import Tree, tree_of
from workloads import Workload

from omnistream.schema import Field

TYPES = {"int64": "BIGINT", "decimal": "DOUBLE", "timestamp": "TIMESTAMP"}


class Peer:
    version = duckdb.__version__

    def __init__(self, workload: Workload, path: Path) -> None:
        self._schema = workload.schema
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1; SET enable_progress_bar = false")
        columns = ", ".join(f"{key}: '{_type(branch)}'" for key, branch in tree_of(workload.schema).items())
        if workload.shape == "shopify":  # its times have an offset; the type that minds it is the slower one
            columns = columns.replace("TIMESTAMP", "TIMESTAMPTZ")
        framing = "newline_delimited" if workload.framing == "lines" else "unstructured"
        self._query = f"SELECT * FROM read_json('{path}', format = '{framing}', columns = {{{columns}}})"

    def run(self) -> pa.Table:
        return self._connection.sql(self._query).to_arrow_table()

    def answer(self, digest: Digest) -> None:
        digest.add(explode(self.run(), self._schema))


def load(workload: Workload, path: Path) -> Peer | None:
    return None if workload.name.endswith("dictionary") else Peer(workload, path)


def _type(branch: Tree) -> str:
    if isinstance(branch, Field):
        return TYPES.get(branch.type, "VARCHAR")
    if isinstance(branch, list):
        return _type(branch[0]) + "[]"
    return f"STRUCT({', '.join(f'{key} {_type(each)}' for key, each in branch.items())})"
