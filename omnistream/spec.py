"""What a job is: one frozen dataclass per table of the job file, in the order of the data.

Values are checked where they are read (omnistream/job.py); whoever builds these by hand is trusted.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from omnistream.features import FeatureSpec, measures_used
from omnistream.measures import Condition, Lifecycle, MeasureSpec
from omnistream.rules import RuleSpec
from omnistream.schema import Schema
from omnistream.time_zone import has_equal_days, zone_offsets

# When there is output at the path of a sink already: refuse, or replace it.
Mode = Literal["error", "overwrite"]
WindowKind = Literal["tumbling", "hopping", "calendar", "session", "global"]
CalendarUnit = Literal["day", "week", "month"]
CALENDAR_UNITS: tuple[str, ...] = get_args(CalendarUnit)
DAY_MS = 86_400_000
# The columns that say which interval of time a result covers; a global window has neither.
INTERVAL_COLUMNS = ("window_start", "window_end")
# Names that every pipeline gives to outputs of its own.
ROWS = "rows"
REJECTS = "rejects"
AMOUNTS = ("gross_amount", "amount")  # columns that clean adds


# librdkafka's settings, in the order of the job file.
KafkaSettings = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class KafkaSpec:
    """What a Kafka source has besides its format.

    Attributes
    ----------
    topics : tuple of str
        Names, and patterns that begin with ``^``.
    start : str or int
        Where to begin in partitions that have no stored offset: ``earliest``, ``latest``, a time in ms since
        the epoch; ``stored`` refuses to begin there.
    until : str or tuple of (str, int, int)
        ``latest`` is where the log ends at the start of the run; (topic, partition, offset): the first that
        is not read, and ``latest`` for partitions that are not named. Empty: the run has no end.
    columns : tuple of (str, str)
        Columns that a message brings besides its value: (name, ``key``, ``timestamp``, ``partition``,
        ``offset`` or ``header:<name>``).
    member : str
        Tells the processes of a group apart: names the transactional.id and the folder of snapshots.
    """

    topics: tuple[str, ...]
    config: KafkaSettings = ()
    start: str | int = "earliest"
    until: Literal["", "latest"] | tuple[tuple[str, int, int], ...] = ""
    columns: tuple[tuple[str, str], ...] = ()
    member: str = "0"


@dataclass(frozen=True, slots=True)
class MessageSpec:
    """What a message is, of Kafka or pushed one by one.

    Attributes
    ----------
    format : str
        ``json``; ``avro``, framed as the Confluent Schema Registry asks for unless there is a
        ``writer_schema``; ``arrow``: an Arrow IPC stream of rows.
    writer_schema : str
        The JSON of the Avro schema of all messages, which then are bodies without a frame.
    """

    format: Literal["json", "avro", "arrow"] = "json"
    writer_schema: str = ""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where the messages come from. ``path`` holds files and glob patterns; empty for stdin and Kafka."""

    type: Literal["file", "stdin", "kafka"] = "file"
    path: tuple[str, ...] = ()
    format: Literal["ndjson", "arrow", "parquet", "json", "avro"] = "ndjson"
    compression: Literal["auto", "none", "gzip", "zstd"] = "auto"
    batch_bytes: int = 4 << 20
    kafka: KafkaSpec | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The types of the columns that messages bring besides their values."""
        types = {"timestamp": "timestamp", "partition": "int32", "offset": "int64"}
        return {
            name: types.get(detail, "string") for name, detail in (self.kafka.columns if self.kafka else ())
        }


@dataclass(frozen=True, slots=True)
class TimeSpec:
    """Event time: its column, its disorder, and how long a silent partition is waited for (0: for ever)."""

    column: str = "event_time"
    max_disorder_ms: int = 30_000
    idle_timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class AmountSpec:
    """The columns of a line's ``gross_amount`` and ``amount``; an empty ``discount`` means there is none."""

    quantity: str = "quantity"
    unit_price: str = "unit_price"
    discount: str = "discount"


@dataclass(frozen=True, slots=True)
class DuplicatesSpec:
    """Rows whose ``key`` was seen less than ``within_ms`` before are duplicates."""

    key: tuple[str, ...]
    within_ms: int

    def to_core(self) -> dict[str, Any]:
        """Return the filter as the C++ core takes it."""
        return {"key": list(self.key), "within_ms": self.within_ms}


