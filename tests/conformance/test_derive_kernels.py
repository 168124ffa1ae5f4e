"""derive's Numba kernels on the CPU, in the CUDA simulator, on CUDA: as the reference and the C++ engine."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omnistream.errors import StateError
from omnistream.features import OPS
from omnistream.kernels.derive import MAX_ULP, MAX_ULP_FLOAT32, Column, Kernels
from tests.conformance.test_derive import SALES, Sale, spec
from tests.conformance.test_derive import run as run_days
from tests.cudasim import Worker
from tests.engines import CpuEngine, missing_for_numba_cuda
from tests.reference.features import vector
from tests.reference.window import Moments

GOLDEN = Path(__file__).parent.parent / "data" / "safety_stock.toml"


class Here:
    """Kernels of this process."""

    def __init__(self, target: Any) -> None:
        self.kernels = Kernels(target)

    def call(self, method: str, *arguments: Any) -> Any:
        if self.kernels.target == "cuda":
            import cupy

            arguments = tuple(
                cupy.asarray(each) if isinstance(each, np.ndarray) else each for each in arguments
            )
        if method == "features":
            columns, *rest = arguments
            return on_host(self.kernels.features(columns)(*rest))
        got = getattr(self.kernels, method)(*arguments)
        return tuple(map(on_host, got)) if isinstance(got, tuple) else on_host(got)


def on_host(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.get()


@pytest.fixture(scope="module", params=["cpu", "cudasim", "cuda"])
def kernels(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "cudasim":
        with Worker() as worker:
            yield worker
        return
    missing = missing_for_numba_cuda() if request.param == "cuda" else None
    if missing:
        pytest.skip(f"cuda, derive: {missing}")
    yield Here(request.param)


def assert_close(got: float, meant: float, ulp: int = MAX_ULP) -> None:
    assert abs(got - meant) <= ulp * math.ulp(meant), (got, meant)


EDGES = st.sampled_from([0, 1, -1, 2**31, -(2**31), 2**32 - 1, 2**32, -(2**32), 2**53 + 1, 2**62, -(2**62)])
LANES = st.one_of(st.integers(-9, 99), EDGES, st.integers(-(2**55), 2**55))


@st.composite
def series(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Lanes [1, days ago, keys] and the days that each key is known; zero before."""
    days, keys = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    known = np.array(draw(st.lists(st.integers(1, days + 2), min_size=keys, max_size=keys)), np.int32)
    lanes = draw(st.lists(LANES, min_size=days * keys, max_size=days * keys))
    history = np.array(lanes, np.int64).reshape(1, days, keys)
    history[0][np.arange(days)[:, None] >= known[None, :]] = 0
    return history, known


@given(series(), st.sampled_from([1, 10_000]))
@example((np.array([[[2**62], [2**62], [-(2**62)]]]), np.array([3], np.int32)), 1)
@example((np.array([[[2**53 + 1], [2**53 - 1]]]), np.array([2], np.int32)), 10_000)
def test_statistics_are_those_of_the_reference(
    kernels: Any, given_: tuple[np.ndarray, np.ndarray], scale: int
) -> None:
    history, known = given_
    moments = [
        Moments([int(lane) for lane in column[: known[key]]], scale)
        for key, column in enumerate(history[0].T)
    ]
    fits = all(-(2**63) <= sum(each.values) < 2**63 for each in moments)
    if not fits:
        with pytest.raises(StateError, match="overflow"):
            kernels.call("demand", history, known, scale, 1.645, 7.0)
        return
    mean, std, stock = kernels.call("demand", history, known, scale, 1.645, 7.0)
    for key, each in enumerate(moments):
        assert_close(mean[key], each.mean())
        assert_close(std[key], each.std() or 0.0)
        assert_close(stock[key], 1.645 * (each.std() or 0.0) * math.sqrt(7.0))


def test_squares_that_overflow_are_an_error(kernels: Any) -> None:
    history = np.full((1, 6, 1), -(2**63))
    history[0, 1::2] = 2**63 - 1
    with pytest.raises(StateError, match="the moments of 1 keys overflow"):
        kernels.call("demand", history, np.array([6], np.int32), 1.0, 1.0, 1.0)
    mean, std, _ = kernels.call("demand", history[:, :2], np.array([6], np.int32), 1.0, 1.0, 1.0)
    assert (mean[0], std[0]) == (-0.5, math.sqrt(2.0) * 2.0**63)


