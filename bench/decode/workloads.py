"""The workloads of the decode benchmark: what is in each file, and the columns that programs make of it.

    python bench/decode/workloads.py            # write all files to build/bench-data

Files are made from a seed with numpy alone, so that all programs, ours included, read bytes that none of them
wrote. What the orders look like is in ``bench/README.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from omnistream.schema import ORDER, ORDER_FLAT, Field, Schema

SEED = 20261111
CHUNK = 50_000  # events made at once
DATA = Path(__file__).parents[2] / "build" / "bench-data"

CHANNELS = (["tmall", "jd", "douyin", "wechat", "app", "store"], [0.30, 0.22, 0.20, 0.10, 0.10, 0.08])
TYPES = (
    ["created", "paid", "shipped", "delivered", "cancelled", "returned"],
    [0.10, 0.62, 0.10, 0.08, 0.05, 0.05],
)
SIZES = ["S", "M", "L", "XL", "39", "40", "41", "42"]
ADDRESSES = [
    "上海市浦东新区世纪大道",
    "北京市朝阳区建国路",
    "广州市天河区体育西路",
    "深圳市南山区科技园南路",
    "杭州市西湖区文三路",
    "成都市武侯区天府大道",
    "福建省晋江市长兴路",
    "厦门市思明区湖滨南路",
]
SKUS, STORES, CUSTOMERS = 50_000, 2_000, 1_000_000
SPAN_MS = 2 * 3_600_000

Lines = Iterator[str]
Writer = Callable[[np.random.Generator, int, int, int], Lines]


@dataclass(frozen=True)
class Workload:
    """One file and the columns wanted from it.

    Attributes
    ----------
    shape : str
        What the file holds; workloads with one shape share the file.
    share : float
        Its events, as a share of those of the flat file.
    framing : str
        ``lines``: one message a line. ``documents``: messages span lines; each ends with the line ``}``.
    """

    name: str
    shape: str
    schema: Schema
    share: float = 1.0
    framing: str = "lines"

    def events(self, flat_events: int) -> int:
        return max(1, round(flat_events * self.share))

    def file(self, flat_events: int) -> Path:
        """Return the path of the file, written first if it is not there."""
        events = self.events(flat_events)
        path = DATA / f"{self.shape}-{events}.ndjson"
        if not path.exists():
            DATA.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            rng = np.random.default_rng([SEED, *self.shape.encode()])
            with part.open("w", encoding="utf-8", newline="\n") as file:
                for first in range(0, events, CHUNK):
                    file.writelines(SHAPES[self.shape](rng, first, min(CHUNK, events - first), events))
            part.rename(path)
        return path


# ---- the values of an order ----


def _zipf_skus(rng: np.random.Generator, count: int) -> list[int]:
    return _SKU_AT_RANK[np.minimum(np.searchsorted(_SKU_SHARE, rng.random(count)), SKUS - 1)].tolist()


_SKU_SHARE = np.cumsum(1.0 / np.arange(1, SKUS + 1) ** 1.05)
_SKU_SHARE /= _SKU_SHARE[-1]
_SKU_AT_RANK = np.random.default_rng(SEED).permutation(SKUS)


def _times(rng: np.random.Generator, first: int, count: int, total: int) -> list[str]:
    """Two hours in order, but 10 % of the events are up to 30 s late and the rest up to half a second."""
    due = np.arange(first, first + count) / total * SPAN_MS
    lag = np.where(rng.random(count) < 0.10, rng.random(count) * 30_000, rng.random(count) * 500)
    ms = np.maximum(due - lag, 0).astype(np.int64)
    parts = (ms // 3_600_000, ms // 60_000 % 60, ms // 1000 % 60, ms % 1000)
    rows = zip(*(part.tolist() for part in parts), strict=True)
    return [f"2026-11-11T{h:02d}:{m:02d}:{s:02d}.{ms:03d}Z" for h, m, s, ms in rows]


def _prices(rng: np.random.Generator, count: int) -> tuple[list[float], list[float], list[float]]:
    """Price, cost (0.5 % above the price) and discount, all with two decimals."""
    price = np.round(np.exp(rng.normal(5.3, 0.7, count)).clip(9.9, 4999.0), 2)
    share = np.where(rng.random(count) < 0.005, rng.uniform(1.05, 1.6, count), rng.uniform(0.25, 0.80, count))
    discount = np.where(rng.random(count) < 0.4, 0.0, np.round(rng.uniform(0, 0.5, count), 2))
    return price.tolist(), np.round(price * share + 0.005, 2).tolist(), discount.tolist()


def _ids(rng: np.random.Generator, count: int) -> list[str]:
    text = rng.bytes(16 * count).hex()
    return [text[at : at + 32] for at in range(0, 32 * count, 32)]


def _choices(rng: np.random.Generator, values: tuple[list[str], list[float]], count: int) -> list[str]:
    return [values[0][at] for at in rng.choice(len(values[0]), count, p=values[1]).tolist()]


def _heads(rng: np.random.Generator, first: int, count: int, total: int) -> list[list[str]]:
    """The message-level values of orders, as JSON texts, one list per field."""
    orders = (np.arange(first, first + count) - rng.integers(0, 50, count)).clip(0).tolist()
    return [
        [f'"{event}"' for event in _ids(rng, count)],
        [f'"{kind}"' for kind in _choices(rng, TYPES, count)],
        [f'"{time}"' for time in _times(rng, first, count, total)],
        [f'"O20261111{order:07d}"' for order in orders],
        [f'"{channel}"' for channel in _choices(rng, CHANNELS, count)],
        [f'"S{store:04d}"' for store in rng.integers(0, STORES, count).tolist()],
        [f'"C{customer:07d}"' for customer in rng.integers(0, CUSTOMERS, count).tolist()],
    ]


def _tails(rng: np.random.Generator, count: int) -> list[list[str]]:
    """The line-level values of orders, as JSON texts."""
    return [
        [f'"SKU{sku:05d}"' for sku in _zipf_skus(rng, count)],
        [f'"{SIZES[size]}"' for size in rng.integers(0, len(SIZES), count).tolist()],
        [str(quantity) for quantity in rng.integers(1, 6, count).tolist()],
        *([f"{value:.2f}" for value in values] for values in _prices(rng, count)),
    ]


HEAD_KEYS = ("event_id", "event_type", "event_time", "order_id", "channel", "store_id", "customer_id")
LINE_KEYS = ("sku", "size", "qty", "unit_price", "unit_cost", "discount")
FLAT_KEYS = (*HEAD_KEYS, *LINE_KEYS, "currency")


def _flat_values(rng: np.random.Generator, first: int, count: int, total: int) -> Iterator[tuple[str, ...]]:
    return zip(*_heads(rng, first, count, total), *_tails(rng, count), ['"CNY"'] * count, strict=True)


def _template(keys: tuple[str, ...], colon: str = ":", comma: str = ",") -> str:
    return "{" + comma.join(f'"{key}"{colon}%s' for key in keys) + "}"


# ---- the shapes ----


def _flat(rng: np.random.Generator, first: int, count: int, total: int) -> Lines:
    template = _template(FLAT_KEYS) + "\n"
    return (template % values for values in _flat_values(rng, first, count, total))


def _shuffled(rng: np.random.Generator, first: int, count: int, total: int) -> Lines:
    """Every event has an order of keys of its own."""
    keys = [f'"{key}":' for key in FLAT_KEYS]
    order = rng.permuted(np.tile(np.arange(len(keys)), (count, 1)), axis=1).tolist()
    for values, places in zip(_flat_values(rng, first, count, total), order, strict=True):
        yield "{" + ",".join([keys[place] + values[place] for place in places]) + "}\n"


def _mixed(rng: np.random.Generator, first: int, count: int, total: int) -> Lines:
    """Three producers: with other orders of keys, other spacing, fewer and more fields."""
    compact = _template(FLAT_KEYS) + "\n"
    at = {key: place for place, key in enumerate(FLAT_KEYS)}
    spaced_keys = (
        *FLAT_KEYS[7:11],
        *FLAT_KEYS[:5],
        "customer_id",
        "discount",
        "currency",
    )  # no store_id, no unit_cost
    spaced = (
        _template(spaced_keys, ": ", ", ")[:-1]
        + ', "source": {"app": "pos", "build": [4, 1, 12]}, "note": null}\n'
    )
    spaced_places = [at[key] for key in spaced_keys]
    backward_keys = tuple(key for key in reversed(FLAT_KEYS) if key != "discount")
    backward = '{"v":2,"tenant":"cn-east",' + _template(backward_keys)[1:-1] + ',"discount":null}\n'
    backward_places = [at[key] for key in backward_keys]
    producers = rng.choice(3, count, p=[0.5, 0.3, 0.2]).tolist()
    for values, producer in zip(_flat_values(rng, first, count, total), producers, strict=True):
        if producer == 0:
            yield compact % values
        elif producer == 1:
            yield spaced % tuple([values[place] for place in spaced_places])
        else:
            yield backward % tuple([values[place] for place in backward_places])


def _nested(rng: np.random.Generator, first: int, count: int, total: int) -> Lines:
    *heads, customers = _heads(rng, first, count, total)
    lines_of = rng.integers(1, 6, count)
    ends = np.cumsum(lines_of).tolist()
    template = _template(LINE_KEYS)
    lines = [template % values for values in zip(*_tails(rng, ends[-1]), strict=True)]
    phones = rng.integers(13_000_000_000, 20_000_000_000, count).tolist()
    streets = rng.integers(0, len(ADDRESSES), count).tolist()
    numbers = rng.integers(1, 2000, count).tolist()
    template = _template((*HEAD_KEYS[:-1], "customer", "currency", "lines")) + "\n"
    customer = '{"id":%s,"phone":"%d","address":"%s%d号"}'
    begin = 0
    for *values, person_id, phone, street, number, end in zip(
        *heads, customers, phones, streets, numbers, ends, strict=True
    ):
        person = customer % (person_id, phone, ADDRESSES[street], number)
        yield template % (*values, person, '"CNY"', f"[{','.join(lines[begin:end])}]")
        begin = end


def _pretty(rng: np.random.Generator, first: int, count: int, total: int) -> Lines:
    for line in _nested(rng, first, count, total):
        yield json.dumps(json.loads(line), ensure_ascii=False, indent=2) + "\n"


# Wide events and Shopify orders are rendered from pools: what no column wants repeats after a while.
POOL = 1024


def _wide(rng: np.random.Generator, first: int, count: int, total: int) -> Lines:
    """60 fields; six of them, spread over the event, are wanted."""
    pools = [_pool(rng, "".join(f"{_json(key)}:{kind}," for key, kind in fields)) for fields in _WIDE_FILLERS]
    picks = rng.integers(0, POOL, (count, len(pools))).tolist()
    values = list(_flat_values(rng, first, count, total))
    for value, pick in zip(values, picks, strict=True):
        a, b, c, d, e, f = (pool[at] for pool, at in zip(pools, pick, strict=True))
        yield (
            f'{{{a}"event_id":{value[0]},{b}"event_time":{value[2]},{c}"channel":{value[4]},{d}"sku":{value[7]},'
            f'{e}"qty":{value[9]},{f}"unit_price":{value[10]},"schema_version":7}}\n'
        )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pool(rng: np.random.Generator, template: str) -> list[str]:
    """Fill a template's ``<kind>`` marks with random values, often enough for a pool."""
    pieces = template.split("<")
    pool = []
    for _ in range(POOL):
        text = [pieces[0]]
        for piece in pieces[1:]:
            kind, rest = piece.split(">", 1)
            text += [_FILLERS[kind](rng), rest]
        pool.append("".join(text))
    return pool