# Of a window whose corrections do not say when their sale was; no schema has a column of this name.
SALE_TIME = "sale time"


@dataclass(frozen=True, slots=True)
class SalesSpec:
    """Which rows are sales and which correct one (``condition``), and how long a sale is remembered."""

    key: tuple[str, ...]
    within_ms: int
    condition: Condition

    def to_core(self, time_column: str) -> dict[str, Any]:
        """Return it as the C++ core takes it."""
        return {
            "key": list(self.key),
            "within_ms": self.within_ms,
            "time_column": time_column,
            "condition": self.condition.to_core(),
        }


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """One window: its intervals, keys and measures.

    Attributes
    ----------
    kind : str
        ``tumbling``: side by side. ``hopping``: one starts every ``hop_ms``, so they overlap. ``calendar``:
        one a ``unit``, which is a day, a week or a month of ``time_zone``. ``session``: from the first row
        of a key to ``gap_ms`` after its last. ``global``: one for all time.
    early_ms : int
        Not 0: what has changed is told whenever the watermark passes a multiple of it.
    original_time : str
        Not empty: the column by which ``corrections`` fall into the windows of the sales that they correct;
        `SALE_TIME` where it is looked up.
    """

    name: str
    size_ms: int
    keys: tuple[str, ...]
    measures: tuple[MeasureSpec, ...]
    offset_ms: int = 0
    allowed_lateness_ms: int = 0
    kind: WindowKind = "tumbling"
    hop_ms: int = 0
    unit: CalendarUnit = "day"
    time_zone: str = "UTC"
    gap_ms: int = 0
    early_ms: int = 0
    original_time: str = ""
    corrections: Condition | None = None

    def to_core(self, time_column: str, columns: Mapping[str, str]) -> dict[str, Any]:
        """Return the window as the C++ core takes it; ``columns`` are the types of the rows it will see."""
        return {
            "name": self.name,
            "kind": self.kind,
            "size_ms": self.size_ms,
            "hop_ms": self.hop_ms,
            "gap_ms": self.gap_ms,
            "early_ms": self.early_ms,
            **({"unit": self.unit, "time_zone": self.time_zone} if self.kind == "calendar" else {}),
            "offset_ms": self.offset_ms,
            "allowed_lateness_ms": self.allowed_lateness_ms,
            "time_column": time_column,
            "original_time": self.original_time,
            "corrections": self.corrections and self.corrections.to_core(),
            "keys": list(self.keys),
            "measures": [core for measure in self.measures for core in measure.to_core()],
            "types": dict(columns),
        }

    def zone(self) -> tuple[tuple[int, int], ...]:
        """Return the rules of the time zone of a calendar window, as the C++ core takes them."""
        return zone_offsets(self.time_zone) if self.kind == "calendar" else ()

    @property
    def is_one_day(self) -> bool:
        """Whether each of its intervals is a day of 24 hours."""
        if self.kind == "calendar":
            return self.unit == "day" and has_equal_days(self.time_zone)
        return self.kind == "tumbling" and self.size_ms == DAY_MS

    def output_columns(self, columns: Mapping[str, str]) -> dict[str, str]:
        """Return the types of the columns that a closed window has."""
        interval = {} if self.kind == "global" else dict.fromkeys(INTERVAL_COLUMNS, "timestamp")
        keys = {key: columns[key] for key in self.keys}
        types = {**interval, **keys}
        for measure in self.measures:
            types.update(measure.output_columns(columns))
        return {**types, **(early_columns(self.kind) if self.early_ms else {})}

    def explain(self) -> str:
        """Return the window in one line."""
        kind = {
            "tumbling": f"tumbling {self.size_ms} ms",
            "hopping": f"hopping {self.size_ms} ms every {self.hop_ms} ms",
            "calendar": f"a {self.unit} in {self.time_zone}",
            "session": f"session, gap {self.gap_ms} ms,",
            "global": "global",
        }[self.kind]
        keys = ", ".join(self.keys) or "no key"
        return f"{self.name}: {kind} by {keys}: {', '.join(measure.name for measure in self.measures)}"


