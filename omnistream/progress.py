"""What a run shows while it runs: on a terminal, on standard error, and nowhere else."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.live import Live

    from omnistream.run_result import Progress, RunResult

_BAR_WIDTH = 24
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
# Beyond these a time is one of the watermark's marks, "none yet" or "the end", and no date.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


def size(count: float) -> str:
    """``34.5 MiB``."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def span(milliseconds: int) -> str:
    """``3d 4h``: the two largest units."""
    if abs(milliseconds) < 1_000:
        return f"{milliseconds} ms"
    sign, seconds = ("-" if milliseconds < 0 else ""), abs(milliseconds) // 1_000
    parts = [
        (seconds // 86_400, "d"),
        (seconds // 3_600 % 24, "h"),
        (seconds // 60 % 60, "m"),
        (seconds % 60, "s"),
    ]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return sign + " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count)


def moment(epoch_ms: int | None) -> str:
    """``2026-11-11 10:00:00Z``."""
    if epoch_ms is None or epoch_ms < _FIRST_MS:
        return "none yet"
    if epoch_ms > _LAST_MS:
        return "the end"
    return (dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=epoch_ms)).strftime("%Y-%m-%d %H:%M:%SZ")


def lines(progress: Progress, now_ms: int) -> list[str]:
    """Return the display as plain lines."""
    metrics = progress.metrics
    state = f"{metrics.groups:,} groups in {metrics.windows_open:,} open windows"
    read = size(progress.bytes_read)
    if progress.bytes_total:
        share = min(progress.bytes_read / progress.bytes_total, 1.0)
        bar = "━" * round(share * _BAR_WIDTH)
        read = f"{bar:╌<{_BAR_WIDTH}} {share:4.0%}  {read} of {size(progress.bytes_total)}"
    watermark = f"watermark {moment(metrics.watermark_ms)}"
    if metrics.watermark_ms is not None and metrics.watermark_ms <= _LAST_MS:
        newest = metrics.max_event_time_ms
        behind = "" if newest is None else f"{span(newest - metrics.watermark_ms)} behind the newest event, "
        watermark += f", {behind}{span(now_ms - metrics.watermark_ms)} behind now"
    shown = [
        f"{read}  {progress.events_per_second:,.0f} events/s",
        watermark,
        f"state {size(metrics.state_bytes)}, {state}" + _largest(metrics.windows),
        f"{metrics.messages:,} messages, {metrics.rows:,} rows, {metrics.aggregated:,} aggregated",
    ]
    refused = {**metrics.rejects, "late": metrics.late, "duplicate": metrics.duplicates}
    counts = [f"{reason} {count:,}" for reason, count in sorted(refused.items()) if count]
    return [*shown, "rejects " + (", ".join(counts) or "none")]


def _largest(windows: Mapping[str, Mapping[str, int]]) -> str:
    """Name the window that takes most, where there are several."""
    if len(windows) < 2:
        return ""
    name, sizes = max(windows.items(), key=lambda each: each[1]["bytes"])
    return f", the most in {name}: {size(sizes['bytes'])}, {sizes['groups']:,} groups"


def summary(result: RunResult) -> list[str]:
    """Return what a run did, in a few lines."""
    progress = result.progress
    ended = f"stopped by {result.stopped_by}" if result.stopped_by else "done"
    shown = [
        f"{ended} after {progress.elapsed_s:.1f} s at {progress.events_per_second:,.0f} events/s",
        *lines(progress, 0)[3:],
    ]
    if result.stopped_by and progress.metrics.windows_open:
        shown.append(f"{progress.metrics.windows_open:,} windows were still open and are not written")
    for output, paths in result.outputs.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        shown.append(f"{output}: {paths[0]}{more}" if paths else f"{output}: no file")
    return shown


class Display:
    """Shows progress on a terminal; elsewhere it does nothing.

    Parameters
    ----------
    title : str
        The name of the job.
    quiet : bool
        Show nothing on a terminal, either.
    stream : text stream, optional
        Standard error unless given.
    """

    def __init__(self, title: str, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.title = title
        self.stream = stream or sys.stderr
        self.active = not quiet and self.stream.isatty()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.active:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self.stream), transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show how far the run is."""
        if self._live is not None:
            from rich.text import Text

            text = "\n".join([self.title, *lines(progress, time.time_ns() // 1_000_000)])
            self._live.update(Text(text), refresh=True)

    def finish(self, result: RunResult) -> None:
        """Leave a summary where the display stood."""
        if self.active:
            self.stream.write("\n".join([self.title, *summary(result)]) + "\n")
