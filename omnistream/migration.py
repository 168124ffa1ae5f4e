"""migration: whether a checkpoint fits a job, what differs where it does not, and what a job may add.

A checkpoint keeps the specification of its job, as far as state depends on it. A job may have more than its
checkpoint: fields that are not required, windows, measures of a window, derives. These begin with the rows
that come after the restore. Whatever else differs is refused, each difference by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from omnistream.errors import StateError
from omnistream.spec import JobSpec

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}
NOTHING = object()
MOST_DIFFERENCES = 8  # that are told
# Of what is kept by name, what one is called.
KINDS = {"fields": "field", "windows": "window", "measures": "measure", "derives": "derive", "rules": "rule"}


def spec_of(job: JobSpec) -> dict[str, Any]:
    """Return what state depends on, in JSON types; fields, windows, measures and derives by name."""
    columns = job.columns
    schema = job.schema.to_core()
    windows = [window.to_core(job.time.column, columns) for window in job.windows]
    spec = {
        "job": job.name,
        "schema": {**schema, "fields": _by_name(schema["fields"])},
        "time": {"column": job.time.column, "max_disorder_ms": job.time.max_disorder_ms},
        "amount": job.amount and asdict(job.amount),
        "rules": {str(number): rule.to_core() for number, rule in enumerate(job.rules, 1)},
        "duplicates": job.duplicates and job.duplicates.to_core(),
        "sales": job.sales and asdict(job.sales),
        "windows": {
            window["name"]: {
                **{
                    key: value for key, value in window.items() if key not in ("name", "types", "time_column")
                },
                "measures": _by_name(window["measures"]),
            }
            for window in windows
        },
        "derives": _by_name([derive.identity() for derive in job.derives]),
    }
    plain: dict[str, Any] = json.loads(
        json.dumps(spec, default=str), parse_constant=str
    )  # a bound may be infinite
    return plain


def check_fits(manifest: Mapping[str, Any], job: JobSpec) -> None:
    """Raise a `StateError` that lists what sets the job apart from a checkpoint's, but for additions."""
    if "spec" not in manifest:
        raise StateError(
            "the checkpoint does not say what its job was: an omnistream before this one wrote it; "
            "let that one bring the job to its end, or begin anew"
        )
    differences = [
        _describe(path, old, new)
        for path, old, new in _differences(manifest["spec"], spec_of(job))
        if not _is_addition(path, old, new)
    ]
    if differences:
        more = len(differences) - MOST_DIFFERENCES
        listed = differences[:MOST_DIFFERENCES] + ([f"and {more} more"] if more > 0 else [])
        raise StateError("the checkpoint is of another job: " + "; ".join(listed))


Path = tuple[str, ...]


def _by_name(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["name"]: {key: value for key, value in item.items() if key != "name"} for item in items}


def _differences(old: Any, new: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key, NOTHING), new.get(key, NOTHING), (*path, key))
    elif old != new:
        yield path, old, new


def _is_addition(path: Path, old: Any, new: Any) -> bool:
    if old is not NOTHING:
        return False
    match path:
        case ("schema", "fields", _):
            return not new["required"]
        case ("windows", _) | ("windows", _, "measures", _) | ("derives", _):
            return True
    return False


def _describe(path: Path, old: Any, new: Any) -> str:
    """Say what differs, such as: window "sales": size 1m -> 5m."""
    places = []
    keys = iter(path)
    for key in keys:
        kind = KINDS.get(key)
        name = next(keys, None) if kind else None
        places.append(key if name is None else f'{kind} "{name}"')
    named = places[-1].endswith('"')
    if named and (old is NOTHING or new is NOTHING):
        places.append("the checkpoint has none" if old is NOTHING else "the job has none")
        return ": ".join(places)
    *around, leaf = places
    shown = " -> ".join(_value(path[-1], each) for each in (old, new))
    return ": ".join([*around, f"{leaf.removesuffix('_ms')} {shown}"])


def _value(key: str, value: Any) -> str:
    if value is NOTHING or value is None:
        return "none"
    if key.endswith("_ms") and isinstance(value, int):
        fits = (f"{value // size}{unit}" for unit, size in UNITS_MS.items() if value % size == 0)
        return next(fits, f"{value}ms") if value else "0s"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
