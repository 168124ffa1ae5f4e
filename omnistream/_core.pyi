"""The C++ core. Batches speak the Arrow PyCapsule protocol; every call that does work releases the GIL."""

from collections.abc import Sequence
from typing import Any

class Batch:
    """Columns of one stage, with the origin of each row. Wrap with ``pyarrow.record_batch(batch)``."""

    rows: int
    source: str
    partition: int
    positions: int  # of a block of lines: how many there were
    names: list[str]
    def row_messages(self) -> bytes:
        """An int32 for each row: which message it is from."""
    def count_texts(self, column: str) -> list[tuple[str, int]]:
        """How often each text of a column is there, by first appearance; meant for a few different ones."""
    def __arrow_c_array__(self, requested_schema: object = ...) -> tuple[object, object]: ...
    def __arrow_c_schema__(self) -> object: ...

class CleanBatch:
    """A batch and the rows of it that survived clean."""

    def __init__(self, batch: Batch, rows: object, watermarks_ms: object, owner: int) -> None:
        """``rows`` (int32, ascending) and the ``watermarks_ms`` (int64) that they met are buffers."""
    rows: int
    owner: int
    batch: Batch
    def with_batch(self, batch: Batch) -> CleanBatch:
        """The same survivors over a batch with more columns."""
    def to_batch(self) -> Batch:
        """Survivors only, copied."""
    def survivors(self) -> Batch:
        """Two columns: ``row`` (int32), ascending, and the ``watermark_ms`` (int64) that it met."""
    def row_numbers(self) -> list[int]: ...
    def watermarks_ms(self) -> list[int]: ...

class Dictionary:
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def encode(self, texts: Sequence[bytes]) -> list[int]: ...
    def values(self) -> list[bytes]: ...
    def to_batch(self, first: int = ...) -> Batch:
        """One column ``value`` (utf8): the strings from code `first` on, in code order."""
    def freeze(self) -> FrozenTexts: ...
    def restore(self, batch: object) -> None: ...
    memory_bytes: int

class FrozenTexts:
    """The strings of a dictionary at one moment, while the dictionary goes on."""

    def to_batch(self) -> Batch:
        """As `Dictionary.to_batch`; in any thread."""

class Decoder:
    """Compiled from ``Schema.to_core()``; ``dictionaries`` maps field names to shared dictionaries."""

    def __init__(self, schema: dict[str, Any], dictionaries: dict[str, Dictionary]) -> None: ...
    def decode_lines(
        self,
        block: bytes | bytearray | memoryview,
        source: str = ...,
        partition: int = ...,
        first_position: int = ...,
    ) -> tuple[Batch, Batch, dict[str, int]]:
        """NDJSON bytes (kept alive, must not change) to (batch, rejects, counts)."""
    def decode_messages(
        self, messages: object, source: str = ..., partition: int = ..., first_position: int = ...
    ) -> tuple[Batch, Batch, dict[str, int]]:
        """Messages (an Arrow binary or string array, or a list of bytes) to (batch, rejects, counts)."""

    def decode_block(self, block: MessageBlock) -> tuple[Batch, Batch, dict[str, int]]:
        """Messages of one Kafka partition to (batch, rejects, counts). A block can be decoded once."""

    def decode(self, messages: Messages) -> tuple[Batch, Batch, dict[str, int]]:
        """Messages to (batch, rejects, counts)."""

