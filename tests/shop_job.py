"""The job of a shop in TOML: every stage works and keeps state. Source and sinks are the test's."""

SHOP = """
[schema]
use = "order_flat"
[[clean.rule]]
check = "positive_quantity"
[[clean.rule]]
check = "price_below_cost"
[clean.duplicates]
within = "1h"
[[window]]
name = "sales"
size = "1h"
keys = ["channel"]
measures = [
    "count", "sum(quantity) as units", "units_sold", "units_net", "net_amount", "distinct(customer_id)",
]
[[window]]
name = "daily"
size = "1d"
keys = ["sku", "store_id"]
measures = ["units_sold"]
[[derive]]
name = "demand"
from = "daily"
demand = "units_sold"
"""
