"""encode: strings of rows that arrive as Arrow columns, to codes of dictionaries that know them or not."""

from __future__ import annotations

import pyarrow as pa
import pytest
from conftest import EVENTS, Measure, Orders

from omnistream import _core
from omnistream.encode import Encode


def work(encode: Encode, batches: list[_core.CleanBatch]) -> list[_core.CleanBatch]:
    return [encode.run(batch) for batch in batches]


def foreign(orders: Orders) -> list[_core.CleanBatch]:
    """The same rows with dictionaries of their own, as a pushed record batch has them."""
    schema = orders.job.schema.select([field.name for field in orders.job.schema.fields])
    columns = [field.name for field in schema.fields]
    return [
        clean.with_batch(
            _core.import_rows(pa.record_batch(clean.batch).select(columns), schema.to_core(), "bench")
        )
        for clean in orders.clean
    ]


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def bench_encode(measure: Measure, orders: Orders, known: bool) -> None:
    batches = foreign(orders)
    encode = Encode(orders.job.schema)
    for encoded, clean in zip(work(encode, batches), orders.clean, strict=True):
        ours, theirs = (pa.record_batch(each.to_batch()) for each in (encoded, clean))
        for name in encode.dictionaries:
            assert ours.column(name).cast(pa.utf8()).equals(theirs.column(name).cast(pa.utf8()))
    measure(work, EVENTS, setup=lambda: (encode if known else Encode(orders.job.schema), batches))