def early_columns(kind: str) -> dict[str, str]:
    """Return the types of the columns that only windows with early results have."""
    return {"revision": "int64", "final": "bool"} | ({"retracted": "bool"} if kind == "session" else {})


@dataclass(frozen=True, slots=True)
class DeriveSpec:
    """Demand statistics and safety stock per key of a daily window."""

    name: str
    window: str  # `from` in TOML
    demand: str
    kind: Literal["demand"] = "demand"
    horizon_days: int = 28
    service_level: float = 0.95
    lead_time_days: float = 7.0

    @property
    def z(self) -> float:
        """The standard normal quantile of the service level."""
        return statistics.NormalDist().inv_cdf(self.service_level)

    def to_core(self, window: WindowSpec, columns: Mapping[str, str]) -> dict[str, Any]:
        """Return the statistics as the C++ core takes them."""
        return {
            "horizon_days": self.horizon_days,
            "keys": list(window.keys),
            "demand": self.demand,
            "z": self.z,
            "lead_time_days": self.lead_time_days,
            "types": window.output_columns(columns),
        }

    def explain(self) -> str:
        """Say what it does, for people."""
        return (
            f"demand {self.demand} of {self.window} over {self.horizon_days} days, "
            f"safety stock for {self.service_level:.1%} over {self.lead_time_days:g} days"
        )

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a snapshot to fit."""
        return asdict(self)

    def output_columns(self, window: WindowSpec, columns: Mapping[str, str]) -> dict[str, str]:
        """Return the types of the columns of the result."""
        types = window.output_columns(columns)
        keys = {key: types[key] for key in window.keys}
        floats = dict.fromkeys(("mean", "std", "safety_stock"), "float64")
        return {"day": "timestamp", **keys, "days": "int32", "demand": types[self.demand], **floats}


@dataclass(frozen=True, slots=True)
class FeaturesSpec:
    """Feature vectors per key and day of a daily window. ``functions`` is a Python file of the user's."""

    name: str
    window: str  # `from` in TOML
    features: tuple[FeatureSpec, ...]
    functions: str = ""
    functions_sha256: str = ""
    kind: Literal["features"] = "features"

    @property
    def measures(self) -> list[str]:
        """The measures of the window that features look at."""
        return measures_used(self.features)

    @property
    def horizon_days(self) -> int:
        """How far back they look."""
        return max(feature.days for feature in self.features)

    def explain(self) -> str:
        """Say what it does, for people."""
        return f"{len(self.features)} features of {self.window}, up to {self.horizon_days} days back"

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a snapshot to fit: functions may lie elsewhere."""
        return {name: value for name, value in asdict(self).items() if name != "functions"}

    def output_columns(self, window: WindowSpec, columns: Mapping[str, str]) -> dict[str, str]:
        """Return the types of the columns of the result."""
        types = window.output_columns(columns)
        keys = {key: types[key] for key in window.keys}
        return {"day": "timestamp", **keys, **dict.fromkeys((each.name for each in self.features), "float32")}


@dataclass(frozen=True, slots=True)
class MeasuresSpec:
    """Measures of the rows of a closed window, by functions of the user's. ``functions`` is a Python file."""

    name: str
    window: str  # `from` in TOML
    features: tuple[FeatureSpec, ...]  # measures in TOML
    functions: str = ""
    functions_sha256: str = ""
    kind: Literal["measures"] = "measures"

    @property
    def measures(self) -> list[str]:
        """The measures of the window that these look at."""
        return measures_used(self.features)

    def explain(self) -> str:
        """Say what it does, for people."""
        return f"{', '.join(each.name for each in self.features)} of {self.window}"

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a snapshot to fit: functions may lie elsewhere."""
        return {name: value for name, value in asdict(self).items() if name != "functions"}

    def output_columns(self, window: WindowSpec, columns: Mapping[str, str]) -> dict[str, str]:
        """Return the types of the columns of the result: the window's, and behind them the measures."""
        own = dict.fromkeys((each.name for each in self.features), "float64")
        return {**window.output_columns(columns), **own}


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """Where the batches of one output go; ``path`` is empty for stdout."""

    output: str
    type: Literal["parquet", "ndjson", "arrow", "stdout", "kafka"]
    path: str = ""
    partition_by: tuple[str, ...] = ()
    mode: Mode = "error"
    topic: str = ""  # of Kafka, as the rest
    format: Literal["json", "avro", "arrow"] = "json"
    key: tuple[str, ...] = ()  # columns; empty: what names a result


