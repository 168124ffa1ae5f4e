"""decode on a device: the driver of ``decode.cu``.

A block of messages goes to the device once. Each message is taken there or left to the CPU decoder, which
finishes it or says why it is a reject; its rows then stand between the others, where the message stands. So
the rows, the rejects and the counts are the CPU's, whatever the share that was left (``Decoded.left``).

Strings stay where they are: a row names a piece of `Decoded.bytes`. That is the block, and behind it the
defaults, what had escapes, and what the CPU found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.errors import DecodeError
from omnistream.kernels.columns import NO_DICTIONARIES, Lane
from omnistream.kernels.copies import Block, Download, Downloads, Uploads
from omnistream.kernels.encode import DeviceDictionary
from omnistream.kernels.launch import Launcher, blocks_for
from omnistream.kernels.memory import in_parts
from omnistream.kernels.rows import DeviceRows, MessageOrigin

THREADS = 256
WARP = 32
TILE_BYTES = THREADS * 4 * 8  # as decode.cu: of a block of count_feeds
MOST_LEVELS = 4
MOST_NODES = 64  # bits of a word
MOST_DEPTH = 63
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TAKEN, _LEFT, _BLANK = range(3)
_TYPES = ("bool", "int32", "int64", "decimal", "float64", "timestamp", "string", "dictionary")
_LANES: dict[str, Any] = {"bool": np.uint8, "int32": np.int32, "float64": np.float64}
_TEXTS = ("string", "dictionary")
_LARGEST_COLUMN = 2**31 - 1

_BYTE, _SHORT, _WORD, _LONG = "u1", "u2", "u4", "u8"
_KEY = np.dtype(
    {
        "names": ["head", "text", "size", "kind", "level", "index", "bit"],
        "formats": [_LONG, _WORD, _SHORT, _BYTE, _BYTE, _WORD, _WORD],
    }
)
_FIELD = np.dtype(
    {
        "names": ["type", "level", "coerce", "forms", "bit", "has_default", "unused", "fallback"],
        "formats": [_BYTE, _BYTE, _BYTE, _BYTE, _BYTE, _BYTE, _SHORT, _LONG],
    }
)
_FIELD_KEY, _OBJECT_KEY, _EXPLODE_KEY = 1, 2, 3


def unsupported(schema: dict[str, Any]) -> str | None:
    """Say what of a schema only the CPU decodes, or return None."""
    if schema["array_messages"]:
        return "a message is an array of messages, which is cut up on the CPU"
    if len(_Nodes(schema).keys) > MOST_NODES:
        return f"the fields lie in more than {MOST_NODES} nested objects"
    return None


class _Nodes:
    """The objects that lead to the fields of a schema: as DecodePlan in ``cpp/src/decode_plan.cpp``."""

    def __init__(self, schema: dict[str, Any]) -> None:
        # By node: key to (kind, level, index, bit).
        self.keys: list[dict[bytes, tuple[int, int, int, int]]] = [{}]
        self.roots = [0]
        self.array_bits = [0]
        self._bits = 0
        for level, array in enumerate(schema["explode"], 1):
            parent = self._descend(self.roots[level - 1], array["path"][:-1], level - 1)
            bit = self._next_bit()
            self.roots.append(self._add_node())
            self.array_bits.append(1 << bit)
            self.keys[parent][array["path"][-1].encode()] = (_EXPLODE_KEY, level, self.roots[level], bit)
        for index, each in enumerate(schema["fields"]):
            node = self._descend(self.roots[each["level"]], each["path"][:-1], each["level"])
            self.keys[node][each["path"][-1].encode()] = (_FIELD_KEY, each["level"], index, 0)

    def inner(self, node: int) -> int:
        """Return the bits of all nodes inside a node."""
        nodes = [key for key in self.keys[node].values() if key[0] != _FIELD_KEY]
        return sum(1 << bit | self.inner(index) for _, _, index, bit in nodes)

    def _add_node(self) -> int:
        self.keys.append({})
        return len(self.keys) - 1

    def _next_bit(self) -> int:
        self._bits += 1
        return self._bits - 1

    def _descend(self, node: int, path: Sequence[str], level: int) -> int:
        for key in path:
            if key.encode() not in self.keys[node]:
                made = self._add_node()
                self.keys[node][key.encode()] = (_OBJECT_KEY, level, made, self._next_bit())
            node = self.keys[node][key.encode()][2]
        return node


def compile_schema(schema: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the words that the kernels read a schema from: ``Head`` of ``decode.cuh`` and its tables."""
    nodes = _Nodes(schema)
    fields = np.zeros(len(schema["fields"]), _FIELD)
    by_bit = np.zeros((MOST_LEVELS, 64), np.uint16)
    every, required = [0] * MOST_LEVELS, [0] * MOST_LEVELS
    counts = [0] * MOST_LEVELS
    for index, each in enumerate(schema["fields"]):
        level = each["level"]
        bit = counts[level]
        counts[level] += 1
        every[level] |= 1 << bit
        required[level] |= each["required"] << bit
        by_bit[level, bit] = index
        fields[index] = (
            _TYPES.index(each["type"]),
            level,
            each["coerce"],
            each["timestamp_forms"],
            bit,
            each["has_default"],
            0,
            _fallback(each),
        )
    names = bytearray()
    keys: list[tuple[int, ...]] = []
    firsts: list[tuple[int, int]] = []
    for node in nodes.keys:
        firsts.append((len(keys), len(node)))
        for name, (kind, level, index, bit) in node.items():
            head = int.from_bytes(name[:8], "little")
            keys.append((head, len(names), len(name), kind, level, index, bit))
            names += name

    lines = len(schema["explode"])
    outer = any(each["type"] == "string" and each["level"] < lines for each in schema["fields"])
    depth = min(schema["max_depth"], MOST_DEPTH)
    flags = [int(schema["strict_utf8"]), int(outer)]
    words = [lines + 1, len(fields), depth, schema["max_message_bytes"], *flags]
    padding = [0] * (MOST_LEVELS - 1 - lines)
    words += [*every, *required]
    words += [*(nodes.inner(root) for root in nodes.roots), *padding]
    words += [*nodes.array_bits, *padding, *nodes.roots, *padding]
    tables = [np.array(keys, _KEY), np.array(firsts, np.uint32), fields, by_bit]
    tables.append(np.frombuffer(bytes(names) + b"\0" * (-len(names) % 8), np.uint8))
    at = 8 * (len(words) + len(tables))
    for table in tables:
        words.append(at)
        at += table.nbytes
    pieces = [np.array(words, np.uint64), *tables]
    return np.frombuffer(b"".join(piece.tobytes() for piece in pieces), np.uint64)


