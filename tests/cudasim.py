"""Numba's CUDA simulator, in a process of its own: it must be chosen before Numba is imported.

`Worker` starts ``python -m tests.cudasim`` and sends it pickled calls of `omnistream.kernels.derive.Kernels`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self


class Worker:
    """The kernels of the simulator, behind the face of `Kernels`."""

    def __init__(self) -> None:
        environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.cudasim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what the method returned in the simulator, or raise what it raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((method, arguments), self._process.stdin)
        self._process.stdin.flush()
        raised, value = pickle.load(self._process.stdout)
        if raised:
            raise value
        return value


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    from numba import cuda

    from omnistream.kernels.derive import Kernels

    assert cuda.is_available(), "the simulator is not on"
    kernels = Kernels("cuda")
    while requests.peek(1):  # type: ignore[attr-defined]
        method, arguments = pickle.load(requests)
        answer: tuple[bool, Any]
        try:
            if method == "features":
                columns, *rest = arguments
                answer = False, kernels.features(columns)(*rest)
            else:
                answer = False, getattr(kernels, method)(*arguments)
        except Exception as error:
            answer = True, error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
