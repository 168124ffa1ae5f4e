"""Seeded apparel orders as NDJSON, written by the core at more than a million messages a second.

The model stands at the top of ``cpp/include/omnistream/generate.hpp``: orders along a daily curve with
bursts, lives from creation to return, Zipf-popular style-colours in sizes, discounts by channel and
promotion, bounded disorder, and on demand dirt and duplicates. A spec stands for its bytes everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from omnistream import _core
from omnistream.errors import JobError, SinkError

BLOCK_BYTES = 4 << 20

# How a message may be broken, and what the built-in order schemas make of it: a reason of decode; "clean",
# when the message decodes and only a rule can find the fault; "decoded", when it is odd but legal.
DIRT_OUTCOMES = {
    "truncated": "truncated_json",
    "glued": "trailing_data",
    "nul_byte": "invalid_json",
    "invalid_utf8": "invalid_utf8",
    "wrong_type": "wrong_type",
    "missing_field": "missing_field",
    "null_field": "null_field",
    "bad_timestamp": "invalid_timestamp",
    "out_of_range": "out_of_range",
    "inexact_number": "inexact_number",
    "not_an_object": "not_an_object",
    "deep_nesting": "nesting_too_deep",
    "duplicate_keys": "decoded",
    "negative_quantity": "clean",
    "absurd_price": "clean",
    "unknown_event_type": "clean",
    "wrong_clock": "clean",
}

_DAY_MS = 86_400_000
_YEAR_1971_MS = 365 * _DAY_MS
_YEAR_9900_MS = 250_246_627_200_000  # leaves room for what a sparse stream overshoots

# Whole numbers: the option, its lowest and highest value.
_WHOLE = {
    "seed": (0, 2**64 - 1),
    "events": (0, 10**15),
    "start_ms": (_YEAR_1971_MS, _YEAR_9900_MS - 1),
    "span_ms": (1, _YEAR_9900_MS - _YEAR_1971_MS),
    "max_disorder_ms": (0, 30 * _DAY_MS),
    "styles": (1, 99_999),
    "stores": (1, 2**31 - 1),
    "customers": (1, 2**31 - 1),
}
_REAL = {
    "zipf_exponent": (0, 4),
    "dirt": (0, 1),
    "below_cost": (0, 1),
    "duplicates": (0, 1),
    "return_rate": (0, 1),
    "cancel_rate": (0, 1),
}


@dataclass(frozen=True, kw_only=True)
class GenerateSpec:
    """What to generate. Every option has a default; the twin in C++ has the same ones.

    Parameters
    ----------
    seed : int
        Another seed, another stream.
    events : int
        Messages to write, duplicates and broken ones included.
    nested : bool
        ``lines[]`` and a customer object in each message, else one line per message.
    start_ms, span_ms : int
        Event time: its begin in ms since 1970, and how long it runs; the last message falls near the end.
    max_disorder_ms : int
        No event time is more than this below the largest before it (wrong clocks in dirt excepted).
    styles : int
        Each in 2 to 5 colours and 6 or 8 sizes.
    stores, customers : int
        How many there are.
    zipf_exponent : float
        Of the popularity of style-colours; 0 makes them all alike.
    dirt : float
        Share of broken messages, of all kinds of `DIRT_OUTCOMES` alike.
    below_cost : float
        Share of order lines priced below their cost.
    duplicates : float
        Share of messages that are sent a second time within a minute.
    return_rate : float
        Share of the orders not cancelled that are returned, 5 to 15 days later.
    cancel_rate : float
        Share of orders cancelled, half of them before payment.

    Raises
    ------
    JobError
        Naming each option that makes no sense, and what would.
    """

    seed: int = 20261111
    events: int = 1_000_000
    nested: bool = False
    start_ms: int = 1_794_355_200_000
    span_ms: int = _DAY_MS
    max_disorder_ms: int = 30_000
    styles: int = 5_000
    stores: int = 2_000
    customers: int = 1_000_000
    zipf_exponent: float = 1.05
    dirt: float = 0.0
    below_cost: float = 0.005
    duplicates: float = 0.0
    return_rate: float = 0.05
    cancel_rate: float = 0.05

    def __post_init__(self) -> None:
        problems = []
        for option, (low, high) in _WHOLE.items():
            value = getattr(self, option)
            if type(value) is not int or not low <= value <= high:
                problems.append(
                    f"generate: {option} must be a whole number from {low} to {high}, not {value!r}"
                )
        for option, (low, high) in _REAL.items():
            value = getattr(self, option)
            if type(value) not in (int, float) or not low <= value <= high:
                problems.append(f"generate: {option} must be a number from {low} to {high}, not {value!r}")
        if type(self.nested) is not bool:
            problems.append(f"generate: nested must be true or false, not {self.nested!r}")
        if not problems and self.start_ms + self.span_ms > _YEAR_9900_MS:
            problems.append("generate: start_ms + span_ms ends after the year 9899; shorten span_ms")
        if problems:
            raise JobError(problems)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> GenerateSpec:
        """Return the spec of these options, with a `JobError` for one that does not exist."""
        known = [field.name for field in fields(cls)]
        unknown = [
            f"generate: unknown option {name!r}; known: {', '.join(known)}"
            for name in options
            if name not in known
        ]
        if unknown:
            raise JobError(unknown)
        return cls(**options)


@dataclass(frozen=True)
class Generated:
    """What was written, counted by the generator itself, so that a ledger can be checked against it.

    Attributes
    ----------
    events : int
        Messages: the sum of `by_type` and `broken`.
    duplicates : int
        Messages that repeat an earlier one, byte for byte; they are in `by_type`, too.
    lines, duplicate_lines, below_cost_lines : int
        Order lines in messages that are not broken; of them in duplicates; of them priced below cost. A
        message with a line below cost is never repeated.
    by_type : dict
        Unbroken messages by event type.
    broken : dict
        Broken messages by kind; see `DIRT_OUTCOMES`.
    size_bytes : int
        Before compression.
    """

    events: int
    duplicates: int
    lines: int
    duplicate_lines: int
    below_cost_lines: int
    by_type: dict[str, int]
    broken: dict[str, int]
    size_bytes: int


def generate(
    target: str | os.PathLike[str] | IO[bytes],
    *,
    spec: GenerateSpec | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Generated:
    """Write a stream of orders to a file.

    Parameters
    ----------
    target : path or binary file
        A path ending in ``.gz`` or ``.zst`` is compressed. A path appears only once it is complete: the file
        is written aside and renamed. An open file is written to and left open, and so is a pipe or device.
    spec : GenerateSpec, optional
        What to write; or give its options as keywords.
    progress : callable, optional
        Called with the messages written so far and their total, after every few MB.
    **options
        Options of `GenerateSpec`.

    Returns
    -------
    Generated
        The counts.

    Raises
    ------
    JobError
        For an option that makes no sense.
    SinkError
        When the path cannot be written.
    """
    if spec is not None and options:
        raise JobError([f"generate: give spec or options, not both; drop {', '.join(sorted(options))}"])
    spec = spec or GenerateSpec.from_options(options)
    if not isinstance(target, str | os.PathLike):
        return _write(spec, target, progress)
    path = Path(target)
    if path.exists() and not path.is_file() and not path.is_dir():  # /dev/null would become a file
        with path.open("wb") as pipe:
            return _write(spec, pipe, progress)
    aside = path.with_name(f".{os.getpid()}.part.{path.name}")  # pyarrow compresses by the suffix
    try:
        try:
            with pa.output_stream(os.fspath(aside)) as file:
                counts = _write(spec, file, progress)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise SinkError(
            f"{path}: cannot write: {error.strerror or error}; name a file in a folder that exists"
        ) from error
    return counts


def generate_blocks(spec: GenerateSpec, size_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the stream as blocks of whole lines, each of at least `size_bytes` but for the last."""
    generator = _core.Generator(**asdict(spec))
    while (block := generator.next(size_bytes)) is not None:
        yield block


def _write(spec: GenerateSpec, file: Any, progress: Callable[[int, int], None] | None) -> Generated:
    generator = _core.Generator(**asdict(spec))
    size_bytes = 0
    while (block := generator.next(BLOCK_BYTES)) is not None:
        file.write(block)
        size_bytes += len(block)
        if progress is not None:
            progress(generator.events, spec.events)
    return Generated(size_bytes=size_bytes, **generator.counts())
