"""What the suites share: generated orders, as bytes and as what each stage hands to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pipeline import JOB, stream

from omnistream import _core, parse_job
from omnistream.clean import Clean
from omnistream.decode import Decode
from omnistream.encode import Encode
from omnistream.generate import GenerateSpec, generate_blocks
from omnistream.spec import JobSpec

EVENTS = 100_000
BLOCK_BYTES = 2 << 20

Measure = Callable[..., Any]


@dataclass(frozen=True)
class Orders:
    job: JobSpec
    blocks: list[bytes]
    encode: Encode
    batches: list[_core.Batch]
    clean: list[_core.CleanBatch]


@pytest.fixture(scope="session")
def job() -> JobSpec:
    return parse_job(JOB)


@pytest.fixture(scope="session")
def orders(job: JobSpec) -> Orders:
    blocks = list(generate_blocks(GenerateSpec(**stream(EVENTS)), BLOCK_BYTES))
    encode = Encode(job.schema)
    decode = Decode(job.schema, encode.dictionaries)
    batches = [batch for block in blocks for batch, _ in decode.run(block, "bench", 0, None)]
    clean = Clean(job)
    return Orders(job, blocks, encode, batches, [clean.run(batch, 0)[0] for batch in batches])


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Time `work(*setup())`, after one round that is not counted, and report its events per second."""

    def run(work: Callable[..., Any], events: int, setup: Callable[[], tuple[Any, ...]] = tuple) -> None:
        benchmark.pedantic(work, setup=lambda: (setup(), {}), rounds=9, warmup_rounds=1)
        benchmark.extra_info["events_per_second"] = round(events / benchmark.stats.stats.median)

    return run


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    for each in session.benchmarks if session else ():
        speed = each.extra_info.get("events_per_second", 0)
        terminalreporter.write_line(f"{each.name:<40} {speed / 1e6:>8.2f} M events/s")