def _fallback(each: dict[str, Any]) -> int:
    if not each["has_default"]:
        return 0
    if each["type"] in _TEXTS:
        return len(each["default_string"].encode())
    if each["type"] == "float64":
        return int(np.float64(each["default_float"]).view(np.uint64))
    return int(each["default_integer"]) % 2**64


@dataclass(slots=True)
class Lanes:
    """One column on the device.

    Attributes
    ----------
    values : device array
        By row: uint8 (bool), int32, float64, int64 (int64, decimal in 1/10000, timestamp in ms); of a text
        where it begins in `Decoded.bytes` (int64).
    present : device array
        By row: uint8, 0 for null; of a text its size in bytes, -1 for null (int32).
    """

    values: Any
    present: Any


@dataclass(slots=True)
class Decoded:
    """Rows on the device, in the order of their messages.

    Attributes
    ----------
    columns : dict of str to Lanes
        In the order of the schema. Those of type dictionary are texts, for encode.
    bytes : device array of uint8
    rows : int
    row_message : device array of int64
        By row: its message, counted from the first of the block, blank lines included.
    pieces : callable
        Returns messages by these numbers (int64, on the host).
    source, partition : str, int
    rejects : _core.Batch
    counts : dict of str to int
        As the CPU decoder's, and ``left``: how many messages it finished.
    """

    columns: dict[str, Lanes]
    bytes: Any
    rows: int
    row_message: Any
    pieces: Pieces
    source: str
    partition: int
    rejects: _core.Batch
    counts: dict[str, int]