_FILLERS: dict[str, Callable[[np.random.Generator], str]] = {
    "int": lambda rng: str(int(rng.integers(0, 100_000))),
    "id": lambda rng: str(int(rng.integers(10**12, 10**13))),
    "real": lambda rng: f"{rng.random() * 1000:.4f}",
    "price": lambda rng: f'"{rng.random() * 1000:.2f}"',
    "bool": lambda rng: "true" if rng.random() < 0.5 else "false",
    "hex": lambda rng: f'"{rng.bytes(12).hex()}"',
    "word": lambda rng: f'"{_WORDS[int(rng.integers(0, len(_WORDS)))]}"',
    "text": lambda rng: _json(" ".join(_WORDS[at] for at in rng.integers(0, len(_WORDS), 8).tolist())),
    "url": lambda rng: f'"https:\\/\\/shop.example\\/item\\/{rng.bytes(6).hex()}?ref=\\"mail\\""',
    "list": lambda rng: "[" + ",".join(map(str, rng.integers(0, 100, 5).tolist())) + "]",
    "object": lambda rng: f'{{"lat":{rng.random() * 90:.6f},"lon":{rng.random() * 180:.6f},"city":"晋江"}}',
}
_WORDS = [
    "autumn",
    "running",
    "web",
    "短袖",
    "banner",
    "checkout",
    "recommend",
    "ios",
    "跑步鞋",
    "search",
    "campaign",
    "vip",
]
_WIDE_KINDS = ["word", "hex", "int", "bool", "real", "url", "word", "text", "int", "list", "word", "object"]


