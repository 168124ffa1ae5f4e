"""Device batches: the Arrow C Device interface both ways, DLPack out, copies only where the name says so."""

from __future__ import annotations

import gc
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream import device_batch
from omnistream.device_batch import CPU, CUDA, DeviceBatch
from omnistream.errors import DeviceError, SchemaError
from tests.engines import missing_for_numba_cuda

TYPES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.timestamp("ms", "UTC"): st.integers(0, 2**40),
    pa.decimal128(19, 4): st.integers(-(2**62), 2**62).map(lambda units: Decimal(units).scaleb(-4)),
    pa.string(): st.text(max_size=9),
    pa.large_string(): st.text(max_size=3),
    pa.binary(): st.binary(max_size=5),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["a", "é", ""]),
}


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """A batch of some types, with nulls, each column perhaps a slice of a longer one."""
    rows = draw(st.integers(0, 20))
    columns = []
    for kind in draw(st.lists(st.sampled_from([*TYPES]), max_size=4)):
        before = draw(st.integers(0, 9))
        many = before + rows
        values = draw(st.lists(st.one_of(st.none(), TYPES[kind]), min_size=many, max_size=many))
        dictionary = pa.types.is_dictionary(kind)
        column = pa.array(values, pa.string()).dictionary_encode() if dictionary else pa.array(values, kind)
        columns.append(column.slice(before))
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, names=[f"c{place}" for place in range(len(columns))])


def test_this_process_keeps_nothing_of_what_was_released() -> None:
    batch = DeviceBatch.from_host(pa.record_batch({"x": [1, 2, 3]}))

    def held() -> int:
        return len({id(each) for each in device_batch._exported.values()})

    before = held()
    for _ in range(3):
        batch.__arrow_c_device_array__()  # nobody takes it
    taken = [pa.record_batch(batch) for _ in range(3)]
    gc.collect()
    assert held() == before + len(taken)
    del taken
    gc.collect()
    assert held() == len(device_batch._capsules) == before


@given(batches())
def test_a_batch_goes_to_arrow_and_back(batch: pa.RecordBatch) -> None:
    ours = DeviceBatch.from_host(batch)
    assert (ours.device_type, ours.device_id, ours.rows) == (CPU, -1, batch.num_rows)
    theirs = pa.record_batch(ours)
    theirs.validate(full=True)
    assert theirs.equals(batch)
    again = DeviceBatch.from_device(theirs)
    del theirs, ours
    gc.collect()
    host = again.to_host()
    host.validate(full=True)
    assert host.equals(batch)


def test_nothing_is_copied_on_the_way() -> None:
    values = np.arange(1000, dtype=np.int64)
    batch = pa.record_batch({"x": pa.array(values)})
    ours = DeviceBatch.from_device(pa.record_batch(DeviceBatch.from_host(batch)))
    assert ours.lanes("x").ctypes.data == values.ctypes.data
    assert ours.to_host().column("x").buffers()[1].address == values.ctypes.data


def test_columns_go_to_models_by_dlpack() -> None:
    batch = pa.record_batch(
        {
            "x": pa.array([1.5, 2.5, 3.5], pa.float32()).slice(1),
            "at": pa.array([7, 8], pa.timestamp("ms", "UTC")),
            "sku": pa.array(["b", "a"]).dictionary_encode(),
            "price": pa.array([Decimal("1.5"), Decimal(-1)], pa.decimal128(19, 4)),
            "text": ["p", "q"],
        }
    )
    ours = DeviceBatch.from_host(batch)
    assert np.from_dlpack(ours.lanes("x")).tolist() == [2.5, 3.5]
    assert ours.lanes("at").tolist() == [7, 8]
    assert ours.lanes("sku").tolist() == [0, 1]
    assert ours.lanes("price")[:, 0].tolist() == [15_000, -10_000]
    with pytest.raises(SchemaError, match="column 'text' is string, whose values have no fixed width"):
        ours.lanes("text")


def test_types_without_a_layout_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"column 'x' is list<.*>, which device batches do not hold"):
        DeviceBatch.from_host(pa.record_batch({"x": [[1]]}))


def test_cudf_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cudf", None)
    with pytest.raises(DeviceError, match=r"pip install 'omnistream\[rapids\]'"):
        DeviceBatch.from_host(pa.record_batch({"x": [1]})).to_cudf()


def test_a_batch_on_the_gpu() -> None:
    missing = missing_for_numba_cuda()
    if missing:
        pytest.skip(f"cuda: {missing}")
    import cupy

    batch = pa.record_batch({"x": [1, None, 3], "s": ["a", None, "ccc"]})
    ours = DeviceBatch.from_host(batch, cupy)
    again = DeviceBatch.from_device(ours)
    assert again.device_type == CUDA
    assert again.lanes("x").data.ptr == ours.lanes("x").data.ptr
    assert again.to_host().equals(batch)


def test_a_frame_of_cudf() -> None:
    cudf = pytest.importorskip("cudf", reason="cuDF is not installed (pip install 'omnistream[rapids]')")
    frame = cudf.DataFrame({"x": [1, 2], "s": ["a", "bb"]})
    batch = DeviceBatch.from_cudf(frame)
    assert batch.to_host().to_pydict() == {"x": [1, 2], "s": ["a", "bb"]}
    assert batch.to_cudf().equals(frame)
