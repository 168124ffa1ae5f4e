"""state: what an operator asks of a checkpoint: what is in it, its parts as files, and what sets two apart.

Every answer reads the checkpoint through and checks its bytes first; none of them changes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from omnistream.checkpoint import MANIFEST, Snapshot, as_state_error, latest
from omnistream.errors import StateError
from omnistream.remote import AnyPath, place_of

FORMATS = ("parquet", "arrow", "ndjson")
START = "window_start_ms"
SIDE = "\0side"  # no column of a part is called so
NDJSON_ROWS = 65_536  # made into Python objects at a time


def find(path: str | AnyPath) -> AnyPath:
    """Return the folder of one checkpoint: `path` itself, or the newest complete one under it.

    Raises
    ------
    StateError
        When there is none, or none that can be used.
    """
    place = place_of(path)
    with as_state_error(place):
        if (place / MANIFEST).exists():
            return place
    folder = latest(place)
    if folder is None:
        raise StateError(
            f"{place}: there is no checkpoint here; name its folder, or the job's checkpoint.path"
        )
    return folder


def inspect(path: str | AnyPath) -> dict[str, Any]:
    """Say what a checkpoint holds.

    Parameters
    ----------
    path : path
        The folder of a checkpoint, or of several: then the newest.

    Returns
    -------
    dict
        In JSON types: ``checkpoint``, ``created`` (when its manifest was written, ISO 8601), ``job``,
        ``watermark_ms`` (null before the first row), ``positions``, ``ledger``, ``windows`` (by name:
        ``open``, of hopping windows the slices that they share; ``keys``, over all input partitions; and
        ``watermark_ms``) and ``parts`` (by name: ``rows``, ``size_bytes`` in memory). What a program of its
        own put into a snapshot may lack some.
    """
    folder = find(path)
    snapshot = Snapshot.load(folder)
    written = datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, UTC)
    manifest = snapshot.manifest
    return {
        "checkpoint": str(folder),
        "created": written.isoformat(timespec="milliseconds"),
        "job": manifest.get("job"),
        "watermark_ms": manifest.get("watermark", {}).get("value_ms"),
        "positions": manifest.get("positions", {}),
        "ledger": manifest.get("ledger", {}),
        "windows": dict(_windows(snapshot)),
        "parts": {
            name: {"rows": part.num_rows, "size_bytes": part.nbytes} for name, part in snapshot.parts.items()
        },
    }


def export(path: str | AnyPath, out: str | Path, form: str) -> list[Path]:
    """Write each part of a checkpoint to a file of its own.

    Parameters
    ----------
    path : path
        As of `inspect`.
    out : path
        A folder that is missing or empty.
    form : str
        One of `FORMATS`. NDJSON writes binary values in hexadecimal and times as ISO 8601.

    Returns
    -------
    list of Path
        The files, in the order of the parts.

    Raises
    ------
    StateError
        When the checkpoint is damaged, or `out` is taken.
    """
    if form not in FORMATS:
        raise StateError(f"format {form!r}: is none of {', '.join(FORMATS)}")
    snapshot = Snapshot.load(find(path))
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StateError(f"{folder}: is there already; name a folder that is missing or empty")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, part in snapshot.parts.items():
        file = folder / f"{quote(name, safe='')}.{form}"  # a name may hold any character
        _write(_table(part), file, form)
        files.append(file)
    return files


def diff(first: str | AnyPath, second: str | AnyPath, rows: int = 3) -> list[str]:
    """Say what sets the second checkpoint apart from the first.

    Parameters
    ----------
    first, second : path
        As of `inspect`.
    rows : int
        How many rows of a part to show that only one of them has.

    Returns
    -------
    list of str
        A line each; empty when they hold the same. The order of rows does not count.
    """
    old, new = Snapshot.load(find(first)), Snapshot.load(find(second))
    before, after = dict(_leaves(old.manifest)), dict(_leaves(new.manifest))
    lines = [
        f"{key}: {before.get(key, 'nothing')} -> {after.get(key, 'nothing')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]
    for name in dict.fromkeys([*old.parts, *new.parts]):
        if name not in old.parts or name not in new.parts:
            lines.append(f"part {name}: only in the {'first' if name in old.parts else 'second'}")
        else:
            lines += _diff_part(name, _table(old.parts[name]), _table(new.parts[name]), rows)
    return lines


def describe(found: Mapping[str, Any]) -> str:
    """Render what `inspect` found for people."""
    lines = [f"{key:<12} {found[key]}" for key in ("checkpoint", "created", "job")]
    lines.append(f"{'watermark':<12} {_time(found['watermark_ms'])}")
    lines += [f"{'position':<12} {source}: {json.dumps(at)}" for source, at in found["positions"].items()]
    lines += [
        f"{'window':<12} {name}: {each['open']} open, {each['keys']} keys, closed up to "
        f"{_time(each['watermark_ms'])}"
        for name, each in found["windows"].items()
    ]
    lines += [
        f"{'part':<12} {name}: {each['rows']} rows, {each['size_bytes']} bytes"
        for name, each in found["parts"].items()
    ]
    return "\n".join(lines)


# --- the state of windows ---------------------------------------------------------------------------


def _windows(snapshot: Snapshot) -> Iterator[tuple[str, dict[str, Any]]]:
    for part, groups in snapshot.parts.items():
        if not (part.startswith("window.") and part.endswith(".groups")):
            continue
        name = part.removeprefix("window.").removesuffix(".groups")
        # A session is a window by itself; the key of a window is one, whichever partitions its rows are of.
        sessions = "last_ms" in groups.schema.names
        keys = [column for column in groups.schema.names if column.startswith("key ")]
        open_ = groups.num_rows if sessions else len(pc.unique(groups[START]))
        yield (
            name,
            {
                "open": open_,
                "keys": _table(groups).group_by(keys).aggregate([]).num_rows if keys else open_,
                "watermark_ms": snapshot.parts[f"window.{name}.counts"]["watermark_ms"][0].as_py(),
            },
        )


def _time(time_ms: int | None) -> str:
    if time_ms is None:
        return "none yet"
    try:
        return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):  # before the first row: the least time there is
        return "none yet" if time_ms < 0 else "the end of the input"


# --- files ------------------------------------------------------------------------------------------


def _table(part: pa.Table | pa.RecordBatch) -> pa.Table:
    return part if isinstance(part, pa.Table) else pa.Table.from_batches([part])


def _write(table: pa.Table, file: Path, form: str) -> None:
    if form == "parquet":
        import pyarrow.parquet as pq  # loads much that the other formats do without

        pq.write_table(table, file)
    elif form == "arrow":
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        with file.open("x", encoding="utf-8") as opened:
            for batch in table.to_batches(max_chunksize=NDJSON_ROWS):
                opened.writelines(f"{_json(row)}\n" for row in batch.to_pylist())


def _json(row: Mapping[str, Any]) -> str:
    def plain(value: Any) -> str:
        if isinstance(value, bytes):
            return value.hex()
        return value.isoformat() if isinstance(value, datetime) else str(value)

    return json.dumps(row, ensure_ascii=False, default=plain)


# --- differences ------------------------------------------------------------------------------------


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else key)
    else:
        yield place, json.dumps(value, ensure_ascii=False)


def _diff_part(name: str, old: pa.Table, new: pa.Table, show: int) -> list[str]:
    if old.schema != new.schema:
        columns = [f"{sign} {field.name}: {field.type}" for sign, field in _one_sided(old.schema, new.schema)]
        return [f"part {name}: other columns", *(f"  {column}" for column in columns)]
    sides = [
        table.append_column(SIDE, pa.repeat(pa.scalar(side, pa.int64()), table.num_rows))
        for side, table in ((-1, old), (1, new))
    ]
    counted = pa.concat_tables(sides).group_by(old.schema.names).aggregate([(SIDE, "sum")])
    balance = counted[f"{SIDE}_sum"]
    gone, come = counted.filter(pc.less(balance, 0)), counted.filter(pc.greater(balance, 0))
    if gone.num_rows == come.num_rows == 0:
        return []
    lines = [f"part {name}: {gone.num_rows} rows only in the first, {come.num_rows} only in the second"]
    for sign, rows in (("-", gone), ("+", come)):
        shown = rows.drop_columns([f"{SIDE}_sum"]).slice(0, show).to_pylist()
        lines += [f"  {sign} {_json(row)}" for row in shown]
    return lines


def _one_sided(old: pa.Schema, new: pa.Schema) -> Iterator[tuple[str, pa.Field]]:
    yield from (("-", field) for field in old if field not in list(new))
    yield from (("+", field) for field in new if field not in list(old))
