"""One program of the benchmark as a process that answers requests, so that rounds can be interleaved.

    python bench/window/worker.py PEER WORKLOAD ROWS

It prints a line of JSON when it is ready and one for each line that it reads: ``answer`` gives checksums,
``run`` does the work once and gives its seconds. ``checkpoint`` (omnistream alone) measures a checkpoint.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    name, workload, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    peer: Any = importlib.import_module(f"{name}_peer").load(workload, count)
    say({"version": peer.version})
    for line in sys.stdin:
        request = line.strip()
        if request == "answer":
            say(peer.answer(peer.run()))
        elif request == "run":
            begin = time.perf_counter()
            kept = peer.run()
            say({"seconds": time.perf_counter() - begin})
            del kept
        else:
            say(getattr(peer, request)())


if __name__ == "__main__":
    main()
