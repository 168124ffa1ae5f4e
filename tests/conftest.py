"""What all tests share: how hard hypothesis tries, and the engines that must agree."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

from omnistream import _core
from tests.engines import (
    CpuEngine,
    DeviceEngine,
    ReferenceEngine,
    device_engine,
    missing_for_cuda,
    missing_for_cuda_host,
)

# Derandomized: a failure is the same everywhere and every time.
settings.register_profile(
    "omnistream",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=40,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
settings.load_profile("omnistream")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that ask for `engine` on each of them, `decode_engine` also on each instruction set."""
    for fixture in {"engine", "decode_engine"} & set(metafunc.fixturenames):
        isas = _core.decode_isas() if fixture == "decode_engine" else [None]
        names = ["reference", *[f"cpu-{isa}" if isa else "cpu" for isa in isas], "cuda-host", "cuda"]
        metafunc.parametrize(fixture, names, indirect=True, scope="module")


def make_engine(name: str, stage: str) -> ReferenceEngine | CpuEngine | DeviceEngine:
    if name == "reference":
        return ReferenceEngine()
    if name in ("cuda", "cuda-host"):
        missing = missing_for_cuda(stage) if name == "cuda" else missing_for_cuda_host(stage)
        if missing is not None:
            pytest.skip(f"{name}, {stage}: {missing}")
        return device_engine(name)
    return CpuEngine(name.partition("-")[2] or None)


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> ReferenceEngine | CpuEngine | DeviceEngine:
    # test_window.py and test_window_kinds.py are tests of the stage window.
    return make_engine(request.param, request.module.__name__.rpartition("test_")[2].partition("_")[0])


@pytest.fixture(scope="module")
def decode_engine(request: pytest.FixtureRequest) -> ReferenceEngine | CpuEngine | DeviceEngine:
    return make_engine(request.param, "decode")
