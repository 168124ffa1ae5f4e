"""Features as a job writes them, and functions of the user's own."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.own_features import margin, trend
from omnistream.features import (
    OPS,
    STANDARD,
    FeatureError,
    FeatureSpec,
    Op,
    check_function,
    load_functions,
    measures_used,
    parse_feature,
)
from omnistream.kernels.derive import Kernels
from tests.cudasim import Worker

OWN = Path(__file__).parent.parent / "examples" / "own_features.py"
PARAMETERS = "first, second, key, known, weekday, days, scale"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lag(units, 7)", FeatureSpec("units_lag_7", "lag", "units", days=7)),
        ("weekday_sin", FeatureSpec("weekday_sin", "weekday_sin")),
        (" ratio( net ,units, 28 ) as price ", FeatureSpec("price", "ratio", "net", "units", 28)),
    ],
)
def test_a_feature_as_it_is_written(text: str, meant: FeatureSpec) -> None:
    assert parse_feature(text) == meant


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("lag units", '"lag units" is no feature', 'write one such as "mean'),
        ("lagg(units, 1)", '"lagg" is not a function of features', 'did you mean "lag"?'),
        ("lag(units)", '"lag(units)" has 1 arguments, not 2', "write lag(MEASURE, DAYS)"),
        ("weekday_sin(2)", "has 1 arguments, not 0", "write weekday_sin"),
        ("lag(units, 0)", '"0" is no number of days from 1 to 3660', "write one such as"),
    ],
)
def test_a_feature_that_cannot_be_read(text: str, what: str, fix: str) -> None:
    with pytest.raises(FeatureError) as raised:
        parse_feature(text)
    assert what in raised.value.what
    assert fix in raised.value.fix


def test_the_standard_features_have_names_of_their_own() -> None:
    specs = [parse_feature(text) for text in STANDARD]
    assert len({spec.name for spec in specs}) == len(specs)
    assert measures_used(specs) == ["units_sold", "gross_amount", "net_amount"]


def test_functions_of_the_user(kernels: list[Kernels | Worker]) -> None:
    functions = load_functions(OWN)
    assert [*functions] == ["trend", "margin"]
    ops = {"trend": Op(trend, 1, True, "plain"), "margin": Op(margin, 2, False, "measure")}
    specs = [parse_feature(text, ops) for text in ("trend(units, 4)", "margin(net, cost)")]
    places = {"units": 0, "net": 1, "cost": 2}
    types = {"units": "int64", "net": "decimal", "cost": "decimal"}
    columns = [spec.column(ops[spec.op], places, types) for spec in specs]
    units = [[4, 1], [2, 1], [3, 0], [1, 0]]
    nothing = [[0, 0]] * 3
    history = np.array([units, [[120_000, 5_000], *nothing], [[70_000, 10_000], *nothing]], np.int64)
    known = np.array([4, 2], np.int32)
    for each in kernels:
        if isinstance(each, Worker):
            got = each.call("features", columns, history, known, 0)
        else:
            got = each.features(columns)(history, known, 0)
        assert got[0].tolist() == [1.5, 5.0]
        assert math.isnan(got[1, 0])
        assert got[1, 1] == -0.5


@pytest.fixture
def kernels() -> list[Kernels | Worker]:
    with Worker() as worker:
        yield [Kernels("cpu"), worker]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("def f(:", "cannot be run (SyntaxError"),
        ("import nothing_of_this_name", "cannot be run (ModuleNotFoundError"),
        ("x = 1", "marks no function"),
        ("@feature()\ndef lag(PARAMETERS): return 1.0", "lag is built in"),
        ("@feature()\ndef f(first, key): return 1.0", "f takes (first, key)"),
        ("@feature()\ndef f(PARAMETERS): return len(open('x').read())", "Numba cannot compile f: "),
        ("@feature()\ndef f(PARAMETERS): return 'text'", "f returns Literal[str]"),
        ("@feature()\ndef f(PARAMETERS):\n    if key > 1: return 1.0", "f returns OptionalType"),
    ],
)
def test_functions_that_cannot_be_used(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from omnistream.features import feature\n" + text.replace("PARAMETERS", PARAMETERS))
    with pytest.raises(FeatureError) as raised:
        load_functions(file)
    assert what in raised.value.what
    assert str(file) in raised.value.what


@pytest.mark.parametrize("name", OPS)
def test_the_built_in_functions_pass_the_check_of_functions(name: str) -> None:
    if name not in ("mean", "std", "ratio", "markdown"):  # these call others, which only `Kernels` binds
        check_function(OPS[name], "kernels")


def test_importing_needs_no_numba() -> None:
    code = "import sys; sys.modules['numba'] = None\n"
    code += "import omnistream.features, omnistream.kernels.derive as d\n"
    code += "try: d.Kernels('cpu')\nexcept d.DeviceError as error: print(error)"
    root = Path(__file__).parent.parent
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root
    )
    assert printed.stdout == "features need Numba: pip install 'omnistream[numba]'\n"
