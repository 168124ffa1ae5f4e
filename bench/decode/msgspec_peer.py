"""msgspec: structs made from the schema, a loop, and columns of the values."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import msgspec
import pyarrow as pa
from answers import Digest
from rows import Getter, to_table
from shape import Tree, tree_of
from workloads import Workload

from omnistream.schema import Field

TYPES = {"int64": int, "decimal": float}


class Peer:
    version = msgspec.__version__

    def __init__(self, workload: Workload, path: Path) -> None:
        self._schema = workload.schema
        self._lines = path.read_bytes().splitlines()
        self._decode = msgspec.json.Decoder(_struct("Event", tree_of(workload.schema)), strict=False).decode

    def run(self) -> pa.Table:
        return to_table(map(self._decode, self._lines), self._schema, make_getter)

    def answer(self, digest: Digest) -> None:
        digest.add(self.run())


def load(workload: Workload, path: Path) -> Peer | None:
    unsuited = workload.framing != "lines" or workload.name.endswith("dictionary")
    return None if unsuited else Peer(workload, path)


def make_getter(paths: list[tuple[str, ...]]) -> Getter:
    get = attrgetter(*(".".join(path) for path in paths))
    return get if len(paths) > 1 else lambda event: (get(event),)


def _struct(name: str, members: dict[str, Tree]) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        name, [(key, _type(key, branch) | None, None) for key, branch in members.items()], gc=False
    )


def _type(key: str, branch: Tree) -> type:
    if isinstance(branch, Field):
        return TYPES.get(branch.type, str)
    if isinstance(branch, list):
        return list[_struct(key, branch[0])]  # type: ignore[misc,return-value]
    return _struct(key, branch)
