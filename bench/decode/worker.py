"""One program of the benchmark as a process that answers requests, so that rounds can be interleaved.

    python bench/decode/worker.py PEER WORKLOAD EVENTS

It prints one line of JSON when it is ready (its version) and then one for each line that it reads: ``answer``
gives the checksums of answers.py, ``run`` does the work once and gives the seconds that it took. The driver,
run.py, pins it to a core.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from answers import Digest
from workloads import WORKLOADS, Workload

from omnistream.schema import Schema


class Peer(Protocol):
    """What ``load(workload, path)`` of a ``<name>_peer.py`` returns; None when it cannot do the workload."""

    version: str

    def run(self) -> object:
        """Do the work once. What is returned is dropped outside the measured time."""

    def answer(self, digest: Digest) -> None:
        """Do the work once and add all rows to the digest."""


def main() -> None:
    sys.stdin.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    name, workload, events = sys.argv[1], WORKLOADS[sys.argv[2]], int(sys.argv[3])
    peer: Peer | None = load(name, workload, workload.file(events))
    say({"version": peer.version if peer else None})
    for request in sys.stdin if peer else ():
        if request == "answer\n":
            say(answer(peer, workload.schema))
        else:
            begin = time.perf_counter()
            kept = peer.run()
            say({"seconds": time.perf_counter() - begin})
            del kept


def load(name: str, workload: Workload, path: Path) -> Any:
    name, _, variant = name.partition(":")
    module = importlib.import_module(f"{name}_peer")
    return module.load(workload, path, variant) if variant else module.load(workload, path)


def answer(peer: Peer, schema: Schema) -> dict[str, Any]:
    digest = Digest(schema)
    peer.answer(digest)
    return digest.answer()


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
