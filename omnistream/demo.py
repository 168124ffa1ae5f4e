"""``omnistream demo``: runs a job and shows what a planner would look at, on the terminal and as a report.

Without a job it makes two months of apparel orders first, some of them broken: no data and no network needed.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from omnistream.errors import JobError
from omnistream.job import load_job
from omnistream.report import Mover, PlannerView, ledger_lines, write_report
from omnistream.spec import DeriveSpec, JobSpec

TOP_SKUS = 10
MOVERS = 4
# What the view is made of, and where: the names that a job for the demo gives to its outputs.
OUTPUTS = {"daily": ["sku", "store_id", "units_sold", "net_amount"], "hourly": ["net_amount"], "demand": []}

_BLOCK_BYTES = 4 << 20
_GENERATED = {
    "events": 300_000,
    "span_ms": 56 * 86_400_000,
    "styles": 60,
    "stores": 6,
    "customers": 50_000,
    "dirt": 0.002,
    "duplicates": 0.002,
}

_JOB = """\
# Two months of generated apparel orders: net sales per SKU and store, demand and safety stock.
# Run it again with: omnistream run {file}

[job]
name = "generated orders"

[source]
path = "orders.ndjson"

[schema]
use = "order_flat"

[time]
max_disorder = "30s"

[[clean.rule]]
check = "price_range"
low = 0.01
high = 10_000

[[clean.rule]]
check = "price_below_cost"

[[clean.rule]]
check = "positive_quantity"

[[clean.rule]]
check = "discount_range"

[clean.duplicates]
key = ["event_id"]
within = "1h"

[[window]]
name = "daily"
size = "1d"
keys = ["sku", "store_id"]
measures = ["count", "units_sold", "units_returned", "units_net", "gross_amount", "net_amount"]

[[window]]
name = "hourly"
size = "1h"
keys = ["channel"]
measures = ["count", "orders", "net_amount"]

[[derive]]
name = "demand"
kind = "demand"
from = "daily"
demand = "units_sold"
horizon_days = 28
service_level = 0.95
lead_time_days = 7

[[sink]]
output = "daily"
type = "parquet"
path = "daily"
mode = "overwrite"

[[sink]]
output = "hourly"
type = "parquet"
path = "hourly"
mode = "overwrite"

[[sink]]
output = "demand"
type = "parquet"
path = "demand"
mode = "overwrite"

[dead_letter]
type = "ndjson"
path = "rejects.ndjson"
mode = "overwrite"
"""


def run_demo(
    out: str | os.PathLike[str] = "out/demo", job_path: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Run a job, print what came of it and write a report.

    The last line printed is one JSON object with the counts of the run and the paths of its results.

    Parameters
    ----------
    out : path
        The folder of the report, and of everything else when there is no job.
    job_path : path, optional
        A job with the outputs ``daily``, ``hourly`` and ``demand``, as ``examples/completejourney.toml`` has.
        Where ``NAME.labels.parquet`` (columns ``sku`` and ``label``) stands beside the source
        ``NAME.ndjson``, SKUs are shown with their labels. Two months of generated orders unless given.

    Returns
    -------
    dict
        What the last line shows.
    """
    # The runner brings the extension and every sink: not before somebody wants to run.
    from omnistream.progress import Display
    from omnistream.run import run_job

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    job = load_job(job_path or _generated_job(folder), needs_source=True)
    places = _places(job)
    console = Console(width=None if Console().is_terminal else 100, highlight=False)

    with Display(job.name) as display:
        result = run_job(job, on_progress=display.update if display.active else None)
    summary = _summary(result.to_dict(), places)

    view = _view(job, summary, places)
    report = folder / "report.html"
    write_report(view, report)
    summary["outputs"]["report"] = str(report)
    _print_view(view, console)
    print(json.dumps(summary), flush=True)
    return summary


