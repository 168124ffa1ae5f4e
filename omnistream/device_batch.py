"""Batches in a device's memory: Arrow columns of CuPy, given and taken by the Arrow C Device interface.

Nothing here copies between host and device, but for the methods that say so: `DeviceBatch.from_host` and
`DeviceBatch.to_host`. Whatever speaks ``__arrow_c_device_array__`` (pylibcudf, pyarrow) exchanges batches
with no copy at all, and a column goes to a model through DLPack (`DeviceBatch.lanes`). With NumPy as the
array module the device is the CPU, so that all of it runs without a GPU.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa

from omnistream.errors import DeviceError, SchemaError

CPU, CUDA, CUDA_HOST = 1, 2, 3  # ArrowDeviceType


@dataclass(frozen=True, slots=True)
class DeviceColumn:
    """One Arrow array by its buffers, each an array of bytes in the device's memory, or None.

    ``offset`` counts values that the buffers hold before the first one.
    """

    type: pa.DataType
    length: int
    null_count: int
    offset: int
    buffers: tuple[Any, ...]
    dictionary: DeviceColumn | None = None


class DeviceBatch:
    """Columns of equal length on one device.

    Parameters
    ----------
    schema : pyarrow.Schema
    columns : list of DeviceColumn
        In the order of the schema. Numbers, decimals, timestamps, bools, texts, and dictionaries of texts.
    device_type, device_id : int
        As in the Arrow C Device interface: 1 for the CPU, 2 for CUDA; the number of the GPU, -1 for the CPU.
    """

    def __init__(
        self, schema: pa.Schema, columns: list[DeviceColumn], rows: int, device_type: int, device_id: int
    ) -> None:
        for name, column in zip(schema.names, columns, strict=True):
            _buffer_bytes(column.type, 0, 0, name)  # refuses what has no layout here
        self.schema = schema
        self.columns = columns
        self.rows = rows
        self.device_type = device_type
        self.device_id = device_id

    # ---- from and to the host: the only copies ----

    @classmethod
    def from_host(cls, rows: Any, xp: Any = np) -> Self:
        """Copy an Arrow batch (anything that speaks ``__arrow_c_array__``) to the device of an array module.

        With NumPy nothing is copied: the batch is wrapped.
        """
        batch = pa.record_batch(rows)

        def place(buffer: pa.Buffer | None) -> Any:
            return None if buffer is None else xp.asarray(np.frombuffer(buffer, np.uint8))

        def column(array: pa.Array) -> DeviceColumn:
            dictionary = column(array.dictionary) if pa.types.is_dictionary(array.type) else None
            own = array.indices if dictionary is not None else array
            buffers = tuple(map(place, own.buffers()))
            return DeviceColumn(array.type, len(array), own.null_count, own.offset, buffers, dictionary)

        device = (CPU, -1) if xp is np else (CUDA, int(xp.cuda.Device().id))
        return cls(batch.schema, [column(each) for each in batch.columns], batch.num_rows, *device)

    def to_host(self) -> pa.RecordBatch:
        """Copy the batch to the host; waits for the device. On the CPU nothing is copied."""
        columns = [_host_array(column) for column in self.columns]
        if not columns:
            return pa.RecordBatch.from_struct_array(pa.array([{}] * self.rows, pa.struct([])))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    # ---- without a copy ----

    def lanes(self, name: str) -> Any:
        """Return the values of a column as an array of NumPy or CuPy, which speak DLPack; nothing is copied.

        Codes of a dictionary column are int32, timestamps int64; a decimal is two int64, the low half first.
        What is null is undefined: see `DeviceColumn.null_count`.
        """
        column = self.columns[self.schema.get_field_index(name)]
        kind = column.type.index_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_decimal(kind):
            both = column.buffers[1].view(np.int64).reshape(-1, 2)
            return both[column.offset : column.offset + column.length]
        if pa.types.is_timestamp(kind):
            kind = pa.int64()
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise SchemaError(f"column {name!r} is {column.type}, whose values have no fixed width")
        values = column.buffers[1].view(kind.to_pandas_dtype())
        return values[column.offset : column.offset + column.length]

    @classmethod
    def from_device(cls, rows: Any) -> Self:
        """Wrap a batch of anything that speaks ``__arrow_c_device_array__``; its memory is kept alive.

        Raises
        ------
        DeviceError
            When it lies on a device that has no array module here.
        """
        schema_capsule, array_capsule = rows.__arrow_c_device_array__()
        schema = pa.Schema._import_from_c_capsule(schema_capsule)
        pointer = _pointer(array_capsule, b"arrow_device_array")
        device = ctypes.cast(pointer, ctypes.POINTER(_ArrowDeviceArray)).contents
        wrap = _wrapper(device, array_capsule)
        children = [device.array.children[place].contents for place in range(device.array.n_children)]
        if device.array.offset:
            raise SchemaError("the batch is a slice of a struct array; give the columns their offsets")
        columns = [_imported(child, kind, wrap) for child, kind in zip(children, schema.types, strict=True)]
        return cls(schema, columns, device.array.length, device.device_type, device.device_id)

    def __arrow_c_device_array__(self, requested_schema: object = None, **_: object) -> tuple[object, object]:
        """Return the capsules of the Arrow C Device interface; all work on the memory has been waited for."""
        if self.device_type == CUDA:
            import cupy

            cupy.cuda.get_current_stream(self.device_id).synchronize()
        keep = _Exported([self])
        device = _ArrowDeviceArray()
        device.array = keep.array(None, self.rows, 0, 0, [None], self.columns)
        device.device_id, device.device_type, device.sync_event = self.device_id, self.device_type, None
        schema = self.schema.__arrow_c_schema__()
        return schema, keep.capsule(device)

    def __arrow_c_schema__(self) -> object:
        """Return the capsule of the schema."""
        return self.schema.__arrow_c_schema__()

    # ---- cuDF ----

    def to_cudf(self) -> Any:
        """Return a ``cudf.DataFrame``; columns that cuDF holds as Arrow does are not copied."""
        cudf, pylibcudf = _cudf()
        table = pylibcudf.Table.from_arrow(self)
        return cudf.DataFrame.from_pylibcudf(table, {"columns": self.schema.names})

    @classmethod
    def from_cudf(cls, frame: Any) -> Self:
        """Wrap a ``cudf.DataFrame``; its index is left out."""
        _cudf()
        table, _ = frame.reset_index(drop=True).to_pylibcudf()
        batch = cls.from_device(table)
        names = [str(name) for name in frame.columns]
        batch.schema = pa.schema(
            [each.with_name(name) for each, name in zip(batch.schema, names, strict=True)]
        )
        return batch


# ---- what buffers a type has ----


def _buffer_bytes(kind: pa.DataType, values: int, data_bytes: int, name: str = "") -> list[int]:
    """Return the sizes of the buffers of so many values, the bitmap of nulls first."""
    bitmap = (values + 7) // 8
    if pa.types.is_dictionary(kind):
        return _buffer_bytes(kind.index_type, values, 0, name)
    if pa.types.is_boolean(kind):
        return [bitmap, bitmap]
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return [bitmap, 4 * (values + 1), data_bytes]
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        return [bitmap, 8 * (values + 1), data_bytes]
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
        return [bitmap, values * kind.bit_width // 8]
    raise SchemaError(f"column {name!r} is {kind}, which device batches do not hold; cast it first")


def _host(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())


def _host_array(column: DeviceColumn) -> pa.Array:
    buffers = [None if each is None else pa.py_buffer(_host(each)) for each in column.buffers]
    if column.dictionary is None:
        return pa.Array.from_buffers(column.type, column.length, buffers, column.null_count, column.offset)
    kind = column.type.index_type
    codes = pa.Array.from_buffers(kind, column.length, buffers, column.null_count, column.offset)
    return pa.DictionaryArray.from_arrays(codes, _host_array(column.dictionary), ordered=column.type.ordered)


def _cudf() -> tuple[Any, Any]:
    try:
        import cudf
        import pylibcudf
    except ImportError as error:
        raise DeviceError("cuDF is not installed; pip install 'omnistream[rapids]'") from error
    return cudf, pylibcudf


# ---- the Arrow C Device interface (arrow.apache.org/docs/format/CDeviceDataInterface.html) ----


class _ArrowArray(ctypes.Structure):
    pass


_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(_ArrowArray))
_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.POINTER(_ArrowArray)),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]


class _ArrowDeviceArray(ctypes.Structure):
    _fields_ = (
        ("array", _ArrowArray),
        ("device_id", ctypes.c_int64),
        ("device_type", ctypes.c_int32),
        ("sync_event", ctypes.c_void_p),
        ("reserved", ctypes.c_int64 * 3),
    )


_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)

# Exported arrays that nobody has released yet, by a number that travels in private_data. A consumer may take
# a child out and keep it for longer than the rest, so each part has a number of its own.
_exported: dict[int, _Exported] = {}
_capsules: dict[int, _ArrowDeviceArray] = {}
_numbers = itertools.count(1)


def _release_array(array: Any) -> None:
    released = array.contents
    parts = [released.children[place] for place in range(released.n_children)]
    for part in [*parts, released.dictionary] if released.dictionary else parts:
        if part.contents.release:
            _RELEASE(part.contents.release)(part)
    released.release = None
    _exported.pop(released.private_data, None)  # the last: it may free the parts


def _drop_capsule(capsule: int) -> None:
    pointer = _get_pointer(capsule, b"arrow_device_array")
    device = ctypes.cast(pointer, ctypes.POINTER(_ArrowDeviceArray)).contents
    number = device.array.private_data
    if device.array.release:  # nobody took it
        _release(ctypes.pointer(device.array))
    _capsules.pop(number, None)


_release = _RELEASE(_release_array)
_destructor = _DESTRUCTOR(_drop_capsule)


@dataclass
class _Exported:
    """What an exported array points to."""

    kept: list[Any] = field(default_factory=list)

    def array(
        self,
        dictionary: DeviceColumn | None,
        length: int,
        null_count: int,
        offset: int,
        buffers: list[Any],
        children: list[DeviceColumn],
    ) -> _ArrowArray:
        array = _ArrowArray(length=length, null_count=null_count, offset=offset)
        array.n_buffers, array.n_children = len(buffers), len(children)
        array.buffers = (ctypes.c_void_p * len(buffers))(*map(_address, buffers))
        parts = [self._column(child) for child in children]
        array.children = (ctypes.POINTER(_ArrowArray) * len(parts))(*map(ctypes.pointer, parts))
        if dictionary is not None:
            array.dictionary = ctypes.pointer(self._column(dictionary))
        array.release = ctypes.cast(_release, ctypes.c_void_p)
        array.private_data = next(_numbers)
        _exported[array.private_data] = self
        self.kept += [buffers, parts, array.buffers, array.children, array.dictionary]
        return array

    def _column(self, column: DeviceColumn) -> _ArrowArray:
        buffers = list(column.buffers)
        return self.array(column.dictionary, column.length, column.null_count, column.offset, buffers, [])

    def capsule(self, device: _ArrowDeviceArray) -> object:
        _capsules[device.array.private_data] = device
        destructor = ctypes.cast(_destructor, ctypes.c_void_p)
        capsule: object = _api.PyCapsule_New(ctypes.addressof(device), b"arrow_device_array", destructor)
        return capsule


def _address(buffer: Any) -> int | None:
    if buffer is None:
        return None
    return int(buffer.ctypes.data) if isinstance(buffer, np.ndarray) else int(buffer.data.ptr)


def _pointer(capsule: object, name: bytes) -> int:
    return int(_api.PyCapsule_GetPointer(capsule, name))


def _wrapper(device: _ArrowDeviceArray, owner: object) -> Any:
    """Return what makes an array of bytes of a pointer, for the device of the batch."""
    if device.device_type in (CPU, CUDA_HOST):

        def wrap(pointer: int | None, size: int) -> Any:
            if not pointer:
                return None
            memory = (ctypes.c_uint8 * size).from_address(pointer)
            memory.owner = owner  # type: ignore[attr-defined]
            return np.ctypeslib.as_array(memory)

        return wrap
    if device.device_type != CUDA:
        raise DeviceError(
            f"the batch is on a device of Arrow's type {device.device_type}; move it to CUDA or host"
        )
    import cupy

    if device.sync_event:
        event = ctypes.cast(device.sync_event, ctypes.POINTER(ctypes.c_void_p)).contents.value
        cupy.cuda.runtime.streamWaitEvent(cupy.cuda.get_current_stream().ptr, event)

    def wrap_cuda(pointer: int | None, size: int) -> Any:
        if not pointer:
            return None
        memory = cupy.cuda.UnownedMemory(pointer, size, owner, device.device_id)
        return cupy.ndarray((size,), np.uint8, cupy.cuda.MemoryPointer(memory, 0))

    return wrap_cuda


def _imported(array: _ArrowArray, kind: pa.DataType, wrap: Any) -> DeviceColumn:
    values = array.offset + array.length
    pointers = [array.buffers[place] for place in range(array.n_buffers)]
    sizes = _buffer_bytes(kind, values, 0)
    buffers = [wrap(pointer, size) for pointer, size in zip(pointers, sizes, strict=True)]
    if len(buffers) == 3 and buffers[1] is not None:
        width = np.int64 if sizes[1] == 8 * (values + 1) else np.int32
        # One number comes to the host: how long the texts are.
        data_bytes = int(_host(buffers[1].view(width)[values : values + 1])[0])
        buffers[2] = wrap(pointers[2], data_bytes)
    dictionary = None
    if pa.types.is_dictionary(kind):
        dictionary = _imported(array.dictionary.contents, kind.value_type, wrap)
    return DeviceColumn(kind, array.length, array.null_count, array.offset, tuple(buffers), dictionary)
