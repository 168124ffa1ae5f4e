"""generate: seeded orders as NDJSON, flat and nested."""

from __future__ import annotations

import pytest
from conftest import EVENTS, Measure
from pipeline import stream

from omnistream.generate import GenerateSpec, generate_blocks


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def bench_generate(measure: Measure, nested: bool) -> None:
    spec = GenerateSpec(**stream(EVENTS), nested=nested)

    def work() -> None:
        for _ in generate_blocks(spec):
            pass

    assert sum(block.count(b"\n") for block in generate_blocks(spec)) == EVENTS
    measure(work, EVENTS)