# Rows, rejects and counts.
Part: TypeAlias = "tuple[DeviceRows, _core.Batch, dict[str, int]]"
Pieces = Callable[[np.ndarray[Any, Any]], _core.Messages]


class DeviceDecoder:
    """Compiled from ``Schema.to_core()``; `unsupported` says which schemas it cannot take.

    Parameters
    ----------
    launcher : Launcher
        The device.
    schema : dict
    dictionaries : mapping of str to _core.Dictionary
        For dictionary fields, as ``_core.Decoder`` takes them; by default each has one of its own.
    """

    def __init__(
        self,
        launcher: Launcher,
        schema: dict[str, Any],
        dictionaries: Mapping[str, _core.Dictionary] = NO_DICTIONARIES,
    ) -> None:
        self._launcher = launcher
        self._xp = launcher.xp
        self._schema = schema
        self._head = launcher.to_device(compile_schema(schema))
        self._uploads = Uploads(launcher)
        self._downloads = Downloads(launcher)
        # Strings get their codes on the device, all of them in the order of the rows: what the CPU finishes
        # comes in codes of its own, which mean nothing elsewhere.
        names = [each["name"] for each in schema["fields"] if each["type"] == "dictionary"]
        self._cpu = _core.Decoder(schema, {name: _core.Dictionary() for name in names})
        self._defaults = b"".join(each["default_string"].encode() for each in schema["fields"])
        self._dictionaries = {name: DeviceDictionary(launcher, dictionaries.get(name)) for name in names}

    @property
    def memory_bytes(self) -> int:
        """Memory on the device between blocks: that of the dictionaries."""
        return sum(each.memory_bytes for each in self._dictionaries.values())

    def send(self, data: Any) -> Block:
        """Start to copy a block to the device, beside the kernels; `decode_lines` takes it later."""
        return self._uploads.send(data)

    def ahead(self, blocks: Iterable[Any]) -> Iterator[Block]:
        """Send blocks of bytes, each while the one before it is decoded."""
        return self._uploads.ahead(blocks)

    def decode_lines(
        self, block: Any, source: str = "push", partition: int = 0, first_position: int = 1
    ) -> Decoded:
        """Decode NDJSON, bytes-like or sent before, as ``_core.Decoder.decode_lines``."""
        sent = block if isinstance(block, Block) else self.send(block)
        data, words = sent.data, sent.arrive()
        xp, size = self._xp, len(data)
        tiles = -(-size // TILE_BYTES)
        counts = xp.zeros(tiles, np.uint32)
        self._launch("count_feeds", tiles, words, np.uint64(size), counts)
        before = _before(xp, counts, np.uint32)
        feeds = int(before[-1])
        ends = xp.empty(feeds + 1, np.int64)
        self._launch("list_feeds", tiles, words, np.uint64(size), before, ends)
        ends[feeds] = size
        begins = xp.zeros(feeds + 1, np.int64)
        begins[1:] = ends[:-1] + 1
        if first_position == 1 and bytes(data[:3]) == _BYTE_ORDER_MARK:
            begins[0] = len(_BYTE_ORDER_MARK)
        messages = feeds + (size > 0 and bytes(data[-1:]) != b"\n")
        begins, ends = begins[:messages], ends[:messages]

        def pieces(numbers: np.ndarray[Any, Any]) -> _core.Messages:
            at = self._launcher.to_device(numbers)
            to_host = self._launcher.to_host
            origin = (numbers.astype(np.int32), source, partition, first_position)
            return _core.Messages.of_pieces(data, to_host(begins[at]), to_host(ends[at]), *origin)

        return self._decode(words, size, begins, ends, feeds + 1, pieces, (source, partition))

    def line_parts(
        self, block: Any, source: str = "push", partition: int = 0, first_position: int = 1
    ) -> Iterator[Part]:
        """Decode NDJSON to rows: all at once, or where memory is short in several parts, one at a time.

        Raises
        ------
        DeviceError
            When memory is short for a single line.
        """

        def run(lines: tuple[Any, int]) -> Part:
            return self._part(self.decode_lines(lines[0], source, partition, lines[1]))

        what = f"decode of {len(block)} bytes"
        yield from in_parts(self._launcher.pool, what, (block, first_position), run, _halves_of_lines)

    def message_parts(self, messages: _core.Messages) -> Iterator[Part]:
        """Decode messages to rows, as `line_parts`."""

        def run(some: _core.Messages) -> Part:
            return self._part(self.decode(some))

        what = f"decode of {len(messages)} messages"
        yield from in_parts(self._launcher.pool, what, messages, run, _halves_of_messages)

    def _part(self, decoded: Decoded) -> Part:
        return self.rows(decoded), decoded.rejects, decoded.counts

    def decode_messages(
        self, messages: object, source: str = "push", partition: int = 0, first_position: int = 0
    ) -> Decoded:
        """Decode messages one by one, as ``_core.Decoder.decode_messages``."""
        return self.decode(_core.Messages(messages, source, partition, first_position))

    def decode(self, messages: _core.Messages) -> Decoded:
        """Decode messages, as ``_core.Decoder.decode``."""
        sizes = np.frombuffer(messages.sizes(), np.uint32).astype(np.int64)
        ends = np.cumsum(sizes)
        size = int(ends[-1]) if ends.size else 0
        words = self._uploads.send_messages(messages, size).arrive()
        begins, ends = (self._launcher.to_device(each) for each in (ends - sizes, ends))
        place = messages.source, messages.partition
        return self._decode(words, size, begins, ends, 0, messages.take, place)

    # ---- the steps, in their order

    def _decode(
        self,
        words: Any,
        size: int,
        begins: Any,
        ends: Any,
        lines: int,
        pieces: Pieces,
        place: tuple[str, int],
    ) -> Decoded:
        xp, messages = self._xp, int(begins.size)
        levels = len(self._schema["explode"]) + 1
        status = xp.empty(messages, np.uint8)
        measured = xp.zeros((levels, messages), np.int32)
        unknown = xp.empty(messages, np.int32)
        unescaped = xp.empty(messages, np.int64)
        grid = blocks_for(messages, THREADS)
        self._launch(
            "measure",
            grid,
            self._head,
            words,
            begins,
            ends,
            np.uint32(messages),
            np.uint32(lines),
            status,
            measured,
            unknown,
            unescaped,
        )
        left = xp.flatnonzero(status == _LEFT)
        finished = self._finish(left, pieces)

        # The bytes that rows point to: the block, defaults, what had escapes, what the CPU found.
        first_bytes = _before(xp, unescaped, np.int64)
        defaults_at = size
        unescaped_at = defaults_at + len(self._defaults)
        found_at = unescaped_at + int(first_bytes[-1])
        texts = self._launcher.to_device(np.frombuffer(self._defaults, np.uint8))
        all_bytes = self._joined(words, size, texts, found_at, finished.texts)

        first_rows = xp.stack([_before(xp, each, np.int32) for each in measured])
        totals = [int(each) for each in self._launcher.to_host(first_rows[:, -1])]
        lanes, at, columns, parents = self._allocate(totals, defaults_at)
        self._launch(
            "write_rows",
            grid,
            self._head,
            words,
            begins,
            ends,
            np.uint32(messages),
            status,
            xp.ascontiguousarray(first_rows[:, :-1]),
            first_bytes[:-1] + unescaped_at,
            lanes,
            at,
            all_bytes,
        )
        rows_around = self._repeat(columns, parents, totals)

        taken = xp.flatnonzero(status == _TAKEN)
        message = taken[rows_around] if totals[-1] else xp.empty(0, np.int64)
        rows, message = self._merge(columns, message, left, finished, found_at)
        lines_of_taken = measured[levels - 1][taken]
        counts = dict(finished.counts)
        counts["messages"] = int((status != _BLANK).sum())
        counts["decoded"] += int(taken.size)
        counts["rows"] = rows
        counts["empty"] += int((lines_of_taken == 0).sum())
        counts["unknown_fields"] += int(unknown.sum())
        counts["left"] = int(left.size)
        return Decoded(columns, all_bytes, rows, message, pieces, *place, finished.rejects, counts)

    def _finish(self, left: Any, pieces: Pieces) -> _Finished:
        """Decode on the CPU what the device has left."""
        numbers = np.ascontiguousarray(self._launcher.to_host(left), np.int64)
        batch, rejects, counts = self._cpu.decode(pieces(numbers))
        counts.pop("speculated")
        row_message = np.frombuffer(batch.row_messages(), np.int32)
        table = pa.record_batch(batch)
        columns = [
            column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for column in table.columns
        ]
        plain = pa.record_batch(columns, names=table.schema.names)
        return _Finished(plain, row_message, rejects, counts)

    def _joined(self, words: Any, size: int, defaults: Any, found_at: int, found: Any) -> Any:
        xp = self._xp
        if found_at + found.size == size:
            return words.view(np.uint8)  # the block is all there is
        joined = xp.empty(found_at + found.size, np.uint8)
        joined[:size] = words.view(np.uint8)[:size]
        joined[size : size + defaults.size] = defaults
        joined[found_at:] = self._launcher.to_device(found)
        return joined

    def _allocate(self, totals: list[int], defaults_at: int) -> tuple[Any, Any, dict[str, Lanes], list[Any]]:
        """One piece of memory for all lanes; where in it they begin is what `at` tells the kernel."""
        at: list[int] = []
        places: list[tuple[int, Any, int]] = []
        size = 0

        def place(dtype: Any, count: int) -> None:
            nonlocal size
            at.append(size)
            places.append((size, dtype, count))
            size += -(-count * np.dtype(dtype).itemsize // 256) * 256

        for each in self._schema["fields"]:
            text = each["type"] in _TEXTS
            place(np.int64 if text else _LANES.get(each["type"], np.int64), totals[each["level"]])
            place(np.int32 if text else np.uint8, totals[each["level"]])
            at.append(defaults_at)
            defaults_at += len(each["default_string"].encode())
        for total in totals:
            place(np.int32, total)
        lanes = self._xp.empty(size, np.uint8)
        views = [
            lanes[begin : begin + count * np.dtype(dtype).itemsize].view(dtype)
            for begin, dtype, count in places
        ]
        fields = self._schema["fields"]
        columns = {
            each["name"]: Lanes(views[2 * index], views[2 * index + 1]) for index, each in enumerate(fields)
        }
        places_at = self._launcher.to_device(np.array(at, np.int64))
        return lanes, places_at, columns, views[2 * len(fields) :]

    def _repeat(self, columns: dict[str, Lanes], parents: list[Any], totals: list[int]) -> Any:
        """Repeat outer values for each line; returns the outermost row around each line."""
        around = self._xp.arange(totals[-1])
        rows = {len(totals) - 1: around}
        for level in range(len(totals) - 1, 0, -1):
            rows[level - 1] = around = parents[level][around]
        for each in self._schema["fields"]:
            if each["level"] != len(totals) - 1:
                lanes, picked = columns[each["name"]], rows[each["level"]]
                columns[each["name"]] = Lanes(lanes.values[picked], lanes.present[picked])
        return around

    def _merge(
        self, columns: dict[str, Lanes], message: Any, left: Any, finished: _Finished, found_at: int
    ) -> tuple[int, Any]:
        """Put the CPU's rows between the device's, in the order of the messages."""
        xp, batch = self._xp, finished.batch
        mine, theirs = int(message.size), batch.num_rows
        if theirs == 0:
            return mine, message
        their_message = left[self._launcher.to_device(finished.row_message)]
        both = xp.concatenate([message, their_message])
        order = xp.argsort(both, kind="stable")
        for each, column in zip(self._schema["fields"], batch.columns, strict=True):
            lanes = columns[each["name"]]
            values, present = host_lanes(column, each["type"])
            if each["type"] in _TEXTS:
                values = values + (found_at + finished.text_at[each["name"]])
            columns[each["name"]] = Lanes(
                xp.concatenate([lanes.values, self._launcher.to_device(values)])[order],
                xp.concatenate([lanes.present, self._launcher.to_device(present)])[order],
            )
        return mine + theirs, both[order]

    def _launch(self, kernel: str, blocks: int, *arguments: Any) -> None:
        self._launcher.launch("decode", kernel, blocks, THREADS, *arguments)

    # ---- out to other stages: Arrow's lanes, and codes for strings

    def rows(self, decoded: Decoded) -> DeviceRows:
        """Return the rows as later stages take them: Arrow's buffers, and codes in dictionary columns."""
        fields = self._schema["fields"]
        columns = {each["name"]: self._lane(decoded, each["name"], each["type"]) for each in fields}
        hosts = {name: dictionary.host for name, dictionary in self._dictionaries.items()}
        exploded = bool(self._schema["explode"])
        place, message = (decoded.source, decoded.partition), decoded.row_message
        origin = MessageOrigin(self._launcher, *place, message, decoded.pieces, self._schema, hosts, exploded)
        types = {each["name"]: each["type"] for each in fields}
        return DeviceRows(self._launcher, columns, types, decoded.rows, origin)

    def _lane(self, decoded: Decoded, name: str, kind: str) -> Lane:
        lanes = decoded.columns[name]
        if kind == "dictionary":
            dictionary = self._dictionaries[name]
            codes = dictionary.encode(decoded.bytes, lanes.values, lanes.present)
            return Lane(codes, self._bitmap(lanes.present >= 0), None, dictionary.host)
        if kind == "string":
            return self._texts(decoded, lanes)
        return Lane(lanes.values, self._bitmap(lanes.present != 0))

    def _texts(self, decoded: Decoded, lanes: Lanes) -> Lane:
        offsets, texts = self._gather(decoded, lanes)
        return Lane(texts, self._bitmap(lanes.present >= 0), offsets)

    def _gather(self, decoded: Decoded, lanes: Lanes) -> tuple[Any, Any]:
        """Return a column of strings as Arrow's offsets and bytes."""
        xp, rows = self._xp, decoded.rows
        offsets = _before(xp, xp.maximum(lanes.present, 0), np.int64)
        size = int(offsets[-1])
        if size > _LARGEST_COLUMN:
            raise DecodeError(
                "the message values repeated for each line exceed 2 GiB in one batch; push fewer messages"
            )
        offsets = offsets.astype(np.int32)
        texts = xp.empty(size, np.uint8)
        arguments = (decoded.bytes, lanes.values, lanes.present, np.uint32(rows), offsets, texts)
        self._launch("gather_texts", blocks_for(WARP * rows, THREADS), *arguments)
        return offsets, texts

    def _bitmap(self, flags: Any) -> Any:
        """Return an Arrow bitmap, or None where nothing is null."""
        return None if bool(flags.all()) else self._bits(flags)

    def _bits(self, flags: Any) -> Any:
        rows = int(flags.size)
        bits = self._xp.empty((rows + 7) // 8, np.uint8)
        grid = blocks_for(int(bits.size), THREADS)
        self._launch("pack_bits", grid, flags.view(np.uint8), np.uint32(rows), bits)
        return bits

    # ---- out to the host

    def to_arrow(self, decoded: Decoded) -> pa.RecordBatch:
        """Copy the rows to the host as Arrow; columns of type dictionary come as utf8."""
        return self.start_to_arrow(decoded)()

    def start_to_arrow(self, decoded: Decoded) -> Callable[[], pa.RecordBatch]:
        """Start to copy the rows to the host, beside the kernels to come; what is returned waits for them."""
        fields = self._schema["fields"]
        names = [each["name"] for each in fields]
        columns = [self._start(decoded, decoded.columns[each["name"]], each["type"]) for each in fields]
        return lambda: pa.record_batch([finish() for finish in columns], names=names)

    def _start(self, decoded: Decoded, lanes: Lanes, kind: str) -> Callable[[], pa.Array]:
        rows = decoded.rows
        if kind in _TEXTS:
            buffers = self._start_texts(decoded, lanes)
            validity = self._start_bitmap(lanes.present >= 0)
            return lambda: pa.Array.from_buffers(pa.utf8(), rows, [_buffer(validity), *map(_buffer, buffers)])
        validity = self._start_bitmap(lanes.present != 0)
        values = self._start_bits(lanes.values) if kind == "bool" else self._downloads.start(lanes.values)
        if kind == "decimal":
            return lambda: pa.Array.from_buffers(
                _ARROW[kind], rows, [_buffer(validity), _widened(values.wait())]
            )
        return lambda: pa.Array.from_buffers(_ARROW[kind], rows, [_buffer(validity), _buffer(values)])

    def _start_texts(self, decoded: Decoded, lanes: Lanes) -> list[Download]:
        return [self._downloads.start(each) for each in self._gather(decoded, lanes)]

    def _start_bitmap(self, flags: Any) -> Download | None:
        bits = self._bitmap(flags)
        return None if bits is None else self._downloads.start(bits)

    def _start_bits(self, flags: Any) -> Download:
        return self._downloads.start(self._bits(flags))


def _buffer(download: Download | None) -> pa.Buffer | None:
    return None if download is None else pa.py_buffer(download.wait())


def _widened(values: np.ndarray[Any, Any]) -> pa.Buffer:
    """Return lanes of 128 bits for lanes of 64."""
    return pa.py_buffer(np.stack([values, values >> 63], axis=1))


_ARROW = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "decimal": pa.decimal128(19, 4),
    "float64": pa.float64(),
    "timestamp": pa.timestamp("ms", "UTC"),
}


class _Finished:
    """What the CPU made of the messages that were left: rows, rejects and counts."""

    def __init__(
        self,
        batch: pa.RecordBatch,
        row_message: np.ndarray[Any, Any],
        rejects: _core.Batch,
        counts: dict[str, int],
    ) -> None:
        self.batch = batch
        self.row_message = row_message
        self.rejects = rejects
        self.counts = counts
        self.text_at: dict[str, int] = {}  # where a column's bytes begin in `texts`
        pieces = []
        size = 0
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_string(column.type) and len(column):
                _, offsets, texts = column.buffers()
                end = int(np.frombuffer(offsets, np.int32)[len(column)])
                self.text_at[name] = size
                pieces.append(np.frombuffer(texts, np.uint8)[:end] if end else np.empty(0, np.uint8))
                size += end
        self.texts = np.concatenate([np.empty(0, np.uint8), *pieces])


def host_lanes(column: pa.Array, kind: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return `Lanes` of an Arrow column in host memory; texts begin at the column's own bytes."""
    rows, buffers = len(column), column.buffers()
    valid = np.ones(rows, np.uint8)
    if column.null_count:
        valid = np.unpackbits(np.frombuffer(buffers[0], np.uint8), count=rows, bitorder="little")
    if kind in _TEXTS:
        offsets = np.frombuffer(buffers[1], np.int32)[: rows + 1]
        sizes = np.where(valid != 0, np.diff(offsets), -1)
        return offsets[:-1].astype(np.int64), sizes.astype(np.int32)
    if kind == "bool":
        return np.unpackbits(np.frombuffer(buffers[1], np.uint8), count=rows, bitorder="little"), valid
    if kind == "decimal":
        return np.frombuffer(buffers[1], np.int64)[: 2 * rows : 2], valid
    return np.frombuffer(buffers[1], _LANES.get(kind, np.int64))[:rows], valid


def _halves_of_lines(lines: tuple[Any, int]) -> tuple[tuple[Any, int], tuple[Any, int]] | None:
    """Cut lines in two at the feed next to the middle; each half with the position of its first line."""
    block, position = lines
    text = bytes(block.data if isinstance(block, Block) else block)
    cut = text.rfind(b"\n", 0, len(text) // 2) + 1 or text.find(b"\n", len(text) // 2) + 1
    if cut in (0, len(text)):
        return None
    return (text[:cut], position), (text[cut:], position + text.count(b"\n", 0, cut))


def _halves_of_messages(messages: _core.Messages) -> tuple[_core.Messages, _core.Messages] | None:
    if len(messages) < 2:
        return None
    numbers = np.arange(len(messages), dtype=np.int64)
    half = len(messages) // 2
    return messages.take(numbers[:half]), messages.take(numbers[half:])


def _before(xp: Any, counts: Any, dtype: Any) -> Any:
    """Return what stands before each item, and behind the last one the sum of all."""
    sums = xp.zeros(counts.size + 1, dtype)
    xp.cumsum(counts, dtype=dtype, out=sums[1:])
    return sums
