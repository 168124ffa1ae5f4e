"""What a running job tells Prometheus: the figures of its `Metrics`, and how far each partition is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from omnistream.errors import OmnistreamError
from omnistream.pipeline import Metrics
from omnistream.spec import JobSpec

if TYPE_CHECKING:
    from omnistream.run_result import Progress

# Of `Metrics`: what only grows is a counter, the rest is a gauge; a time in ms becomes one in seconds.
COUNTERS = {
    "messages": "Messages taken in.",
    "decoded": "Messages decoded.",
    "empty_messages": "Decoded messages without a line.",
    "speculated": "Messages that followed a layout learnt before.",
    "left_to_cpu": "Messages that came to a GPU and were finished by the CPU.",
    "unknown_fields": "Values skipped because the schema has no such field.",
    "rows": "Rows of decoded messages.",
    "rejected_messages": "Messages that decode refused.",
    "rejected_rows": "Rows that a clean rule refused.",
    "duplicates": "Rows of messages seen before.",
    "late": "Rows whose window was final.",
    "aggregated": "Rows that entered the windows.",
}
BY_LABEL = {
    "rejects": ("reason", "Messages and rows refused, by reason; without duplicates and late rows."),
    "emitted": ("output", "Rows emitted, by output."),
}
GAUGES = {
    "watermark_ms": ("watermark_seconds", "How far event time has come, in seconds since 1970."),
    "max_event_time_ms": ("max_event_time_seconds", "The latest event time seen, in seconds since 1970."),
    "windows_open": ("windows_open", "Windows that are open."),
    "groups": ("groups", "Groups in open windows."),
    "state_bytes": ("state_bytes", "Memory of the state."),
}
WINDOW_GAUGES = {
    "open": ("window_open", "Open intervals of the window."),
    "groups": ("window_groups", "Keys held in them."),
    "bytes": ("window_bytes", "Memory of them."),
}
PARTITION_GAUGES = {
    "position": ("partition_position", "The next line or offset."),
    "lag": ("partition_lag_messages", "Messages of the partition that are still to be read."),
    "watermark_ms": ("partition_watermark_seconds", "How far the partition's event time has come."),
}
# The watermark's marks, "none yet" and "the end", are no times.
TIMES_MS = range(-62_135_596_800_000, 253_402_300_800_000)


@contextmanager
def serving_metrics(job: JobSpec) -> Iterator[Callable[[Progress], None]]:
    """Serve the figures of a job over HTTP; gives what is to be called with each `Progress`.

    Raises
    ------
    OmnistreamError
        When prometheus-client is not installed, or the port is taken.
    """
    assert job.metrics is not None
    try:
        import prometheus_client
        from prometheus_client.core import CollectorRegistry
    except ImportError:
        raise OmnistreamError(
            "[metrics] needs prometheus-client: pip install 'omnistream[metrics]'"
        ) from None
    collector = _Collector(job.name)
    registry = CollectorRegistry()
    registry.register(collector)
    prometheus_client.ProcessCollector(registry=registry)
    port, address = job.metrics.port, job.metrics.address
    try:
        server, thread = prometheus_client.start_http_server(port, address, registry)
    except OSError as error:
        raise OmnistreamError(
            f"metrics.port = {port} of {address} cannot be used: {error.strerror}: choose another"
        ) from None
    try:
        yield collector.observe
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """Turns the last `Progress` into figures whenever somebody asks."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._last: Progress | None = None

    def observe(self, progress: Progress) -> None:
        self._last = progress

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        progress = self._last
        metrics = Metrics() if progress is None else progress.metrics
        for field in dataclasses.fields(Metrics):
            value = getattr(metrics, field.name)
            if field.name in COUNTERS:
                figure = _family(CounterMetricFamily, field.name, COUNTERS[field.name])
                figure.add_metric([self._job], value)
            elif field.name == "windows":
                yield from self._windows(value)
                continue
            elif field.name in BY_LABEL:
                label, help_ = BY_LABEL[field.name]
                figure = _family(CounterMetricFamily, field.name, help_, label)
                for name, count in value.items():
                    figure.add_metric([self._job, name], count)
            else:
                name, help_ = GAUGES[field.name]
                figure = _family(GaugeMetricFamily, name, help_)
                _add(figure, [self._job], field.name, value)
            yield figure
        read = _family(CounterMetricFamily, "read_bytes", "Bytes of messages read.")
        read.add_metric([self._job], 0 if progress is None else progress.bytes_read)
        yield read
        for key, (name, help_) in PARTITION_GAUGES.items():
            figure = _family(GaugeMetricFamily, name, help_, "source", "partition")
            for each in () if progress is None else progress.partitions:
                _add(figure, [self._job, each.source, str(each.partition)], key, getattr(each, key))
            yield figure

    def _windows(self, windows: dict[str, dict[str, int]]) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        for key, (name, help_) in WINDOW_GAUGES.items():
            figure = _family(GaugeMetricFamily, name, help_, "window")
            for window, sizes in windows.items():
                figure.add_metric([self._job, window], sizes[key])
            yield figure


def _family(kind: Any, name: str, help_: str, *labels: str) -> Any:
    return kind(f"omnistream_{name}", help_, labels=["job", *labels])


def _add(figure: Any, labels: list[str], name: str, value: int | None) -> None:
    """Add what is known; a time in ms as seconds."""
    if value is None:
        return
    if not name.endswith("_ms"):
        figure.add_metric(labels, value)
    elif value in TIMES_MS:
        figure.add_metric(labels, value / 1_000)