def _wide_fillers() -> list[list[tuple[str, str]]]:
    """53 fields in six groups, one group before each wanted field; with schema_version they are 60."""
    names = [
        f"{area}_{what}" for area in _WIDE_AREAS for what in ("name", "ref", "rank", "flag", "score", "link")
    ][:53]
    fields = [(name, f"<{_WIDE_KINDS[place % len(_WIDE_KINDS)]}>") for place, name in enumerate(names)]
    cuts = [0, 2, 8, 20, 30, 42, 53]
    return [fields[begin:end] for begin, end in itertools.pairwise(cuts)]


_WIDE_AREAS = ["session", "device", "page", "referrer", "campaign", "experiment", "geo", "consent", "cart"]
_WIDE_FILLERS = _wide_fillers()

# After Shopify's public documentation of the Order resource of its REST Admin API; values are ours.
_MONEY = (
    '{"shop_money":{"amount":<price>,"currency_code":"CNY"},'
    '"presentment_money":{"amount":<price>,"currency_code":"CNY"}}'
)
_SHOPIFY_ADDRESS = (
    '{"first_name":<word>,"address1":<text>,"phone":<hex>,"city":"晋江","zip":"362200","province":"福建省","country":"China",'
    '"last_name":<word>,"address2":null,"company":null,"latitude":<real>,"longitude":<real>,"name":<word>,"country_code":"CN",'
    '"province_code":null}'
)
_SHOPIFY_BEFORE = (
    '"admin_graphql_api_id":<hex>,"app_id":<int>,"browser_ip":"203.0.113.7","buyer_accepts_marketing":<bool>,"cancel_reason":null,'
    '"cancelled_at":null,"cart_token":<hex>,"checkout_id":<id>,"checkout_token":<hex>,"client_details":{"accept_language":"zh-CN",'
    '"browser_height":null,"browser_ip":"203.0.113.7","browser_width":null,"session_hash":null,"user_agent":<text>},'
    '"closed_at":null,"confirmed":true,"contact_email":<hex>,'
)
_SHOPIFY_MIDDLE = (
    f'"current_subtotal_price_set":{_MONEY},"current_total_discounts_set":{_MONEY},"current_total_price":<price>,'
    f'"current_total_price_set":{_MONEY},"current_total_tax_set":{_MONEY},"customer_locale":"zh-CN","device_id":null,'
    '"discount_codes":[{"code":<word>,"amount":<price>,"type":"percentage"}],"email":<hex>,"estimated_taxes":false,'
)
_SHOPIFY_AFTER = (
    '"note":<text>,"note_attributes":[{"name":<word>,"value":<text>}],"number":<int>,"order_status_url":<url>,"phone":null,'
    f'"payment_gateway_names":["alipay","gift_card"],"presentment_currency":"CNY","processed_at":null,"subtotal_price_set":{_MONEY},'
    f'"tags":<text>,"tax_lines":[{{"price":<price>,"rate":0.13,"title":"VAT","price_set":{_MONEY}}}],"test":false,"token":<hex>,'
    f'"total_discounts":<price>,"total_shipping_price_set":{_MONEY},"total_tax":<price>,"total_weight":<int>,'
    f'"billing_address":{_SHOPIFY_ADDRESS},"shipping_address":{_SHOPIFY_ADDRESS},"fulfillments":[],'
)
_SHOPIFY_LINE = (
    '"admin_graphql_api_id":<hex>,"fulfillable_quantity":<int>,"fulfillment_service":"manual","fulfillment_status":null,"gift_card":false,'
    f'"grams":<int>,"name":<text>,"price_set":{_MONEY},"product_exists":true,"product_id":<id>,"properties":[],"requires_shipping":true,'
)
_SHOPIFY_LINE_END = (
    f'"taxable":true,"title":<text>,"total_discount_set":{_MONEY},"variant_id":<id>,"variant_title":<word>,"vendor":<word>,'
    f'"tax_lines":[{{"channel_liable":null,"price":<price>,"price_set":{_MONEY},"rate":0.13,"title":"VAT"}}],"duties":[],'
    f'"discount_allocations":[{{"amount":<price>,"amount_set":{_MONEY},"discount_application_index":0}}]'
)


