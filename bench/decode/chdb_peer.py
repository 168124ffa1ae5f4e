"""chDB (ClickHouse in the process): JSONEachRow into a Memory table.

Categories are LowCardinality where dictionaries are the work. Only the workload that has nulls has nullable
columns, as they cost it time.
"""

from __future__ import annotations

import re
from pathlib import Path

import chdb
import pyarrow as pa
from answers import Digest, explode
from chdb.session import Session
from shape import Tree, tree_of
from workloads import Workload

from omnistream.schema import Field

TYPES = {
    "int64": "Int64",
    "decimal": "Float64",
    "timestamp": "DateTime64(3, 'UTC')",
    "dictionary": "LowCardinality(String)",
    "string": "String",
}
SETTINGS = (
    "max_threads = 1, max_insert_threads = 1, max_parsing_threads = 1, input_format_parallel_parsing = 0, "
    "date_time_input_format = 'best_effort', input_format_skip_unknown_fields = 1"
)


class Peer:
    version = chdb.__version__

    def __init__(self, workload: Workload, path: Path) -> None:
        self._schema = workload.schema
        self._session = Session()
        columns = ", ".join(f"{key} {_type(branch)}" for key, branch in tree_of(workload.schema).items())
        if workload.shape == "mixed":
            columns = re.sub(r"\b(String|Float64)\b", r"Nullable(\1)", columns)
        source = f"file('{path}', 'JSONEachRow', '{columns.replace(chr(39), chr(92) + chr(39))}')"
        self._create = f"CREATE TABLE bench.events ({columns}) ENGINE = Memory"
        self._insert = f"INSERT INTO bench.events SELECT * FROM {source} SETTINGS {SETTINGS}"
        self._session.query("CREATE DATABASE IF NOT EXISTS bench")

    def run(self) -> None:
        self._session.query("DROP TABLE IF EXISTS bench.events")
        self._session.query(self._create)
        self._session.query(self._insert)

    def answer(self, digest: Digest) -> None:
        self.run()
        strings = (
            "output_format_arrow_string_as_string = 1, output_format_arrow_low_cardinality_as_dictionary = 0"
        )
        result = self._session.query(
            f"SELECT * FROM bench.events SETTINGS max_threads = 1, {strings}", "Arrow"
        )
        table = pa.ipc.open_file(pa.py_buffer(result.bytes())).read_all()
        digest.add(explode(table, self._schema))


def load(workload: Workload, path: Path) -> Peer:
    return Peer(workload, path)


def _type(branch: Tree) -> str:
    if isinstance(branch, Field):
        return TYPES[branch.type]
    if isinstance(branch, list):
        return f"Array({_type(branch[0])})"
    return f"Tuple({', '.join(f'{key} {_type(each)}' for key, each in branch.items())})"
