"""Reads jobs: `load_job` a TOML file, `parse_job` a dictionary of the same shape.

A job is checked as a whole before any data is read: both note every mistake and raise one `JobError` with all
of them. docs/job.md lists every key. The readers stand in the order of the file, which is that of the data.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
import tomllib
import zoneinfo
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from omnistream.errors import JobError, SchemaError
from omnistream.features import read_features, read_measures
from omnistream.kafka_tables import (
    IDLE_TIMEOUT_MS,
    check_delivery,
    read_kafka_source,
    read_messages,
    read_producer,
    read_topic,
)
from omnistream.measures import (
    MOST_TOP,
    Condition,
    Lifecycle,
    MeasureError,
    MeasureSpec,
    misfit,
    named_measure,
    parse_condition,
    parse_measure,
)
from omnistream.mistakes import Problems, Table, did_you_mean, one_of, quoted
from omnistream.rules import RuleSpec, read_rule
from omnistream.schema import BUILTIN, Schema
from omnistream.spec import (
    DAY_MS,
    INTERVAL_COLUMNS,
    METRICS_PORT,
    REJECTS,
    ROWS,
    SALE_TIME,
    AmountSpec,
    CheckpointSpec,
    DeadLetterSpec,
    DeriveSpec,
    DuplicatesSpec,
    FeaturesSpec,
    JobSpec,
    MeasuresSpec,
    MetricsSpec,
    SalesSpec,
    SinkSpec,
    SourceSpec,
    StateSpec,
    TimeSpec,
    WindowSpec,
    early_columns,
    schema_columns,
    with_amounts,
)
from omnistream.time_zone import zone_offsets

# A job's types and its readers come from one place.
__all__ = [
    "REJECTS",
    "ROWS",
    "AmountSpec",
    "CheckpointSpec",
    "Condition",
    "DeadLetterSpec",
    "DeriveSpec",
    "DuplicatesSpec",
    "FeaturesSpec",
    "JobSpec",
    "Lifecycle",
    "MeasureSpec",
    "MeasuresSpec",
    "RuleSpec",
    "SinkSpec",
    "SourceSpec",
    "StateSpec",
    "TimeSpec",
    "WindowSpec",
    "load_job",
    "parse_job",
]

# A calendar window is a tumbling one, to those who write jobs.
_KEYS_OF_KIND = {
    "tumbling": ("size", "offset", "time_zone", "allowed_lateness"),
    "hopping": ("size", "offset", "hop", "allowed_lateness"),
    "session": ("gap", "allowed_lateness"),
    "global": ("ttl",),
}
_CALENDAR_SIZE = re.compile(r"1\s*(?:(day|week|month)|d)")
_SHORTEST_DAYS = {"day": 1, "week": 7, "month": 28}
_ORDER_SCHEMAS = ("order", "order_flat")
_KEY_TYPES = ("dictionary", "string", "int32", "int64", "bool", "timestamp")
_COUNTED_TYPES = ("int64", "decimal")
# More than any machine has cores to spare for decode.
MAX_THREADS = 256
# A line longer than this is cut by the source, and no block may be larger than a line.
_LARGEST_BATCH_BYTES = 64 << 20


def load_job(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), needs_source: bool = False
) -> JobSpec:
    """Read and check a job file.

    Parameters
    ----------
    path : path
        A TOML file. Paths inside it are relative to its folder.
    overrides : sequence of str
        ``"window.0.size=1h"``: keys to set before the check. The value is TOML; what is no TOML is a text.
        A ``path`` set here is relative to the working directory.
    needs_source : bool
        Whether a job without a [source] is a mistake.

    Raises
    ------
    JobError
        With every mistake of the file.
    """
    file = os.fspath(path)
    try:
        document = tomllib.loads(Path(file).read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise JobError([f"{file}: cannot be read ({error.strerror}); give the path of a job file"]) from None
    except UnicodeDecodeError:
        raise JobError([f"{file}: is not UTF-8 text; save it as UTF-8"]) from None
    except tomllib.TOMLDecodeError as error:
        raise JobError([f"{file}: is not TOML: {error}; mend the syntax there"]) from None
    problems = [problem for override in overrides if (problem := _override(document, override))]
    if problems:
        raise JobError(problems)
    return parse_job(document, file=file, base_dir=Path(file).parent, needs_source=needs_source)


def parse_job(
    document: Mapping[str, Any],
    file: str = "<dict>",
    base_dir: str | os.PathLike[str] = ".",
    needs_source: bool = False,
) -> JobSpec:
    """Check a job given as a dictionary of the shape of the TOML file; see `load_job`."""
    problems = Problems(file)
    base = Path(base_dir)
    top = Table(dict(document), "", problems)

    header = _table(top, "job")
    name = header.text("name", default="job" if file == "<dict>" else Path(file).stem)
    device: Any = header.text("device", default="auto", choices=("auto", "cpu", "cuda"))
    limited = header.take("device_memory") is not None
    device_memory_bytes = header.size("device_memory", "8 GiB") if limited else 0
    threads = header.integer("threads", 1, 1, MAX_THREADS)
    header.finish()

    source_table = top.table("source")
    source = None if source_table is None else _read_source(source_table, base)
    if source is None and needs_source:
        top.add("source", "is missing", 'add [source] with path = "orders.ndjson"')

    schema, use = _read_schema(top, base)
    messages, registry = read_messages(top, source, schema, base)
    columns = {} if schema is None else schema_columns(schema)
    if columns and source is not None:
        _claim_columns(top, source, columns)
    time = _read_time(_table(top, "time"), schema, columns, source)
    amount = _read_amount(top, use, columns)
    row_columns = with_amounts(columns, amount)
    lifecycle, sales = _read_lifecycle(_table(top, "lifecycle"), row_columns)

    clean = _table(top, "clean")
    rules = [rule for table in clean.tables("rule") if (rule := read_rule(table, columns))]
    duplicates_table = clean.table("duplicates")
    duplicates = None if duplicates_table is None else _read_duplicates(duplicates_table, columns)
    clean.finish()

    outputs = _Outputs(row_columns)
    windows = [_read_window(table, outputs, lifecycle, sales) for table in top.tables("window")]
    if sales is not None and not any(window.original_time == SALE_TIME for window in windows):
        what = "is not used: no window looks up when a sale was"
        top.add("lifecycle.sale_key", what, 'add correct = "original_sale" to a window, or remove it')
    derives = [_read_derive(table, outputs, windows, base) for table in top.tables("derive")]
    if source is not None and source.type == "kafka" and any(each.kind == "features" for each in derives):
        what = "features keep no state for each partition, so that a topic's partitions could not move"
        top.add("derive", what, "write the window to a topic or file, and run features on that")

    places: dict[str, str] = {}
    sinks = [_read_sink(table, base, outputs, places) for table in top.tables("sink")]
    if any(sink.format == "avro" for sink in sinks) and not registry:
        top.add("schema_registry", "is missing, and a sink writes Avro", 'add it with url = "..."')
    dead_letter_table = top.table("dead_letter")
    dead_letter = None if dead_letter_table is None else _read_dead_letter(dead_letter_table, base, places)
    state = _read_state(_table(top, "state"))
    checkpoint_table = top.table("checkpoint")
    checkpoint = None if checkpoint_table is None else _read_checkpoint(checkpoint_table, base, places)
    if checkpoint is not None and source is not None and source.type == "stdin":
        top.add("checkpoint", "standard input cannot be read again from there", "remove it, or read files")
    metrics_table = top.table("metrics")
    metrics = None if metrics_table is None else _read_metrics(metrics_table)
    producer = read_producer(top, source)
    check_delivery(top, source, sinks, dead_letter, checkpoint, producer)
    top.finish()

    if problems.lines or schema is None:
        raise JobError(problems.lines)
    return JobSpec(
        name=name,
        schema=schema,
        time=time,
        device=device,
        device_memory_bytes=device_memory_bytes,
        threads=threads,
        source=source,
        amount=amount,
        lifecycle=lifecycle,
        sales=sales,
        rules=tuple(rules),
        duplicates=duplicates,
        windows=tuple(windows),
        derives=tuple(derives),
        sinks=tuple(sinks),
        dead_letter=dead_letter,
        state=state,
        checkpoint=checkpoint,
        messages=messages,
        metrics=metrics,
        registry=registry,
        producer=producer,
        file=file,
    )


def _table(parent: Table, key: str) -> Table:
    """Return the table below ``key``; an absent one reads as empty, so that its defaults apply."""
    return parent.table(key) or Table({}, parent.at(key), parent.problems)


def _read_source(table: Table, base: Path) -> SourceSpec:
    type_: Any = table.text("type", default="file", choices=("file", "stdin", "kafka"))
    if type_ == "kafka":
        return _read_kafka(table)
    format_: Any = table.text("format", default="ndjson", choices=("ndjson", "arrow", "parquet"))
    compression: Any = table.text("compression", default="auto", choices=("auto", "none", "gzip", "zstd"))
    batch_bytes = table.size("batch_bytes", default="4 MiB")
    if batch_bytes > _LARGEST_BATCH_BYTES:
        table.add("batch_bytes", "is more than 64 MiB", 'write a size such as "4 MiB"')
    written = table.texts("path", single=True)
    if type_ == "stdin":
        if written:
            table.add("path", 'makes no sense with type = "stdin"', "remove one of the two")
        written = ()
        if format_ == "parquet":
            table.add("format", "parquet cannot be read from a stream", 'use "ndjson" or "arrow", or a file')
    elif not written and not table.values.get("path"):
        table.add("path", "is missing", 'add path = "orders.ndjson" (globs and lists will do, too)')
    table.finish()
    paths = tuple(_below(base, path) for path in written)
    for path in paths:
        if Path(path).is_dir():
            table.add("path", f"{quoted(path)} is a directory", f"write {quoted(path + '/*.' + format_)}")
        elif not _matches(path):
            table.add(
                "path",
                f"no file at {quoted(path)}",
                "create it, or mend the path (it starts at the job's folder)",
            )
    return SourceSpec(type_, paths, format_, compression, batch_bytes)


def _read_kafka(table: Table) -> SourceSpec:
    format_: Any = table.text("format", default="json", choices=("json", "avro", "arrow"))
    batch_bytes = table.size("batch_bytes", default="4 MiB")
    table.take("writer_schema")  # read_messages
    kafka = read_kafka_source(table)
    table.finish()
    return SourceSpec("kafka", (), format_, "none", min(batch_bytes, _LARGEST_BATCH_BYTES), kafka)


def _claim_columns(top: Table, source: SourceSpec, columns: dict[str, str]) -> None:
    """Add the columns that messages bring besides their values."""
    for name, type_ in source.columns.items():
        if name in columns:
            top.add(
                f"source.columns.{name}", "the schema has a column of this name", "name one of them otherwise"
            )
        columns[name] = type_


def _read_schema(top: Table, base: Path) -> tuple[Schema | None, str]:
    """Return the schema and, for a built-in one, its name."""
    table = top.table("schema")
    if table is None:
        if "schema" not in top:
            top.add("schema", "is missing", f"add [schema] with use = {one_of(list(BUILTIN))}")
        return None, ""
    given = [key for key in ("use", "path", "field") if key in table]
    if len(given) != 1:
        what = f"has {' and '.join(given)}" if given else "names no schema"
        top.problems.add(
            "schema",
            what,
            f'write one of use = {one_of(list(BUILTIN))}, path = "schema.toml", [[schema.field]]',
        )
        return None, ""
    try:
        if given == ["field"]:
            return Schema.from_dict(table.values), ""
        if given == ["use"]:
            use = table.text("use", choices=tuple(BUILTIN))
            table.finish()
            return (BUILTIN[use], use) if use else (None, "")
        path = _below(base, table.text("path"))
        table.finish()
        if not Path(path).is_file():
            table.add(
                "path",
                f"no file at {quoted(path)}",
                "create it, or mend the path (it starts at the job's folder)",
            )
            return None, ""
        return Schema.from_toml(path), ""
    except SchemaError as error:
        what, _, fix = " ".join(str(error).split()).removeprefix("schema: ").partition("; ")
        top.problems.add("schema", what, fix or "mend it there")
        return None, ""


def _read_time(
    table: Table, schema: Schema | None, columns: Mapping[str, str], source: SourceSpec | None
) -> TimeSpec:
    column = table.text("column", default="event_time")
    _need_column(table, "column", column, columns, ("timestamp",))
    field = next((field for field in schema.fields if field.name == column), None) if schema else None
    if field is not None and not field.required and field.default is None:
        table.add("column", f"{quoted(column)} may be null, and every row needs a time",
                  "set required = true on that field of the schema")  # fmt: skip
    max_disorder_ms = table.duration("max_disorder", "30s", "30s")
    kafka = source.kafka if source is not None else None
    # A run with an end must not depend on how long its messages took to come.
    idle = IDLE_TIMEOUT_MS if kafka is not None and not kafka.until else 0
    idle_timeout_ms = table.duration("idle_timeout", f"{idle}ms", "1m")
    if "idle_timeout" in table and idle_timeout_ms and (source is None or not _may_be_silent(source)):
        table.add("idle_timeout", "only topics and plain lines on standard input are waited for", "remove it")
    table.finish()
    return TimeSpec(column, max_disorder_ms, idle_timeout_ms)


def _may_be_silent(source: SourceSpec) -> bool:
    lines = source.format == "ndjson" and source.compression in ("auto", "none")
    return source.type == "kafka" or (source.type == "stdin" and lines)


def _read_amount(top: Table, use: str, columns: Mapping[str, str]) -> AmountSpec | None:
    table = top.table("amount")
    if table is None:
        return AmountSpec() if use in _ORDER_SCHEMAS else None
    quantity = table.text("quantity", default="quantity")
    unit_price = table.text("unit_price", default="unit_price")
    discount = table.text("discount", default="discount" if "discount" in columns else "")
    table.finish()
    _need_column(table, "quantity", quantity, columns, ("int32", "int64"))
    _need_column(table, "unit_price", unit_price, columns, ("decimal",))
    _need_column(table, "discount", discount, columns, ("decimal",))
    for name in ("gross_amount", "amount"):
        if name in columns:
            top.add("amount", f"the schema has a column {quoted(name)} already", "name that field otherwise")
    return AmountSpec(quantity, unit_price, discount)


def _read_lifecycle(table: Table, columns: Mapping[str, str]) -> tuple[Lifecycle, SalesSpec | None]:
    usual = Lifecycle()
    lifecycle = Lifecycle(
        table.text("column", default=usual.column),
        table.texts("sold", usual.sold, single=True),
        table.texts("returned", usual.returned, single=True),
        table.texts("cancelled", usual.cancelled, single=True),
    )
    for event_type in sorted({*lifecycle.sold} & {*lifecycle.returned, *lifecycle.cancelled}):
        table.add("sold", f"{quoted(event_type)} is returned or cancelled, too", "name it in one list")
    sales = None
    if "sale_key" in table:
        key = table.texts("sale_key", single=True)
        for column in key:
            _need_column(table, "sale_key", column, columns, _KEY_TYPES)
        within_ms = table.duration("remember", "30d", "30d", positive=True)
        corrections = (*lifecycle.returned, *lifecycle.cancelled)
        sales = SalesSpec(key, within_ms, Condition(lifecycle.column, lifecycle.sold, corrections))
    elif table.take("remember") is not None:
        table.add("remember", "remembers nothing", 'add sale_key = ["order_id", "sku"], or remove it')
    table.finish()
    return lifecycle, sales


def _read_duplicates(table: Table, columns: Mapping[str, str]) -> DuplicatesSpec:
    key = table.texts("key", default=("event_id",), single=True)
    for column in key:
        _need_column(table, "key", column, columns, _KEY_TYPES)
    within_ms = table.duration("within", "1h", "1h", positive=True)
    table.finish()
    return DuplicatesSpec(key, within_ms)


class _Outputs:
    """The outputs read so far by name, with the types of their columns; None where a mistake hides them."""

    def __init__(self, row_columns: dict[str, str]) -> None:
        self.columns: dict[str, dict[str, str] | None] = {ROWS: row_columns or None}

    def claim(self, table: Table) -> str:
        """Return the name of a new output."""
        name = table.text("name", example="sales")
        if name == REJECTS:
            table.add("name", '"rejects" is where rejected rows go', "take another name")
        elif name in self.columns:
            table.add("name", f"{quoted(name)} is taken", "give every window and derive a name of its own")
        return name


def _read_window(
    table: Table, outputs: _Outputs, lifecycle: Lifecycle, sales: SalesSpec | None
) -> WindowSpec:
    columns = outputs.columns[ROWS] or {}
    before = len(table.problems.lines)
    name = outputs.claim(table)
    interval = _read_interval(table)
    early_ms = _read_emission(table)
    original_time, corrections = _read_correction(table, interval["kind"], lifecycle, sales, columns)
    keys = table.texts("keys", single=True)
    for key in keys:
        _need_column(table, "keys", key, columns, _KEY_TYPES)
    read = [_measure_text(table, text, lifecycle) for text in table.texts("measures", single=True)]
    read += [_measure_table(each, lifecycle) for each in table.tables("measure")]
    measures = [(place, measure) for place, measure in read if measure is not None]
    if not read and "measures" not in table:
        table.add("measures", "is missing", 'add measures = ["count", "units_net"]')
    table.finish()
    taken = {*(() if interval["kind"] == "global" else INTERVAL_COLUMNS), *keys}
    taken |= set(early_columns(interval["kind"])) if early_ms else set()
    for place, measure in measures:
        mistake = misfit(measure, columns) if columns else None
        if mistake:
            table.problems.add(place, *mistake)
        for column in measure.output_columns(columns):
            if column in taken:
                table.problems.add(
                    place,
                    f"another column is named {quoted(column)}",
                    f'name it: "... as {measure.name}_2"',
                )
            taken.add(column)
    window = WindowSpec(
        early_ms=early_ms,
        original_time=original_time,
        corrections=corrections,
        name=name,
        keys=keys,
        measures=tuple(measure for _, measure in measures),
        **interval,
    )
    if name:
        sound = columns and len(table.problems.lines) == before
        outputs.columns.setdefault(name, window.output_columns(columns) if sound else None)
    return window


def _read_interval(table: Table) -> dict[str, Any]:
    """Return what a `WindowSpec` says of its intervals."""
    kind: Any = table.text("kind", default="tumbling", choices=tuple(_KEYS_OF_KIND))
    own = _KEYS_OF_KIND[kind]
    for key in ("size", "hop", "offset", "time_zone", "gap", "ttl", "allowed_lateness"):
        if key not in own and table.take(key) is not None:
            other = {"hop": "hopping", "gap": "session", "ttl": "global"}.get(key)
            fix = f"add kind = {quoted(other)}, or remove it" if other else "remove it"
            table.add(key, f"makes no sense with kind = {quoted(kind)}", fix)
    if kind == "global":
        if "ttl" not in table:
            return {"kind": kind, "size_ms": 0}
        # A key that goes when it has been silent for so long, and may come again, is a session.
        ttl_ms = table.duration("ttl", None, "90d", positive=True)
        return {"kind": "session", "size_ms": 0, "gap_ms": ttl_ms}
    allowed_lateness_ms = table.duration("allowed_lateness", "0s", "10m")
    if kind == "session":
        gap_ms = table.duration("gap", None, "30m", positive=True)
        return {"kind": kind, "size_ms": 0, "gap_ms": gap_ms, "allowed_lateness_ms": allowed_lateness_ms}
    offset_ms = table.duration("offset", "0s", "6h")
    size = _CALENDAR_SIZE.fullmatch(str(table.values.get("size", "")))
    if kind == "tumbling" and ((size and size[1]) or "time_zone" in table):
        calendar = _read_calendar(table, (size[1] or "day") if size else "", offset_ms)
        return {**calendar, "allowed_lateness_ms": allowed_lateness_ms}
    size_ms = table.duration("size", None, "1m", positive=True)
    hop_ms = table.duration("hop", None, "10s", positive=True) if kind == "hopping" else 0
    if hop_ms > size_ms > 1:
        table.add("hop", "is longer than size, so that no window holds what lies between", "shorten it")
    if size_ms > 1 and offset_ms >= (hop_ms or size_ms):
        key = "hop" if hop_ms else "size"
        table.add("offset", f"is not shorter than {key}", "write the part of it that is left over")
    return {
        "kind": kind,
        "size_ms": size_ms,
        "hop_ms": hop_ms,
        "offset_ms": offset_ms,
        "allowed_lateness_ms": allowed_lateness_ms,
    }


def _read_emission(table: Table) -> int:
    """Return the interval of early results, 0 for final ones only."""
    emit = table.text("emit", default="final", choices=("final", "early"))
    if emit == "final":
        if table.take("every") is not None:
            table.add("every", 'makes no sense with emit = "final"', 'add emit = "early", or remove it')
        return 0
    return table.duration("every", None, "10s", positive=True)


def _read_correction(
    table: Table, kind: str, lifecycle: Lifecycle, sales: SalesSpec | None, columns: Mapping[str, str]
) -> tuple[str, Condition | None]:
    """Return the column that says when the sale was, and which rows correct one; neither by default."""
    correct = table.text("correct", default="where_it_occurs", choices=("where_it_occurs", "original_sale"))
    if correct == "where_it_occurs":
        if table.take("original_time") is not None:
            table.add("original_time", "is not used", 'add correct = "original_sale", or remove it')
        return "", None
    original_time = SALE_TIME
    if sales is None or "original_time" in table:
        original_time = table.text("original_time", example="sold_at")
        _need_column(table, "original_time", original_time, columns, ("timestamp",))
    _need_column(table, "correct", lifecycle.column, columns, ("dictionary",))
    if kind in ("session", "global"):
        table.add("correct", f"a {kind} window is of no fixed time", "remove it, or take another kind")
    if not (*lifecycle.returned, *lifecycle.cancelled):
        table.add("correct", "no event type is a correction", "name some under [lifecycle]")
    return original_time, Condition(lifecycle.column, (*lifecycle.returned, *lifecycle.cancelled))


def _read_calendar(table: Table, unit: str, offset_ms: int) -> dict[str, Any]:
    table.take("size")
    if not unit:
        what = f"{quoted(table.values.get('size', ''))} is not a day, a week or a month of a time zone"
        table.add("size", what, 'write "1 day", "1 week" or "1 month", or remove time_zone')
        unit = "day"
    if offset_ms >= _SHORTEST_DAYS[unit] * DAY_MS:
        table.add("offset", f"is not shorter than every {unit}", "write the part of it that is left over")
    time_zone = table.text("time_zone", default="UTC", example="Asia/Shanghai")
    try:
        zone_offsets(time_zone)
    except (KeyError, ValueError, OSError):
        near = difflib.get_close_matches(time_zone, zoneinfo.available_timezones(), n=1)
        fix = f"did you mean {quoted(near[0])}?" if near else 'write one such as "Asia/Shanghai"'
        if not zoneinfo.available_timezones():
            fix = "this system has none: pip install tzdata"
        table.add("time_zone", f"{quoted(time_zone)} is not a time zone", fix)
    return {"kind": "calendar", "size_ms": 0, "unit": unit, "time_zone": time_zone, "offset_ms": offset_ms}


def _measure_text(table: Table, text: str, lifecycle: Lifecycle) -> tuple[str, MeasureSpec | None]:
    place = table.at("measures")
    try:
        return place, parse_measure(text, lifecycle)
    except MeasureError as error:
        table.problems.add(place, error.what, error.fix)
        return place, None


def _measure_table(table: Table, lifecycle: Lifecycle) -> tuple[str, MeasureSpec | None]:
    """One [[window.measure]]: the same parts, spelled out."""
    op, column = table.text("op", example="sum"), table.text("column", default="")
    name, where = table.text("name", default=""), table.text("where", default="")
    arguments: list[str] = []
    if op == "top":
        arguments = [str(table.integer("count", 1, 1, MOST_TOP))]
        by = table.text("by", default="")
        arguments += [by] if by else []
    elif op == "quantile":
        value = table.take("quantile")
        arguments = [str(value)] if value is not None else []
    table.finish()
    condition: Condition | None = None
    try:
        condition = parse_condition(where) if where else None
        measure = named_measure(op, column, name, condition, lifecycle, arguments) if op else None
        return table.place, measure
    except MeasureError as error:
        table.problems.add(table.place, error.what, error.fix)
        return table.place, None


def _read_derive(
    table: Table, outputs: _Outputs, windows: Sequence[WindowSpec], base: Path
) -> DeriveSpec | FeaturesSpec | MeasuresSpec:
    before = len(table.problems.lines)
    name = outputs.claim(table)
    kind = table.text("kind", default="demand", choices=("demand", "features", "measures"))
    source = table.text("from", example=windows[0].name if windows else "daily")
    window = next((window for window in windows if window.name == source), None)
    columns = outputs.columns.get(source)
    if kind != "measures" or window is None:
        _need_one_day(table, source, window, windows)
    able: list[str] | None = None  # a mistake hides them
    if window is not None and columns is not None:
        able = [measure.name for measure in window.measures if columns.get(measure.name) in _COUNTED_TYPES]
    derive: DeriveSpec | FeaturesSpec | MeasuresSpec
    if kind == "features":
        derive = FeaturesSpec(name, source, *read_features(table, source, able, base))
    elif kind == "measures":
        derive = MeasuresSpec(name, source, *read_measures(table, source, able, base))
        for each in derive.features:
            if columns is not None and each.name in columns:
                table.add(
                    "measures", f"{quoted(each.name)} is a column of {quoted(source)}", 'name it "... as ..."'
                )
    else:
        derive = _read_demand(table, name, source, able)
    if name:
        sound = window is not None and outputs.columns[ROWS] and len(table.problems.lines) == before
        shown = (
            derive.output_columns(window, outputs.columns[ROWS] or {})
            if sound and columns and window
            else None
        )
        outputs.columns.setdefault(name, shown)
    return derive


def _need_one_day(
    table: Table, source: str, window: WindowSpec | None, windows: Sequence[WindowSpec]
) -> None:
    if source and window is None:
        table.add(
            "from", f"{quoted(source)} is not a window", did_you_mean(source, [w.name for w in windows])
        )
    elif window is not None and window.early_ms:
        table.add("from", f"{quoted(source)} has early results", 'take one with emit = "final"')
    elif window is not None and not window.is_one_day:
        what = f"{quoted(source)} is not a window of one day"
        if window.kind == "calendar" and window.unit == "day":
            what = f"{quoted(source)} has days of 23 or 25 hours, in {window.time_zone}"
        table.add("from", what, 'take one with size = "1d"')


def _read_demand(table: Table, name: str, source: str, able: Sequence[str] | None) -> DeriveSpec:
    demand = table.text("demand", example="units_sold")
    horizon_days = table.integer("horizon_days", 28, 1, 3_660)
    service_level = float(table.number("service_level", "0.95", "0", "1"))
    lead_time_days = float(table.number("lead_time_days", "7", "0"))
    table.finish()
    if demand and able is not None and demand not in able:
        what = f"{quoted(demand)} is not an int64 or decimal measure of {quoted(source)}"
        table.add("demand", what, did_you_mean(demand, able))
    return DeriveSpec(name, source, demand, "demand", horizon_days, service_level, lead_time_days)


def _read_sink(table: Table, base: Path, outputs: _Outputs, places: dict[str, str]) -> SinkSpec:
    output = table.text("output", example=next(iter(outputs.columns)))
    if output and output not in outputs.columns:
        table.add("output", f"{quoted(output)} is not an output", did_you_mean(output, list(outputs.columns)))
    type_: Any = table.text(
        "type", default="parquet", choices=("parquet", "ndjson", "arrow", "stdout", "kafka")
    )
    partition_by = table.texts("partition_by", single=True)
    columns = outputs.columns.get(output)
    if partition_by and type_ != "parquet":
        table.add("partition_by", f"a {type_} sink has no partitions", 'remove it, or use type = "parquet"')
    for column in partition_by:
        if columns and column not in columns:
            table.add(
                "partition_by",
                f"{quoted(column)} is not a column of {quoted(output)}",
                _some_of(columns),
            )
    if type_ == "kafka":
        return _read_kafka_sink(table, output, columns, places)
    path = ""
    if type_ == "stdout":
        if table.take("path") is not None:
            table.add("path", 'makes no sense with type = "stdout"', "remove one of the two")
        _claim_place(table, "type", "stdout", places)
    else:
        path = _read_target(table, base, places, example=f"out/{output or 'sales'}")
    mode = _read_mode(table)
    table.finish()
    return SinkSpec(output, type_, path, partition_by, mode)


def _read_kafka_sink(
    table: Table, output: str, columns: Mapping[str, str] | None, places: dict[str, str]
) -> SinkSpec:
    topic = read_topic(table, places, example=output or "sales")
    format_: Any = table.text("format", default="json", choices=("json", "avro", "arrow"))
    key = table.texts("key", single=True)
    if format_ == "arrow" and key:
        table.add("key", 'makes no sense with format = "arrow"', "remove it: a message holds many rows")
    for column in key:
        if columns and column not in columns:
            table.add("key", f"{quoted(column)} is not a column of {quoted(output)}", _some_of(columns))
    table.finish()
    return SinkSpec(output, "kafka", topic=topic, format=format_, key=key)


def _read_dead_letter(table: Table, base: Path, places: dict[str, str]) -> DeadLetterSpec:
    type_: Any = table.text("type", default="ndjson", choices=("ndjson", "parquet", "kafka"))
    if type_ == "kafka":
        topic = read_topic(table, places, example="rejects")
        table.finish()
        return DeadLetterSpec("", "kafka", topic=topic)
    path = _read_target(table, base, places, example="out/rejects.ndjson")
    mode = _read_mode(table)
    table.finish()
    return DeadLetterSpec(path, type_, mode)


def _read_state(table: Table) -> StateSpec:
    given = table.take("memory_limit") is not None
    limit_bytes = table.size("memory_limit", "2 GiB")
    table.finish()
    return StateSpec(limit_bytes if given else 0)


def _read_checkpoint(table: Table, base: Path, places: dict[str, str]) -> CheckpointSpec:
    path = _read_target(table, base, places, example="out/checkpoint")
    interval_ms = table.duration("interval", "1m", "1m", positive=True)
    choices = ("at_least_once", "exactly_once")
    delivery: Any = table.text("delivery", default="at_least_once", choices=choices)
    table.finish()
    return CheckpointSpec(path, interval_ms, delivery)


def _read_metrics(table: Table) -> MetricsSpec:
    port = table.integer("port", default=METRICS_PORT, low=1, high=65_535)
    address = table.text("address", default="0.0.0.0")
    table.finish()
    return MetricsSpec(port, address)


def _read_mode(table: Table) -> Any:
    return table.text("mode", default="error", choices=("error", "overwrite"))


def _read_target(table: Table, base: Path, places: dict[str, str], example: str) -> str:
    """Return a path to write to, whose folder is there or can be made and that is no other's target."""
    written = table.text("path", example=example)
    if not written:
        return ""
    path = _below(base, written)
    _claim_place(table, "path", path, places)
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        table.add("path", f"{quoted(str(folder))} is a file, not a folder", "write below a folder")
    elif not os.access(folder, os.W_OK):
        table.add("path", f"the folder {quoted(str(folder))} cannot be written", "take another, or allow it")
    return path