class DecodeStream:
    """NDJSON bytes (kept alive, must not change) as an Arrow stream of batches, decoded when asked for.

    A batch is of whole lines, at least ``block_bytes`` together but for the last. Neither decoding nor
    handing a batch on needs the GIL: streams with decoders of their own do not wait for each other.
    """

    def __init__(
        self,
        decoder: Decoder,
        lines: bytes | bytearray | memoryview,
        block_bytes: int,
        source: str = ...,
        partition: int = ...,
        first_position: int = ...,
    ) -> None: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Read on from where the stream is: batches are handed out once."""

    @property
    def counts(self) -> dict[str, int]:
        """Of what was decoded so far."""

    def take_rejects(self) -> list[Batch]:
        """Return what was rejected so far and not taken before, in order."""

class AvroDecoder:
    """Compiled from ``Schema.to_core()``.

    ``framed``: messages carry the id of their schema, and ``writer`` is called with each new id for its types
    (``omnistream.avro``), or None for an id that nobody knows. Else ``writer`` is the types of all messages.
    """

    def __init__(
        self, schema: dict[str, Any], dictionaries: dict[str, Dictionary], writer: object, framed: bool
    ) -> None: ...
    def decode_messages(
        self, messages: object, source: str = ..., partition: int = ..., first_position: int = ...
    ) -> tuple[Batch, Batch, dict[str, int]]:
        """Messages (an Arrow binary or string array, or a list of bytes) to (batch, rejects, counts)."""
    def decode_block(self, block: MessageBlock) -> tuple[Batch, Batch, dict[str, int]]:
        """Messages of one Kafka partition to (batch, rejects, counts). A block can be decoded once."""

def encode_avro(rows: object, frame: bytes) -> Batch:
    """Rows as Avro records behind a frame, in one column ``value`` (binary)."""

class Messages:
    """Messages that Python or a device decodes, with where they come from. Lanes come as buffers."""

    source: str
    partition: int

    def __init__(self, messages: object, source: str, partition: int, first_position: int) -> None: ...
    @staticmethod
    def of_block(block: MessageBlock) -> Messages:
        """Take the messages of a block, which can be done once."""
    @staticmethod
    def of_pieces(
        block: object,
        begins: object,
        ends: object,
        ordinals: object,
        source: str,
        partition: int,
        first_position: int,
    ) -> Messages:
        """Pieces of a block by begin and end (int64); ``ordinals`` (int32) count from ``first_position``."""
    def take(self, indices: object) -> Messages:
        """Some of the messages (int64)."""
    def sizes(self) -> bytes:
        """A uint32 for each message."""
    def copy_to(self, target: object) -> None:
        """Write the messages one behind the other into a buffer."""
    def rows(
        self,
        rows: object,
        schema: dict[str, Any],
        dictionaries: dict[str, Dictionary],
        messages: object,
        exploded: bool,
    ) -> Batch:
        """Rows that were decoded elsewhere; ``messages`` (int32) are theirs. Dictionary columns are int32."""
    def refuse(self, lines: object, faults: object, stage: str, known: list[tuple[str, str]]) -> Batch:
        """A reject record for each message: its line (int32, -1: none), and which (reason, field) (int32)."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> bytes: ...
    def import_rows(self, index: int, rows: object, schema: dict[str, Any]) -> Batch:
        """The rows of one message, with its position; see ``import_rows``."""
    def rejects(self, faults: list[tuple[int, str, str]]) -> Batch:
        """Reject records of messages: (index, reason of decode, field or "")."""

def decode_isa() -> str: ...
def decode_isas() -> list[str]: ...
def force_decode_isa(name: str) -> None: ...
def import_rows(
    rows: object, schema: dict[str, Any], source: str = ..., partition: int = ..., first_position: int = ...
) -> Batch:
    """A struct array (PyCapsule protocol) whose columns have exactly the schema's Arrow types to a batch."""

class Translation:
    """The codes of a dictionary that another thread adds to, in `ours`."""

    def __init__(self, ours: Dictionary) -> None: ...
    def learn(self, texts: Batch) -> None:
        """Take the strings that it has got since the last call: ``dictionary.to_batch(first)``."""

def translate_columns(batch: Batch, translations: dict[str, Translation]) -> Batch:
    """Dictionary columns in the codes of the translations' own dictionaries."""

def encode_columns(batch: Batch, dictionaries: dict[str, Dictionary]) -> Batch:
    """Replace utf8 columns named in `dictionaries` by dictionary columns."""

def add_amounts(
    batch: Batch, quantity: str, unit_price: str, discount: str, wanted: list[str] = ...
) -> tuple[Batch, list[int]]:
    """Add ``gross_amount`` and ``amount``, or those wanted; rows in which either overflows are listed."""

ALL_OWNERS: int

class Watermark:
    NONE: int
    END: int
    def __init__(self, max_disorder_ms: int) -> None: ...
    def declare(self, source: str, partition: int) -> None: ...
    def set_idle(self, source: str, partition: int) -> None: ...
    def advance(self, value_ms: int) -> None: ...
    def slot(self, source: str, partition: int) -> int:
        """The number by which a partition owns state."""
    def drop(self, slot: int) -> None: ...
    def take(self, partition: dict[str, Any], value_ms: int) -> int:
        """Add an item of another snapshot's "partitions"; returns its slot here."""
    @property
    def value_ms(self) -> int: ...
    @property
    def max_event_time_ms(self) -> int: ...
    def snapshot(self) -> dict[str, Any]: ...
    def restore(self, snapshot: dict[str, Any]) -> None: ...

