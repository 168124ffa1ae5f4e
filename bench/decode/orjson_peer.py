"""orjson, a loop, and columns of the values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from answers import Digest
from rows import Getter, to_table
from workloads import Workload


class Peer:
    version = orjson.__version__

    def __init__(self, workload: Workload, path: Path) -> None:
        self._schema = workload.schema
        self._lines = path.read_bytes().splitlines()

    def run(self) -> pa.Table:
        return to_table(map(orjson.loads, self._lines), self._schema, make_getter)

    def answer(self, digest: Digest) -> None:
        digest.add(self.run())


def load(workload: Workload, path: Path) -> Peer | None:
    unsuited = workload.framing != "lines" or workload.name.endswith("dictionary")
    return None if unsuited else Peer(workload, path)


def make_getter(paths: list[tuple[str, ...]]) -> Getter:
    keys = [path[0] for path in paths]
    if all(len(path) == 1 for path in paths):
        return lambda event: tuple([event.get(key) for key in keys])
    return lambda event: tuple([_descend(event, path) for path in paths])


def _descend(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value[key]
    return value
