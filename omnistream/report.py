"""The planner's report: one HTML file that needs nothing else, tables as HTML and plots as inline SVG."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from omnistream.errors import OmnistreamError

# One blue for what was sold, one orange for the stock to hold, greys for the rest: distinct in print, too.
INK, MUTED, GRID = "#1d2733", "#66727f", "#e3e8ee"
SALES, COMPUTED, STOCK = "#2f6db5", "#1d2733", "#e07b00"

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAYS_PER_WEEK, HOURS_PER_DAY = 7, 24


@dataclass(frozen=True, slots=True)
class Mover:
    """One SKU at one store: its days of sales, and the demand statistics as each of them closed."""

    sku: str
    store: str
    label: str
    days: pa.Table  # day, demand, mean, std, safety_stock; only days with a sale
    lead_time_days: float

    def latest(self, column: str) -> float:
        """Return the last value of a column."""
        return float(self.days[column][-1].as_py())

    @property
    def reorder_point(self) -> float:
        """Demand expected over the lead time, and the safety stock."""
        return self.latest("mean") * self.lead_time_days + self.latest("safety_stock")


@dataclass(frozen=True, slots=True)
class PlannerView:
    """What a planner looks at after a run.

    Attributes
    ----------
    summary : mapping
        The counts of the run, as the command prints them.
    days : pyarrow.Table
        Columns ``day``, ``units``, ``net_amount``, by day.
    hours : pyarrow.Table
        Columns ``hour`` (local timestamps), ``net_amount``.
    top_skus : list of dict
        Keys ``sku``, ``label``, ``units``, ``net_amount``, ``stores``, best first.
    movers : sequence of Mover
        The SKU x store pairs that sell on most days.
    """

    name: str
    summary: Mapping[str, Any]
    days: pa.Table
    hours: pa.Table
    top_skus: list[dict[str, Any]]
    movers: Sequence[Mover]


def ledger_lines(summary: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """List the ledger as (what, count, kind); kind is "total" or "lost"."""
    lost = {**{f"rejected: {why}": count for why, count in sorted(summary["rejects"].items())}}
    lost |= {"duplicates": summary["duplicates"], "late": summary["late"]}
    return [
        ("messages read", summary["messages"], "total"),
        ("messages decoded", summary["decoded"], "total"),
        ("rows decoded", summary["rows"], "total"),
        *((what, count, "lost") for what, count in lost.items()),
        ("rows aggregated", summary["aggregated"], "total"),
    ]


def write_report(view: PlannerView, path: Path) -> None:
    """Write the report. Needs matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise OmnistreamError("the report needs matplotlib; install omnistream[demo]") from error
    with mpl.rc_context(_STYLE):
        figures = {
            "days": _svg(_sales_per_day(view.days), "days"),
            "hours": _svg(_sales_by_hour(view.hours), "hours"),
            "movers": _svg(_demand_curves(view.movers), "movers"),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(view, figures), encoding="utf-8")


# The page.


def _page(view: PlannerView, figures: Mapping[str, str]) -> str:
    summary = view.summary
    days = view.days["day"]
    net = _floats(view.days["net_amount"]).sum()
    cards = [
        ("net sales", f"{net:,.0f}"),
        ("messages", f"{summary['messages']:,}"),
        ("rows", f"{summary['rows']:,}"),
        ("rows a second", f"{summary['rows_per_second']:,.0f}"),
        ("peak memory", f"{summary['peak_rss_mb']:,.0f} MB"),
    ]
    shown = "".join(f"<div><b>{value}</b><span>{what}</span></div>" for what, value in cards)
    period = f"{days[0].as_py():%d %b %Y} to {days[-1].as_py():%d %b %Y}" if len(days) else "no sales"
    outputs = "".join(f"<li><code>{_text(place)}</code></li>" for place in summary["outputs"].values())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(view.name)}: sales and safety stock</title>