def _generated_job(folder: Path) -> Path:
    from omnistream._core import Generator

    generator = Generator(**_GENERATED)
    orders, job = folder / "orders.ndjson", folder / "job.toml"
    with orders.open("wb") as file:
        while block := generator.next(_BLOCK_BYTES):
            file.write(block)
    job.write_text(_JOB.format(file=job), encoding="utf-8")
    return job


def _places(job: JobSpec) -> dict[str, str]:
    """Find where each output of the job goes; raise where the view would lack one."""
    places = {sink.output: sink.path for sink in job.sinks if sink.type == "parquet"}
    problems = [
        f'{job.file}: sink: the demo reads "{output}"; add a parquet sink for a window or derive of that name'
        for output in OUTPUTS
        if output not in places
    ]
    for window in job.windows:
        has = {*window.keys, *(measure.name for measure in window.measures)}
        problems += [
            f'{job.file}: window "{window.name}": the demo shows "{column}"; add it to keys or measures'
            for column in OUTPUTS.get(window.name, ())
            if column not in has
        ]
    if problems:
        raise JobError(problems)
    if job.dead_letter is not None:
        places["rejects"] = job.dead_letter.path
    return places


def _summary(run: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """Collect what the last line shows. Every message and every row is in it once: the ledger."""
    counts = (
        "messages",
        "decoded",
        "rejected_messages",
        "rows",
        "rejected_rows",
        "aggregated",
        "late",
        "duplicates",
    )
    return {
        **{name: run[name] for name in counts},
        "rejects": dict(run["rejects"]),
        "ledger_balances": run["messages"] - run["decoded"] + run["rows"]
        == run["aggregated"] + run["late"] + run["duplicates"] + sum(run["rejects"].values()),
        "elapsed_s": run["elapsed_s"],
        "events_per_second": run["events_per_second"],
        "rows_per_second": round(run["rows"] / run["elapsed_s"]) if run["elapsed_s"] else 0,
        "peak_rss_mb": run["peak_rss_mb"],
        "outputs": dict(places),
    }


def _view(job: JobSpec, summary: dict[str, Any], places: Mapping[str, str]) -> PlannerView:
    offset = dt.timedelta(milliseconds=job.window("daily").offset_ms)
    daily = _read(places["daily"], [*OUTPUTS["daily"], "window_start"])
    hourly = _read(places["hourly"], [*OUTPUTS["hourly"], "window_start"])
    demand = _read(places["demand"], ["day", "sku", "store_id", "demand", "mean", "std", "safety_stock"])
    labels = _labels(job)
    specs = [derive for derive in job.derives if isinstance(derive, DeriveSpec)]
    lead_time_days = next(spec for spec in specs if spec.name == "demand").lead_time_days

    days = daily.group_by("window_start").aggregate([("units_sold", "sum"), ("net_amount", "sum")])
    days = days.sort_by("window_start")
    hours = hourly.group_by("window_start").aggregate([("net_amount", "sum")])
    return PlannerView(
        name=job.name,
        summary=summary,
        days=pa.table(
            {
                "day": _local(days["window_start"], offset),
                "units": days["units_sold_sum"],
                "net_amount": days["net_amount_sum"],
            }
        ),
        hours=pa.table(
            {"hour": _local(hours["window_start"], offset), "net_amount": hours["net_amount_sum"]}
        ),
        top_skus=_top_skus(daily, labels),
        movers=_movers(demand, labels, lead_time_days, offset),
    )


def _read(place: str, columns: list[str]) -> pa.Table:
    table = pq.read_table(place, columns=columns)
    for name in ("sku", "store_id"):
        if name in columns:  # dictionaries differ from file to file
            table = table.set_column(
                table.schema.get_field_index(name), name, pc.cast(table[name], pa.string())
            )
    return table


def _labels(job: JobSpec) -> dict[str, str]:
    labels: dict[str, str] = {}
    for file in job.source.path if job.source else ():
        path = Path(file).with_suffix(".labels.parquet")
        if path.is_file():
            labels |= {row["sku"]: row["label"] or "" for row in pq.read_table(path).to_pylist()}
    return labels


def _local(times: Any, offset: dt.timedelta) -> Any:
    """Take UTC to the zoneless local time of a place whose day begins at ``offset``."""
    return pc.subtract(pc.cast(times, pa.timestamp("ms")), pa.scalar(offset, pa.duration("ms")))


def _top_skus(daily: pa.Table, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    sums: list[Any] = [("units_sold", "sum"), ("net_amount", "sum"), ("store_id", "count_distinct")]
    table = (
        daily.group_by("sku")
        .aggregate(sums)
        .sort_by([("net_amount_sum", "descending"), ("sku", "ascending")])
    )
    return [
        {
            "sku": row["sku"],
            "label": labels.get(row["sku"], ""),
            "units": row["units_sold_sum"],
            "net_amount": row["net_amount_sum"],
            "stores": row["store_id_count_distinct"],
        }
        for row in table.slice(0, TOP_SKUS).to_pylist()
    ]


def _movers(
    demand: pa.Table, labels: Mapping[str, str], lead_time_days: float, offset: dt.timedelta
) -> list[Mover]:
    """Find the pairs with the most days of sales, one for each SKU."""
    pairs = demand.group_by(["sku", "store_id"]).aggregate([([], "count_all")])
    pairs = pairs.sort_by([("count_all", "descending"), ("sku", "ascending"), ("store_id", "ascending")])
    movers: dict[str, Mover] = {}
    for pair in pairs.slice(0, 100 * MOVERS).to_pylist():
        sku, store = pair["sku"], pair["store_id"]
        if sku in movers:
            continue
        days = demand.filter((pc.field("sku") == sku) & (pc.field("store_id") == store)).sort_by("day")
        days = days.set_column(0, "day", _local(days["day"], offset))
        movers[sku] = Mover(sku, store, labels.get(sku, ""), days, lead_time_days)
        if len(movers) == MOVERS:
            break
    return list(movers.values())


def _print_view(view: PlannerView, console: Console) -> None:
    summary = view.summary
    console.print(f"\n[bold]{view.name}[/]")
    console.print(
        f"{summary['messages']:,} messages, {summary['rows']:,} rows in {summary['elapsed_s']:.1f} s: "
        f"{summary['events_per_second']:,} messages/s, {summary['rows_per_second']:,} rows/s, "
        f"{summary['peak_rss_mb']:,.0f} MB"
    )

    ledger = _table("Ledger", [""], ["count"])
    for what, count, kind in ledger_lines(summary):
        ledger.add_row(what, f"{count:,}", style="dim" if kind == "lost" else "")
    console.print("", ledger)

    skus = _table("Top SKUs", ["sku", ""], ["net sales", "units", "stores"])
    for sku in view.top_skus:
        skus.add_row(
            sku["sku"], sku["label"], f"{sku['net_amount']:,.2f}", f"{sku['units']:,}", f"{sku['stores']}"
        )
    console.print("", skus)

    stock = _table(
        "Demand and safety stock", ["sku", "", "store"], ["mean a day", "std", "safety stock", "reorder at"]
    )
    for mover in view.movers:
        numbers = [mover.latest(column) for column in ("mean", "std", "safety_stock")]
        stock.add_row(
            mover.sku, mover.label, mover.store, *(f"{n:.2f}" for n in numbers), f"{mover.reorder_point:.1f}"
        )
    console.print("", stock)

    results = _table("Results", ["output", "path"], [])
    for output, path in summary["outputs"].items():
        results.add_row(output, path)
    console.print("", results, "")


def _table(title: str, texts: list[str], numbers: list[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for text in texts:
        table.add_column(text, overflow="fold")
    for number in numbers:
        table.add_column(number, justify="right")
    return table