@dataclass(frozen=True, slots=True)
class DeadLetterSpec:
    """Where rejects go."""

    path: str
    type: Literal["ndjson", "parquet", "kafka"] = "ndjson"
    mode: Mode = "error"
    topic: str = ""


@dataclass(frozen=True, slots=True)
class StateSpec:
    """How much memory the state may take (0: a share of all), and how many threads share its keys."""

    memory_limit_bytes: int = 0
    shards: int = 1


@dataclass(frozen=True, slots=True)
class CheckpointSpec:
    """Where and how often the state is written."""

    path: str
    interval_ms: int = 60_000
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"


METRICS_PORT = 9108


@dataclass(frozen=True, slots=True)
class MetricsSpec:
    """Where a running job serves its figures to Prometheus."""

    port: int = METRICS_PORT
    address: str = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A whole job, checked.

    Attributes
    ----------
    rules : tuple of RuleSpec
        In the order in which they name a reason.
    amount : AmountSpec or None
        None when rows carry no amounts.
    device_memory_bytes : int
        How much of the GPU's memory the job may take; 0 for as much as there is.
    source : SourceSpec or None
        None when the caller pushes the data.
    messages : MessageSpec
        What each message is.
    registry : tuple of (str, str)
        Settings of the schema registry's client.
    producer : tuple of (str, str)
        librdkafka's settings for the one producer that all Kafka sinks share.
    """

    name: str
    schema: Schema
    time: TimeSpec = field(default_factory=TimeSpec)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_memory_bytes: int = 0
    threads: int = 1
    source: SourceSpec | None = None
    amount: AmountSpec | None = None
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    sales: SalesSpec | None = None
    rules: tuple[RuleSpec, ...] = ()
    duplicates: DuplicatesSpec | None = None
    windows: tuple[WindowSpec, ...] = ()
    derives: tuple[DeriveSpec | FeaturesSpec | MeasuresSpec, ...] = ()
    sinks: tuple[SinkSpec, ...] = ()
    dead_letter: DeadLetterSpec | None = None
    state: StateSpec = field(default_factory=StateSpec)
    checkpoint: CheckpointSpec | None = None
    messages: MessageSpec = field(default_factory=MessageSpec)
    metrics: MetricsSpec | None = None
    registry: KafkaSettings = ()
    producer: KafkaSettings = ()
    file: str = "<dict>"

    @property
    def columns(self) -> dict[str, str]:
        """The types of the columns that windows and the output ``rows`` see."""
        return with_amounts({**schema_columns(self.schema), **self.message_columns}, self.amount)

    @property
    def message_columns(self) -> dict[str, str]:
        """The types of the columns that messages bring besides their values."""
        return self.source.columns if self.source else {}

    @property
    def exactly_once(self) -> bool:
        """Whether results and offsets move in one Kafka transaction."""
        return self.checkpoint is not None and self.checkpoint.delivery == "exactly_once"

    def overwriting(self) -> JobSpec:
        """Return the job with sinks that replace what is there."""
        letters = self.dead_letter and replace(self.dead_letter, mode="overwrite")
        return replace(
            self, sinks=tuple(replace(sink, mode="overwrite") for sink in self.sinks), dead_letter=letters
        )

    def window(self, name: str) -> WindowSpec:
        """Return the window of this name."""
        return next(window for window in self.windows if window.name == name)


def schema_columns(schema: Schema) -> dict[str, str]:
    """Return the types of the columns by name."""
    return {field.name: field.type for field in schema.fields}


def with_amounts(columns: Mapping[str, str], amount: AmountSpec | None) -> dict[str, str]:
    """Return the types of the rows that windows see: the schema's columns and the amounts."""
    amounts = {} if amount is None or not columns else dict.fromkeys(AMOUNTS, "decimal")
    return {**columns, **amounts}