<style>{_CSS}</style>
</head>
<body>
<header><h1>{_text(view.name)}</h1><p>{period}</p></header>
<section class="cards">{shown}</section>
<section><h2>Sales per day</h2>{figures["days"]}</section>
<section><h2>When people buy</h2>{figures["hours"]}</section>
<section><h2>Top SKUs by net sales</h2>{_top_skus(view.top_skus)}</section>
<section>
<h2>Demand and safety stock</h2>
<p>The SKU and store pairs that sell on most days. Mean and standard deviation are over the last days of the
horizon; the reorder point is the mean demand of the lead time plus the safety stock.</p>
{_movers(view.movers)}
{figures["movers"]}
</section>
<section>
<h2>Where every message went</h2>
<p>Nothing is dropped silently: what goes in comes out, or is counted here and kept as a reject.</p>
{_ledger(summary)}
</section>
<section><h2>Results</h2><ul>{outputs}</ul></section>
</body>
</html>
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """Render a table whose first ``texts`` columns are text and the others numbers; cells are HTML."""

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = ["text" if at < texts else "number" for at in range(len(cells))]
        return (
            "<tr>"
            + "".join(f'<{tag} class="{k}">{c}</{tag}>' for c, k in zip(cells, kinds, strict=True))
            + "</tr>"
        )

    body = "".join(line(cells, "td") for cells in rows)
    return f"<div class=scroll><table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table></div>"


def _top_skus(skus: Sequence[Mapping[str, Any]]) -> str:
    best = max((float(sku["net_amount"]) for sku in skus), default=0.0) or 1.0
    rows = [
        [
            _text(sku["sku"]),
            _text(sku["label"]),
            f'<i class="bar" style="width:{100 * float(sku["net_amount"]) / best:.1f}%"></i>',
            f"{sku['net_amount']:,.2f}",
            f"{sku['units']:,}",
            f"{sku['stores']:,}",
        ]
        for sku in skus
    ]
    return _table(["SKU", "", "", "net sales", "units", "stores"], rows, texts=3)


def _movers(movers: Sequence[Mover]) -> str:
    rows = [
        [
            _text(mover.sku),
            _text(mover.label),
            _text(mover.store),
            *(f"{mover.latest(column):.2f}" for column in ("mean", "std", "safety_stock")),
            f"{mover.reorder_point:.1f}",
        ]
        for mover in movers
    ]
    head = ["SKU", "", "store", "mean a day", "std", "safety stock", "reorder point"]
    return _table(head, rows, texts=3)


def _ledger(summary: Mapping[str, Any]) -> str:
    rows = [
        [f'<span class="{kind}">{_text(what)}</span>', f"{count:,}"]
        for what, count, kind in ledger_lines(summary)
    ]
    return _table(["", "count"], rows, texts=1)


def _text(value: object) -> str:
    return html.escape(str(value))


_CSS = f"""
:root {{ color: {INK}; background: #fff; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 0 auto; padding: 1.5rem; }}
h1 {{ margin: 0; font-size: 1.8rem; }} h2 {{ margin: 2.2rem 0 .6rem; font-size: 1.15rem; }}
header p, section > p {{ margin: 0 0 .6rem; color: {MUTED}; }}
svg {{ display: block; width: 100%; height: auto; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; }}
.cards {{ margin-top: 1.2rem; }} .cards span {{ color: {MUTED}; }}
.cards div {{ border: 1px solid {GRID}; border-radius: .5rem; padding: .7rem .9rem; }}
.cards b {{ display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th {{ color: {MUTED}; font-weight: 500; }}
th, td {{ padding: .3rem .7rem .3rem 0; border-bottom: 1px solid {GRID}; }}
.text {{ text-align: left; }} .number {{ text-align: right; white-space: nowrap; }}
.bar {{ display: block; height: .7rem; min-width: 1px; background: {SALES}; border-radius: .15rem; }}
td:has(.bar) {{ width: 35%; }}
.total {{ font-weight: 600; }} .lost {{ padding-left: 1.2rem; color: {MUTED}; }}
code {{ font-size: .9em; }}
"""