@settings(max_examples=12)
@given(SALES, st.sampled_from(["units", "value"]))
def test_statistics_are_those_of_the_engine(kernels: Any, sales: list[Sale], measure: str) -> None:
    wanted = spec(demand=measure)
    engine = CpuEngine()
    _, current = run_days(engine, sales, wanted)
    if not current or not current[-1]:
        return
    rows = current[-1]
    history, known = np.zeros((1, 4, len(rows)), np.int64), np.array([row["days"] for row in rows], np.int32)
    days = sorted({day for day, *_ in sales})
    for key, row in enumerate(rows):
        for day, sku, _, units in sales:
            if sku == row["sku"] and days[-1] - day < 4:
                # The test sells at a quarter of the units.
                history[0, days[-1] - day, key] += units if measure == "units" else units * 2500
    mean, std, stock = kernels.call("demand", history, known, 1 if measure == "units" else 10_000, 1.645, 7.0)
    for key, row in enumerate(rows):
        assert_close(mean[key], row["mean"])
        assert_close(std[key], row["std"])
        assert_close(stock[key], row["safety_stock"])


CASES = [case for case in tomllib.loads(GOLDEN.read_text())["safety_stock"] if "safety_stock" in case]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_safety_stock_of_published_examples(kernels: Any, case: dict[str, Any]) -> None:
    from statistics import NormalDist

    z = case.get("z") or NormalDist().inv_cdf(case["service_level"])
    mean, std = case.get("demand_mean_per_day", 0.0), case["demand_std_per_day"]
    lead_time_std = case.get("lead_time_std_days", 0.0)
    stock = kernels.call("safety_stock", mean, std, z, case["lead_time_days"], lead_time_std)
    assert stock.tolist() == [pytest.approx(case["safety_stock"], rel=1e-6)]


def test_safety_stock_takes_numbers_and_vectors(kernels: Any) -> None:
    lead_times = np.array([1.0, 4.0, 9.0])
    stock = kernels.call(
        "safety_stock", 5.0, np.array([2.0, 3.0, 4.0]), 2.0, lead_times, np.array([0.0, 0.0, 2.0])
    )
    assert stock.tolist() == [4.0, 12.0, 2.0 * math.sqrt(9 * 16 + 100)]


COLUMNS = [
    {"op": op, "first": first, "second": second, "days": days}
    for op in OPS
    for first, second, days in ((0, 0, 1), (1, 0, 3), (0, 1, 9))
]


@settings(max_examples=15)
@given(series(), series(), st.integers(0, 6), st.sampled_from([(1, 1), (10_000, 1)]))
def test_features_are_those_of_the_reference(
    kernels: Any,
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    weekday: int,
    scales: tuple[int, int],
) -> None:
    days, keys = min(first[0].shape[1], second[0].shape[1]), min(len(first[1]), len(second[1]))
    history = np.concatenate([first[0][:, :days, :keys], second[0][:, :days, :keys]]) % 2**40
    known = np.minimum(first[1][:keys], days).astype(np.int32)
    history[:, np.arange(days)[:, None] >= known[None, :]] = 0
    columns, described = [], []
    for each in COLUMNS:
        op = OPS[each["op"]]
        measured = (scales[each["first"]], scales[each["second"]])
        columns.append(Column(op.element, each["first"], each["second"], each["days"], op.scale(*measured)))
        described.append({**each, "first_scale": measured[0], "second_scale": measured[1]})
    got = kernels.call("features", columns, history, known, weekday)
    assert (got.dtype, got.shape) == (np.float32, (keys, len(columns)))
    for key in range(keys):
        meant = vector(described, history[:, :, key].tolist(), int(known[key]), weekday)
        for column, value, wanted in zip(described, got[key], meant, strict=True):
            both_nan = np.isnan(value) and np.isnan(wanted)
            # 1 - ratio loses the digits that the two have in common.
            slack = np.spacing(np.float32(1)) if column["op"] == "markdown" else np.spacing(abs(wanted))
            assert both_nan or abs(value - wanted) <= MAX_ULP_FLOAT32 * slack, column


def test_a_vector_of_no_keys(kernels: Any) -> None:
    history = np.zeros((1, 2, 0), np.int64)
    column = Column(OPS["mean"].element, 0, 0, 2, 1.0)
    assert kernels.call("features", [column], history, np.zeros(0, np.int32), 0).shape == (0, 1)
