"""The whole path through `Pipeline.push`, in big and in small blocks; pipeline.py measures memory, too."""

from __future__ import annotations

import pytest
from conftest import EVENTS, Measure
from pipeline import stream

from omnistream import Pipeline
from omnistream.generate import GenerateSpec, generate_blocks
from omnistream.spec import JobSpec


def work(pipeline: Pipeline, blocks: list[bytes]) -> None:
    for block in blocks:
        pipeline.push(block)
    pipeline.flush()


@pytest.mark.parametrize("block_bytes", [2 << 20, 64 << 10])
def bench_pipeline(measure: Measure, job: JobSpec, block_bytes: int) -> None:
    blocks = list(generate_blocks(GenerateSpec(**stream(EVENTS)), block_bytes))
    pipeline = Pipeline(job, clock=lambda: 0)
    work(pipeline, blocks)
    metrics = pipeline.metrics()
    assert metrics.balanced
    assert (metrics.messages, metrics.late) == (EVENTS, 0)
    measure(work, EVENTS, setup=lambda: (Pipeline(job, clock=lambda: 0), blocks))