# The plots.

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",  # the reader's own font, and a small file
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


def _floats(column: Any) -> Any:
    return pc.cast(column, pa.float64()).to_numpy()


def _figure(height_inches: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(9, height_inches), layout="constrained")


def _svg(figure: Any, name: str) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):  # ids that do not clash on one page, the same in every run
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def _label_dates(axes: Any) -> None:
    from matplotlib import dates

    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=3, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))


def _sales_per_day(days: pa.Table) -> Any:
    figure = _figure(2.6)
    axes = figure.subplots()
    open_days = days["day"].to_numpy().astype("datetime64[D]")
    day = np.arange(open_days[0], open_days[-1] + 1) if len(open_days) else open_days
    sales = np.zeros(len(day))  # a day without sales has no row
    sales[np.searchsorted(day, open_days)] = _floats(days["net_amount"])
    axes.bar(day, sales, width=np.timedelta64(1, "D"), color=SALES, alpha=0.35, label="net sales")
    if len(sales) >= DAYS_PER_WEEK:
        week = np.convolve(sales, np.full(DAYS_PER_WEEK, 1 / DAYS_PER_WEEK), "valid")
        axes.plot(day[DAYS_PER_WEEK - 1 :], week, color=SALES, label="mean of 7 days")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.01)
    axes.legend(loc="upper left", ncols=2)
    _label_dates(axes)
    return figure


def _sales_by_hour(hours: pa.Table) -> Any:
    """Draw a grid of weekday x hour, each cell the mean of that hour."""
    at = hours["hour"].to_numpy().astype("datetime64[h]").astype(np.int64)
    sales = _floats(hours["net_amount"])
    epoch_weekday = 3  # 1970-01-01 was a Thursday
    weekday, hour = (at // HOURS_PER_DAY + epoch_weekday) % DAYS_PER_WEEK, at % HOURS_PER_DAY
    total = np.zeros((DAYS_PER_WEEK, HOURS_PER_DAY))
    np.add.at(total, (weekday, hour), sales)
    dates = np.unique(at // HOURS_PER_DAY)
    seen = np.bincount((dates + epoch_weekday) % DAYS_PER_WEEK, minlength=DAYS_PER_WEEK)
    figure = _figure(2.3)
    axes = figure.subplots()
    image = axes.imshow(total / np.maximum(seen, 1)[:, None], aspect="auto", cmap="Blues", vmin=0)
    axes.grid(visible=False)
    axes.set_yticks(range(DAYS_PER_WEEK), WEEKDAYS)
    axes.set_xticks(range(0, HOURS_PER_DAY, 2), [f"{hour:02d}:00" for hour in range(0, HOURS_PER_DAY, 2)])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_label("net sales an hour")
    return figure


def _demand_curves(movers: Sequence[Mover]) -> Any:
    figure = _figure(0.3 + 1.5 * max(len(movers), 1))
    if not movers:
        return figure
    for mover, axes in zip(
        movers, figure.subplots(len(movers), 1, sharex=True, squeeze=False)[:, 0], strict=True
    ):
        day = mover.days["day"].to_numpy()
        units = _floats(mover.days["demand"])
        axes.bar(day, units, width=np.timedelta64(1, "D"), color=SALES, alpha=0.45, label="units sold")
        axes.step(day, mover.days["mean"].to_numpy(), where="post", color=COMPUTED, lw=1.2, label="mean")
        axes.step(
            day,
            mover.days["safety_stock"].to_numpy(),
            where="post",
            color=STOCK,
            lw=1.6,
            label="safety stock",
        )
        label = f" ({mover.label})" if mover.label else ""
        axes.set_title(f"{mover.sku}{label} at store {mover.store}")
        axes.margins(x=0.01)
        _label_dates(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure
