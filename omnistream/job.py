"""Reads jobs: `load_job` a TOML file, `parse_job` a dictionary of the same shape.

A job is checked as a whole before any data is read: both note every mistake and raise one `JobError` with all
of them. docs/job.md lists every key. The readers stand in the order of the file, which is that of the data.
"""

from __future__ import annotations

import glob
import os
import tomllib
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
    Condition,
    Lifecycle,
    MeasureSpec,
)
from omnistream.mistakes import Problems, Table, did_you_mean, need_column, one_of, quoted, some_of
from omnistream.rules import RuleSpec, read_rule
from omnistream.schema import BUILTIN, Schema
from omnistream.spec import (
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
    schema_columns,
    with_amounts,
)
from omnistream.window_tables import KEY_TYPES, Outputs, read_window

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

_ORDER_SCHEMAS = ("order", "order_flat")
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

    outputs = Outputs(row_columns)
    windows = [read_window(table, outputs, lifecycle, sales) for table in top.tables("window")]
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
    need_column(table, "column", column, columns, ("timestamp",))
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
    need_column(table, "quantity", quantity, columns, ("int32", "int64"))
    need_column(table, "unit_price", unit_price, columns, ("decimal",))
    need_column(table, "discount", discount, columns, ("decimal",))
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
            need_column(table, "sale_key", column, columns, KEY_TYPES)
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
        need_column(table, "key", column, columns, KEY_TYPES)
    within_ms = table.duration("within", "1h", "1h", positive=True)
    table.finish()
    return DuplicatesSpec(key, within_ms)


def _read_derive(
    table: Table, outputs: Outputs, windows: Sequence[WindowSpec], base: Path
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


def _read_sink(table: Table, base: Path, outputs: Outputs, places: dict[str, str]) -> SinkSpec:
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
                some_of(columns),
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
            table.add("key", f"{quoted(column)} is not a column of {quoted(output)}", some_of(columns))
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
    shards = table.integer("shards", 1, 1, MAX_THREADS)
    table.finish()
    return StateSpec(limit_bytes if given else 0, shards)


def _read_checkpoint(table: Table, base: Path, places: dict[str, str]) -> CheckpointSpec:
    remote = "://" in str(table.values.get("path"))
    path = table.text("path") if remote else _read_target(table, base, places, example="out/checkpoint")
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
    if Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        table.add(
            "path", f"{quoted(path)} is a pipe or device", "name a file, which appears when it is whole"
        )
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
