"""The words and numbers of the progress display."""

from __future__ import annotations

import io

import pytest

from omnistream.progress import Display, moment, size, span


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (36_175_872, "34.5 MiB"), (1 << 50, "1024.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (30_000, "30s"),
        (90_000, "1m 30s"),
        (3_600_000, "1h"),
        (86_400_000 * 3 + 3_600_000 * 4 + 5_000, "3d 4h"),
        (-5_000, "-5s"),
    ],
)
def test_spans(milliseconds: int, text: str) -> None:
    assert span(milliseconds) == text


def test_moments() -> None:
    assert moment(1_794_355_200_000) == "2026-11-11 00:00:00Z"
    assert moment(-1) == "1969-12-31 23:59:59Z"
    assert moment(None) == moment(-(2**63)) == "none yet"
    assert moment(2**63 - 1) == "the end"


def test_nothing_is_shown_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with Display("job", stream=stream) as display:
        assert not display.active
    assert stream.getvalue() == ""