def _claim_place(table: Table, key: str, path: str, places: dict[str, str]) -> None:
    place = path if path == "stdout" else str(Path(path).absolute())
    owner = places.setdefault(place, table.place)
    if owner != table.place:
        table.add(key, f"{owner} writes to {quoted(path)}, too", "give each a path of its own")


def _some_of(columns: Mapping[str, str]) -> str:
    """Return the fix for a column that is not there, where any will do."""
    return f"write some of {one_of(list(columns))}"


def _need_column(
    table: Table, key: str, column: str, columns: Mapping[str, str], types: Sequence[str]
) -> None:
    """Note a column that is not there or of another type. With no schema to look in, nothing is said."""
    if not column or not columns:
        return
    kind = columns.get(column)
    able = [name for name, each in columns.items() if each in types]
    if kind is None:
        table.add(key, f"{quoted(column)} is not a column of the schema", did_you_mean(column, able))
    elif kind not in types:
        fix = f"take {one_of(able)}" if able else f"give the schema a column of type {types[0]}"
        table.add(key, f"{quoted(column)} is a {kind}, not {' or '.join(types)}", fix)


def _below(base: Path, path: str) -> str:
    """Return a path of the job file; it starts at the file's folder."""
    return os.path.normpath(base / Path(path).expanduser())


def _matches(pattern: str) -> list[str]:
    if glob.has_magic(pattern) and not Path(pattern).exists():
        return sorted(path for path in glob.glob(pattern, recursive=True) if not Path(path).is_dir())  # noqa: PTH207
    return [pattern] if Path(pattern).exists() and not Path(pattern).is_dir() else []


def _override(document: dict[str, Any], override: str) -> str | None:
    """Set ``a.b.0.c=value`` in the document; returns the mistake, if there is one."""
    keys, equals, text = override.partition("=")
    if not equals or not keys.strip():
        return f"--set {override}: is not KEY=VALUE; write one such as --set window.0.size=1h"
    try:
        value = tomllib.loads(f"value = {text}", parse_float=Decimal)["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, last = keys.strip().split(".")
    if last == "path":
        value = [_absolute(each) for each in value] if isinstance(value, list) else _absolute(value)
    node: Any = document
    try:
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        node[int(last) if isinstance(node, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        return (
            f"--set {override}: the job has no such place; count the tables of a list from 0: window.0.size"
        )
    return None


def _absolute(path: object) -> object:
    return str(Path(path).expanduser().absolute()) if isinstance(path, str) else path
