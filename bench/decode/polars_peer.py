"""Polars: read_ndjson with the types given; times are read as strings and then converted."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from answers import Digest, explode
from shape import Tree, tree_of
from workloads import Workload

from omnistream.schema import Field

TYPES = {"int64": pl.Int64, "decimal": pl.Float64}


class Peer:
    version = pl.__version__

    def __init__(self, workload: Workload, path: Path) -> None:
        self._workload = workload
        self._path = path
        tree = tree_of(workload.schema)
        self._schema = {key: _type(branch) for key, branch in tree.items()}
        self._times = [
            key for key, each in tree.items() if isinstance(each, Field) and each.type == "timestamp"
        ]

    def run(self) -> pl.DataFrame:
        frame = pl.read_ndjson(self._path, schema=self._schema)
        times = pl.col(self._times).str.to_datetime("%+", time_unit="ms", time_zone="UTC")
        return frame.with_columns(times)

    def answer(self, digest: Digest) -> None:
        digest.add(explode(self.run().to_arrow(), self._workload.schema))


def load(workload: Workload, path: Path) -> Peer | None:
    coerces = any(field.coerce for field in workload.schema.fields)
    if coerces or workload.framing != "lines" or workload.name.endswith("dictionary"):
        return None
    return Peer(workload, path)


def _type(branch: Tree) -> pl.DataType | type[pl.DataType]:
    if isinstance(branch, Field):
        return TYPES.get(branch.type, pl.String)
    if isinstance(branch, list):
        return pl.List(_type(branch[0]))
    return pl.Struct({key: _type(each) for key, each in branch.items()})