def _shopify(rng: np.random.Generator, first: int, count: int, total: int) -> Lines:
    """About 6 KB each: 1 to 3 lines, prices in strings, local times with an offset."""
    parts = (_SHOPIFY_BEFORE, _SHOPIFY_MIDDLE, _SHOPIFY_AFTER, _SHOPIFY_LINE, _SHOPIFY_LINE_END)
    before, middle, after, line_begin, line_end = (_pool(rng, part) for part in parts)
    lines_of = rng.integers(1, 4, count).tolist()
    _, _, times, _, channels, _, customers = _heads(rng, first, count, total)
    status = _choices(rng, (["paid", "pending", "refunded"], [0.9, 0.07, 0.03]), count)
    for at in range(count):
        pick = rng.integers(0, POOL, 5).tolist()
        lines = []
        tails = zip(*_tails(rng, lines_of[at]), strict=True)
        for number, (sku, _, quantity, price, _, discount) in enumerate(tails):
            lines.append(
                f'{{"id":{10**12 + 8 * (first + at) + number},{line_begin[pick[3]]}"price":"{price}",'
                f'"quantity":{quantity},"sku":{sku},'
                f'"total_discount":"{discount}",{line_end[pick[4]]}}}'
            )
        time = times[at][:-6] + '+08:00"'
        yield (
            f'{{"id":{5 * 10**12 + first + at},{before[pick[0]]}"created_at":{time},'
            f'"currency":"CNY",{middle[pick[1]]}'
            f'"financial_status":"{status[at]}","name":"#{1000 + first + at}",'
            f'"source_name":{channels[at]},{after[pick[2]]}'
            f'"customer":{{"id":{int(customers[at][2:-1])},"state":"enabled","currency":"CNY"}},'
            f'"line_items":[{",".join(lines)}]}}\n'
        )


