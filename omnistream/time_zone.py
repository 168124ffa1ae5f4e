"""Time zones as tables: from which instant on clocks are ahead of UTC, and by how much.

``zoneinfo`` knows the rules (of the system, or of the package ``tzdata``); the core takes them as a table, so
that it needs no rules of its own.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo

# Before the first year its first offset holds, and from the last one on that of its start: daylight saving
# in the year 2200 is anybody's guess.
FIRST_YEAR, LAST_YEAR = 1900, 2200
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY = dt.timedelta(days=1)


@lru_cache(maxsize=16)
def zone_offsets(name: str) -> tuple[tuple[int, int], ...]:
    """Return the offsets of a time zone from 1900 to 2200.

    Parameters
    ----------
    name : str
        As in the time zone database: ``"Asia/Shanghai"``.

    Returns
    -------
    tuple of (int, int)
        ``(from_ms, offset_ms)``: an instant in ms since 1970, UTC, and how far clocks are ahead from then on.
        Ordered, and the first one holds before as well.

    Raises
    ------
    KeyError
        When there is no such time zone (`zoneinfo.ZoneInfoNotFoundError`).
    """
    zone = ZoneInfo(name)
    at, end = dt.datetime(FIRST_YEAR, 1, 1, tzinfo=dt.UTC), dt.datetime(LAST_YEAR, 1, 1, tzinfo=dt.UTC)
    offset = _offset(at, zone)
    table = [(_ms(at - _EPOCH), _ms(offset))]
    # No zone has ever changed its clocks twice within a day.
    while at < end:
        following = at + _DAY
        if _offset(following, zone) != offset:
            change = _change(at, following, zone)
            offset = _offset(change, zone)
            table.append((_ms(change - _EPOCH), _ms(offset)))
        at = following
    return tuple(table)


def has_equal_days(name: str) -> bool:
    """Whether every day since 2000 has had 24 hours, and will."""
    return zone_offsets(name)[-1][0] < _ms(dt.datetime(2000, 1, 1, tzinfo=dt.UTC) - _EPOCH)


def _change(before: dt.datetime, after: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """Return the first second at which the offset is no longer that of ``before``."""
    low, high = 0, (after - before) // dt.timedelta(seconds=1)
    old = _offset(before, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(before + dt.timedelta(seconds=middle), zone) == old:
            low = middle
        else:
            high = middle
    return before + dt.timedelta(seconds=high)


def _offset(at: dt.datetime, zone: ZoneInfo) -> dt.timedelta:
    return at.astimezone(zone).utcoffset() or dt.timedelta()


def _ms(length: dt.timedelta) -> int:
    return length // dt.timedelta(milliseconds=1)
