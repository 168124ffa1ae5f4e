"""The sinks of a job, by the output that they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pyarrow as pa

from omnistream.pipeline import Outputs
from omnistream.sink import Mode, Sink, open_dead_letter, open_sink
from omnistream.sink.stdout import StdoutSink
from omnistream.spec import REJECTS, JobSpec

if TYPE_CHECKING:
    from omnistream.sink.kafka import Producer

Sinks = dict[str, list[Sink]]


def open_job_producer(job: JobSpec) -> Producer | None:
    """Return the producer of a job that writes to Kafka."""
    if "kafka" not in {sink.type for sink in (*job.sinks, job.dead_letter) if sink is not None}:
        return None
    from omnistream.sink.kafka import open_producer  # loads a Kafka client, which other jobs do without

    return open_producer(job)


def open_sinks(
    job: JobSpec,
    schemas: Mapping[str, pa.Schema],
    mode: Mode | None,
    on_failure: ExitStack,
    producer: Producer | None,
) -> Sinks:
    """Open what the job writes to, by output; `on_failure` takes back what is not visible yet."""
    sinks: Sinks = {}
    for spec in job.sinks:
        schema = schemas[spec.output]
        sink: Sink
        if producer is not None and spec.type == "kafka":
            sink = producer.sink(spec, schema)
        else:
            sink = open_sink(spec, schema, job.name, mode or spec.mode)
        on_failure.callback(sink.abort)
        sinks.setdefault(spec.output, []).append(sink)
    if job.dead_letter is not None:
        letters: Sink
        if producer is not None and job.dead_letter.type == "kafka":
            letters = producer.dead_letter(job.dead_letter)
        else:
            letters = open_dead_letter(job.dead_letter, mode or job.dead_letter.mode)
        on_failure.callback(letters.abort)
        sinks.setdefault(REJECTS, []).append(letters)
    return sinks


def paths_of(sinks: Sinks) -> dict[str, list[str]]:
    """Return what each output was written to."""
    return {output: [path for sink in group for path in sink.paths] for output, group in sinks.items()}


def all_sinks(sinks: Sinks) -> Iterator[Sink]:
    """Yield every sink of every output."""
    for group in sinks.values():
        yield from group


def write_outputs(outputs: Outputs, sinks: Sinks) -> None:
    """Hand each batch to the sinks of its output."""
    for output, batches in outputs.items():
        for sink in sinks.get(output, ()):
            for batch in batches:
                sink.write(batch)
            if isinstance(sink, StdoutSink):
                sink.flush()  # whoever reads it waits for what is final now, not for a full buffer