class Cleaner:
    """``rules``: dicts with the keys of clean.hpp's Rule. ``duplicates``: {"key": [...], "within_ms": n}."""

    def __init__(
        self,
        rules: list[dict[str, Any]],
        time_column: str,
        watermark: Watermark,
        duplicates: dict[str, Any] | None,
    ) -> None: ...
    def clean(
        self, batch: Batch, now_ms: int, overflowed: list[int] = ...
    ) -> tuple[CleanBatch, Batch, dict[str, int]]: ...
    def drop_duplicates(self, batch: Batch) -> CleanBatch:
        """As `clean`, of rows that have passed the rules elsewhere; they need the key and the time alone."""
    @property
    def remembered(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    def snapshot(self, owner: int = ...) -> Batch | None: ...
    def restore(self, batch: object) -> None: ...
    def drop(self, owner: int) -> None: ...
    def take(self, batch: object, from_owner: int, to: int, watermark_ms: int) -> None: ...

class Sales:
    """``options``: {"key": [...], "within_ms": n, "time_column": name, "condition": {...}}."""

    def __init__(self, options: dict[str, Any]) -> None: ...
    def look_up(self, batch: CleanBatch) -> Batch: ...
    @property
    def remembered(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    def snapshot(self, owner: int = ...) -> Batch: ...
    def restore(self, batch: object) -> None: ...
    def drop(self, owner: int) -> None: ...
    def take(self, batch: object, from_owner: int, to: int, watermark_ms: int) -> None: ...

class Window:
    """``spec``: a dict with the keys of window.hpp's WindowSpec, and "types": {column: type name}."""

    def __init__(self, spec: dict[str, Any]) -> None: ...
    def push(self, batch: CleanBatch) -> list[int]:
        """Returns the row numbers (of ``batch.batch``) that came late."""
    def advance(self, watermark_ms: int) -> list[Batch]: ...
    def empty_result(self) -> Batch: ...
    aggregated: int
    late: int
    open_windows: int
    groups: int
    memory_bytes: int
    def freeze(self, owner: int = ...) -> FrozenWindow: ...
    def snapshot(self, owner: int = ...) -> dict[str, Batch]:
        """What `freeze` writes, at once."""
    def restore(self, parts: dict[str, object]) -> None: ...
    def drop(self, owner: int) -> None: ...
    def take(self, parts: dict[str, object], from_owner: int, to: int) -> None: ...

class FrozenWindow:
    """The state of a window at one moment, while the window goes on."""

    def write(self) -> dict[str, Batch]:
        """Returns the parts of a snapshot, once; in any thread, and without the GIL."""

class KeyShards:
    """Shares rows out by the hash of their key columns."""

    def __init__(self, keys: list[str], shards: int) -> None: ...
    def split(self, clean: CleanBatch) -> list[CleanBatch]: ...
    def shards_of(self, batch: object, prefix: str = ...) -> list[int]:
        """The shard of each row, whose key columns have names that begin with `prefix`."""

def merge_closed(closed: list[Batch], by: list[str], each_start: bool) -> list[Batch]:
    """Put together what shards have closed, each batch ordered by some columns; one for each window start."""

class Demand:
    """``spec``: a dict with the keys of demand.hpp's DemandSpec, and "types": {column: type name}."""

    def __init__(self, spec: dict[str, Any]) -> None: ...
    def push(self, day: Batch) -> Batch: ...
    def current(self) -> Batch: ...
    def without_row(self) -> Batch: ...
    def empty_result(self) -> Batch: ...
    keys: int
    memory_bytes: int
    def snapshot(self, owner: int = ...) -> Batch: ...
    def restore(self, batch: object) -> None: ...
    def drop(self, owner: int) -> None: ...
    def take(self, batch: object, from_owner: int, to: int) -> None: ...

KAFKA_BEGINNING: int
KAFKA_END: int
KAFKA_NO_OFFSET: int

def kafka_library_version(library: str) -> str: ...

class KafkaPartition:
    """A partition and a place in it. ``end``: the first offset that is not read; -1 for none."""

    def __init__(
        self, topic: str, partition: int, offset: int = ..., metadata: str = ..., end: int = ...
    ) -> None: ...
    topic: str
    partition: int
    offset: int
    metadata: bytes
    end: int

class MessageBlock:
    """Messages of one partition, their values in one piece of memory."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    tombstones: int
    value_bytes: int
    newest_ms: int
    def __len__(self) -> int: ...
    def to_batch(self) -> Batch:
        """One column ``value`` (binary) of the messages, which shares the block's memory."""

def with_details(batch: Batch, block: MessageBlock, columns: list[tuple[str, str]]) -> Batch:
    """Add columns of what the messages carried: (name, key|timestamp|partition|offset|header:<name>)."""

class KafkaConsumer:
    """Settings are librdkafka's. One thread at a time may use it; times are in ms."""

    def __init__(
        self,
        library: str,
        settings: list[tuple[str, str]],
        defaults: list[tuple[str, str]] = ...,
        timestamps: bool = ...,
        keys: bool = ...,
        headers: list[str] = ...,
    ) -> None: ...
    def topics(self, timeout_ms: int) -> dict[str, int]:
        """Partitions of every topic of the cluster."""
    def range(self, topic: str, partition: int, timeout_ms: int) -> tuple[int, int]:
        """The first offset, and the one behind the last."""
    def offsets_at(self, partitions: list[KafkaPartition], timeout_ms: int) -> list[KafkaPartition]:
        """``offset`` is a time in ms on entry, an offset on return."""
    def committed(self, partitions: list[KafkaPartition], timeout_ms: int) -> list[KafkaPartition]: ...
    def commit(self, partitions: list[KafkaPartition]) -> None: ...
    def subscribe(self, topics: list[str]) -> None: ...
    def assign(self, partitions: list[KafkaPartition]) -> None: ...
    def unassign(self, partitions: list[KafkaPartition]) -> None: ...
    def seek(self, partitions: list[KafkaPartition], timeout_ms: int) -> None: ...
    def pause(self, partitions: list[KafkaPartition]) -> None: ...
    @property
    def cooperative(self) -> bool: ...
    def poll(
        self, timeout_ms: int, max_bytes: int, max_messages: int
    ) -> tuple[list[MessageBlock], list[KafkaPartition]]:
        """Blocks, and the partitions that were read to their present end (its offset)."""
    def take_rebalance(self) -> tuple[str, list[KafkaPartition]] | None:
        """``assigned``, ``revoked`` or ``lost``; answer with `assign` or `unassign`."""
    def high_watermark(self, topic: str, partition: int) -> int: ...
    def take_log(self) -> list[tuple[int, str]]:
        """(syslog level, line) pairs since the last call."""
    def close(self) -> None: ...

class KafkaProducer:
    """Settings are librdkafka's. One thread at a time may use it; times are in ms."""

    def __init__(
        self, library: str, settings: list[tuple[str, str]], defaults: list[tuple[str, str]] = ...
    ) -> None: ...
    def partitions(self, topic: str, timeout_ms: int) -> int: ...
    def produce(
        self,
        topic: str,
        values: object,
        keys: object = ...,
        headers: list[tuple[str, str]] = ...,
        row_headers: list[tuple[str, object]] = ...,
    ) -> None:
        """A message per value of an Arrow binary or string array; keys and row headers are arrays, too."""
    def flush(self, timeout_ms: int) -> None: ...
    def init_transactions(self, timeout_ms: int) -> None: ...
    def begin(self) -> None: ...
    def send_offsets(self, offsets: list[KafkaPartition], group: KafkaConsumer, timeout_ms: int) -> None: ...
    def commit(self, timeout_ms: int) -> None: ...
    def abort(self, timeout_ms: int) -> None: ...
    def take_log(self) -> list[tuple[int, str]]: ...

def rejects(batch: Batch, rows: list[int], stage: str, reason: str, field: str) -> Batch:
    """Reject records for rows that a Python stage refuses (late rows, for one)."""

def refuse_rows(
    batch: Batch, rows: object, faults: object, stage: str, known: list[tuple[str, str]]
) -> Batch:
    """Reject records for rows (int32) with a (reason, field) each, by number (int32)."""

class Generator:
    def __init__(self, **spec: Any) -> None: ...
    def next(self, size_bytes: int) -> bytes | None: ...
    @property
    def events(self) -> int: ...
    def counts(self) -> dict[str, Any]:
        """The members of generate.hpp's GenerateCounts; ``by_type`` and ``broken`` are dicts."""
