"""Measures as users write them: what is read, what is refused, what types they have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream.errors import JobError
from omnistream.job import parse_job
from omnistream.measures import (
    OPERATIONS,
    RETAIL,
    Condition,
    Lifecycle,
    MeasureError,
    MeasureSpec,
    misfit,
    named_measure,
    parse_condition,
    parse_measure,
)
from tests.job_documents import DAILY, flat


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("count", MeasureSpec("count", "count")),
        ("count()", MeasureSpec("count", "count")),
        ("count(customer_id)", MeasureSpec("count_customer_id", "count", "customer_id")),
        ("sum(quantity)", MeasureSpec("sum_quantity", "sum", "quantity")),
        (" sum ( quantity )as units ", MeasureSpec("units", "sum", "quantity")),
        ("distinct(customer_id) as buyers", MeasureSpec("buyers", "distinct", "customer_id")),
        (
            "sum(quantity) where event_type = 'returned'",
            MeasureSpec("sum_quantity", "sum", "quantity", Condition("event_type", ("returned",))),
        ),
        (
            "sum(quantity) where event_type in ('a','b', 'a') as ab",
            MeasureSpec("ab", "sum", "quantity", Condition("event_type", ("a", "b"))),
        ),
        (
            'count as n where size = "6""x4"',
            MeasureSpec("n", "count", "", Condition("size", ('6"x4',))),
        ),
        (
            "count where size = 'O''Neill )'",
            MeasureSpec("count", "count", "", Condition("size", ("O'Neill )",))),
        ),
        (
            "units_sold as pairs",
            MeasureSpec("pairs", "sum", "quantity", Condition("event_type", ("paid",))),
        ),
        (
            "units_net",
            MeasureSpec(
                "units_net", "sum", "quantity", Condition("event_type", ("paid",), ("returned", "cancelled"))
            ),
        ),
        ("orders", MeasureSpec("orders", "distinct", "order_id", Condition("event_type", ("paid",)))),
    ],
)
def test_measures(text: str, measure: MeasureSpec) -> None:
    assert parse_measure(text) == measure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has its end where a measure belongs"),
        ("median(quantity)", '"median" is not a measure'),
        ("units_shold", 'did you mean "units_sold"?'),
        ("sum", '"sum" needs a column'),
        ("sum()", '"sum" needs a column'),
        ("sum(quantity", 'has its end where a ")" belongs'),
        ("sum(quantity) units", 'goes on after its end: "units"'),
        ("sum(quantity) as", "has its end where a name belongs"),
        ("sum(quantity) as a as b", 'goes on after its end: "as"'),
        ("sum(quantity) where event_type", 'where a "=" or an "in (...)" belongs'),
        ("sum(quantity) where event_type = returned", 'has "returned" where a text in quotes belongs'),
        ("sum(quantity) where event_type = text", 'has "text" where a text in quotes belongs'),
        ("sum(quantity) where event_type in ()", 'has ")" where a text in quotes belongs'),
        ("sum(quantity) where event_type in ('a' 'b')", 'where a ")" belongs'),
        ("sum(quantity) where event_type = 'a", "cannot be read from"),
        ("sum(quantity) + 1", 'cannot be read from "+ 1" on'),
        ("units_sold(quantity)", "takes neither a column nor a condition"),
        ("units_sold where event_type = 'paid'", "takes neither a column nor a condition"),
        ("top(sku, 0)", 'top of "0" values makes no sense'),
        ("top(sku, 1.5)", "makes no sense"),
        ("top(sku, quantity)", "makes no sense"),
        ("top(sku, 3, quantity, 4)", 'does not take "4"'),
        ("quantile(quantity, 1.5)", '"1.5" is not a quantile'),
        ("quantile(quantity, 0.1234567)", "is not a quantile"),
        ("sum(quantity, 3)", '"sum" does not take "3"'),
        ("top(sku, )", "where a number or a column belongs"),
    ],
)
def test_mistakes_in_measures(text: str, said: str) -> None:
    with pytest.raises(MeasureError) as caught:
        parse_measure(text)
    assert said in str(caught.value)
    assert caught.value.fix


def test_tops_and_quantiles() -> None:
    top = parse_measure("top(sku, 2, quantity) as best where event_type = 'paid'")
    assert (top.top, top.by, top.name) == (2, "quantity", "best")
    core = top.to_core()
    assert [(each["name"], each["op"], each["argument"]) for each in core] == [
        ("best_1", "top", 0),
        ("best_1_weight", "top_weight", 0),
        ("best_2", "top", 1),
        ("best_2_weight", "top_weight", 1),
    ]
    assert {each["by"] for each in core} == {"quantity"}
    assert parse_measure("quantile(quantity, 0.999)").to_core()[0]["argument"] == 999_000
    assert parse_measure("quantile(quantity)").to_core()[0]["argument"] == 500_000
    tables = [
        {"op": "top", "column": "sku", "count": 2, "by": "amount", "name": "best"},
        {"op": "quantile", "column": "quantity", "quantile": 0.25, "name": "quarter"},
    ]
    window = parse_job(flat(window=[{**DAILY, "measure": tables}])).window("daily")
    types = window.output_columns({"sku": "dictionary", "amount": "decimal", "quantity": "int64"})
    assert list(types)[4:] == ["best_1", "best_1_weight", "best_2", "best_2_weight", "quarter"]
    assert list(types.values())[4:] == ["dictionary", "decimal", "dictionary", "decimal", "float64"]


def test_retail_measures_follow_the_lifecycle() -> None:
    lifecycle = Lifecycle("kind", sold=("A",), returned=("B",), cancelled=("C",))
    measures = {name: parse_measure(name, lifecycle) for name in RETAIL}
    assert measures["units_sold"].condition == Condition("kind", ("A",))
    assert measures["units_returned"].condition == Condition("kind", ("B",))
    assert measures["net_amount"].condition == Condition("kind", ("A",), ("B", "C"))
    assert {name: measure.column for name, measure in measures.items()} == {
        "units_sold": "quantity",
        "units_returned": "quantity",
        "units_cancelled": "quantity",
        "units_net": "quantity",
        "gross_amount": "gross_amount",
        "net_amount": "amount",
        "orders": "order_id",
    }


def test_an_empty_lifecycle_list_takes_no_row_rather_than_all() -> None:
    with pytest.raises(JobError, match=r"units_cancelled.* under \[lifecycle\]"):
        parse_job(flat(lifecycle={"cancelled": []}, window=[{**DAILY, "measures": ["units_cancelled"]}]))


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("as", "where", "in")
)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    op=st.sampled_from(OPERATIONS),
    column=NAMES,
    name=NAMES,
    by=NAMES,
    values=st.lists(VALUES, min_size=1, max_size=3, unique=True),
    quote=st.sampled_from("'\""),
)
def test_what_is_written_is_read(
    op: str, column: str, name: str, by: str, values: list[str], quote: str
) -> None:
    listed = ", ".join(quote + value.replace(quote, quote * 2) + quote for value in values)
    condition = f"{by} in ({listed})"
    expected = named_measure(op, column, name, Condition(by, tuple(values)))
    assert parse_measure(f"{op}({column}) as {name} where {condition}") == expected
    assert parse_condition(condition) == expected.condition


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(st.sampled_from("sum(quantity) as'\"wherein=,count_1 é"), max_size=40))
def test_any_text_is_a_measure_or_says_why_not(text: str) -> None:
    try:
        said = parse_measure(text).op
    except MeasureError as error:
        said = error.fix
    assert said


def test_measures_that_do_not_fit_the_columns() -> None:
    columns = {"sku": "dictionary", "n": "int32", "price": "decimal", "note": "string", "w": "float64"}
    assert misfit(parse_measure("sum(n)"), columns) is None
    assert misfit(parse_measure("distinct(note)"), columns) is None
    assert misfit(parse_measure("count(note) where sku = 'A'"), columns) is None
    for text in (
        "sum(note)",
        "max(sku)",
        "distinct(w)",
        "approx_distinct(w)",
        "top(w)",
        "top(sku, 1, note)",
        "top(sku, 1, nothing)",
        "quantile(w)",
        "quantile(sku)",
        "sum(m)",
        "count where note = 'x'",
        "count where m = 'x'",
    ):
        assert misfit(parse_measure(text), columns) is not None, text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("count", "int64"),
        ("distinct(sku)", "int64"),
        ("sum(n)", "int64"),
        ("min(n)", "int32"),
        ("sum(price)", "decimal"),
        ("max(price)", "decimal"),
        ("mean(price)", "float64"),
        ("std(n)", "float64"),
        ("quantile(n, 0.9)", "float64"),
        ("approx_distinct(sku)", "int64"),
        ("last(sku)", "dictionary"),
    ],
)
def test_result_types(text: str, kind: str) -> None:
    columns = {"sku": "dictionary", "n": "int32", "price": "decimal"}
    measure = parse_measure(text)
    assert measure.output_columns(columns) == {measure.name: kind}