SHAPES: dict[str, Writer] = {
    "flat": _flat,
    "nested": _nested,
    "shuffled": _shuffled,
    "mixed": _mixed,
    "pretty": _pretty,
    "wide": _wide,
    "shopify": _shopify,
}


# ---- the workloads ----


def _copied(schema: Schema) -> Schema:
    """Every dictionary column as a plain string."""
    fields = [replace(each, type="string") if each.type == "dictionary" else each for each in schema.fields]
    return replace(schema, fields=tuple(fields))


WIDE = Schema(
    "wide",
    (
        Field("event_id", "string"),
        Field("event_time", "timestamp"),
        Field("channel", "string"),
        Field("sku", "string"),
        Field("quantity", "int64", "qty"),
        Field("unit_price", "decimal"),
    ),
)

SHOPIFY = Schema(
    "shopify",
    (
        Field("order_id", "int64", "id", required=True),
        Field("created_at", "timestamp", required=True),
        Field("currency", "string"),
        Field("financial_status", "string"),
        Field("order_name", "string", "name"),
        Field("source_name", "string"),
        Field("customer_id", "int64", "customer.id"),
        Field("line_id", "int64", "line_items[].id", required=True),
        Field("unit_price", "decimal", "line_items[].price", coerce=True),
        Field("quantity", "int64", "line_items[].quantity"),
        Field("sku", "string", "line_items[].sku"),
        Field("discount", "decimal", "line_items[].total_discount", coerce=True),
    ),
    explode="line_items[]",
)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("flat", "flat", _copied(ORDER_FLAT)),
        Workload("flat_dictionary", "flat", ORDER_FLAT),
        Workload("nested", "nested", _copied(ORDER), 0.5),
        Workload("nested_dictionary", "nested", ORDER, 0.5),
        Workload("wide", "wide", WIDE, 0.2),
        Workload("mixed", "mixed", _copied(ORDER_FLAT)),
        Workload("shuffled", "shuffled", _copied(ORDER_FLAT)),
        Workload("pretty", "pretty", _copied(ORDER), 0.25, "documents"),
        Workload("shopify", "shopify", SHOPIFY, 0.05),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="events of the flat file (default %(default)s)"
    )
    events = parser.parse_args().events
    for workload in WORKLOADS.values():
        path = workload.file(events)
        print(
            f"{workload.name:<18} {workload.events(events):>9} events {path.stat().st_size:>12} bytes {path}"
        )


if __name__ == "__main__":
    main()
