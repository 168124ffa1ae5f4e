"""The meaning of every stage, slow and obvious: what the C++ and CUDA engines must do, row by row.

One module a stage, in the order in which data flows: json_text, decode, avro, encode, clean, sales, window,
derive.
Values are in the units of the core's lanes: a decimal is an int of 1/10000, a timestamp an int of ms since
1970, a string a str, null is None. Schemas and specs are the dicts that the extension takes (``_core.pyi``).
"""

from tests.reference.avro import decode_avro
from tests.reference.clean import Cleaner, Duplicates, Watermark
from tests.reference.decode import Row, decode_lines, decode_messages, places_of
from tests.reference.derive import Demand
from tests.reference.encode import Dictionary, add_amounts
from tests.reference.json_text import ELEMENT, JsonError, JsonParser, Value, exact
from tests.reference.sales import Sales
from tests.reference.window import SessionWindow, Window, window

__all__ = [
    "ELEMENT",
    "Cleaner",
    "Demand",
    "Dictionary",
    "Duplicates",
    "JsonError",
    "JsonParser",
    "Row",
    "Sales",
    "SessionWindow",
    "Value",
    "Watermark",
    "Window",
    "add_amounts",
    "decode_avro",
    "decode_lines",
    "decode_messages",
    "exact",
    "places_of",
    "window",
]
