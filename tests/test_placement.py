"""Which stage runs where, what is said of it, and jobs that go from the CPU to a device and back."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from omnistream.errors import DeviceError, SourceError
from omnistream.job import JobSpec, load_job, parse_job
from omnistream.kernels.launch import HostLauncher
from omnistream.pipeline import Metrics, Pipeline
from omnistream.placement import LAUNCHER_VARIABLE
from omnistream.run import run_job
from tests.pipeline_jobs import DAILY, RULES, SALES
from tests.test_run import orders, shop, written

__all__ = ["orders"]  # a fixture
CONFIG = {"bootstrap.servers": "localhost:9092", "group.id": "shop"}
KAFKA = {"type": "kafka", "topics": "orders", "config": CONFIG}
ROOT = Path(__file__).parent.parent
VISITS = {"name": "visits", "kind": "session", "gap": "20m", "keys": ["sku"], "measures": ["count"]}


def explained(**tables: object) -> dict[str, str]:
    """Return by stage what explain says behind its name."""
    job = parse_job({"job": {"device": "cuda"}, "schema": {"use": "order_flat"}, "clean": {}, **tables})
    lines = Pipeline(job, launcher=HostLauncher()).explain().splitlines()[1:]
    return {line[2:9].strip(): line[10:] for line in lines}


def test_stages_with_kernels_are_on_the_device() -> None:
    said = explained(clean={"rule": RULES, "duplicates": {"within": "1h"}}, window=[SALES])
    for stage in ("decode", "clean", "encode", "window"):
        assert said[stage].startswith("cuda-host ")
        assert "[" not in said[stage]
    assert said["derive"] == "cpu  none [there is none]"


@pytest.mark.parametrize(
    ("tables", "stage", "why"),
    [
        (
            {
                "clean": {"duplicates": {"within": "1h"}},
                "source": KAFKA | {"format": "arrow"},
                "window": [SALES],
            },
            "clean",
            "duplicates are looked up on the CPU, where the rows are",
        ),
        ({"source": KAFKA | {"format": "arrow"}}, "decode", "messages in Arrow have no kernel"),
        ({"source": KAFKA | {"columns": {"at": "timestamp"}}}, "decode", "beside the values"),
        ({"window": [VISITS]}, "window", "visits: session windows have no kernel"),
        (
            {"window": [DAILY], "derive": [{"name": "d", "from": "daily", "demand": "units_net"}]},
            "derive",
            "exact 128-bit moments",
        ),
    ],
)
def test_the_others_say_why(tables: dict[str, object], stage: str, why: str) -> None:
    said = explained(**tables)
    assert said[stage].startswith("cpu ")
    assert why in said[stage]


def test_one_window_may_stay_behind() -> None:
    said = explained(window=[SALES, VISITS])
    assert said["window"].startswith("cuda-host ")
    assert said["window"].endswith("(on the CPU: session windows have no kernel)")


def test_a_job_of_which_nothing_has_a_kernel_is_an_error() -> None:
    document = {
        "schema": {"use": "order_flat"},
        "source": KAFKA | {"format": "arrow"},
        "clean": {"duplicates": {"within": "1h"}},
        "window": [VISITS],
    }
    job = parse_job(document)
    with pytest.raises(DeviceError, match=r"no stage of the job has kernels; decode: .*Arrow.*visits"):
        Pipeline(replace(job, device="cuda"), launcher=HostLauncher())
    assert Pipeline(replace(job, device="auto"), launcher=HostLauncher()).metrics().balanced


PROBE = """
import logging, sys
from omnistream.errors import DeviceError
from omnistream.job import parse_job
from omnistream.pipeline import Metrics, Pipeline

logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
job = {"schema": {"use": "order_flat"}}
block = b"{}\\n" * 40_000  # worth the trip, to find out
for _ in range(2):
    pipeline = Pipeline(parse_job(job))
    for _ in range(5):
        pipeline.push(block)
    assert pipeline.metrics().rejected_messages == 5 * 40_000
    print(pipeline.device.name)
try:
    Pipeline(parse_job(job | {"job": {"device": "cuda"}}))
except DeviceError as error:
    print(error)
"""


def test_kernels_that_do_not_compile(tmp_path: Path) -> None:
    environment = os.environ | {
        "CXX": "no-such-compiler",
        "OMNISTREAM_CACHE_DIR": str(tmp_path),
        LAUNCHER_VARIABLE: "host",
    }
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
    warning, *devices, error = done.stdout.splitlines()
    what = "the host launcher needs a C++20 compiler; no-such-compiler is not found"
    assert warning.startswith(f"device cpu: {what}; ")
    assert devices == ["cpu"] * 2
    assert error.startswith(f'device = "cuda": {what}; ')


# ---- jobs ----


def told_on_any_device(metrics: Metrics) -> Metrics:
    """Return the metrics without what depends on where the work was done."""
    windows = {name: {**window, "bytes": 0} for name, window in metrics.windows.items()}
    return replace(metrics, speculated=0, left_to_cpu=0, state_bytes=0, windows=windows)


def says_a_key_twice(message: bytes) -> bool:
    try:
        keys = [key for key, _ in json.loads(message, object_pairs_hook=list)]
    except ValueError:
        return False
    return len(set(keys)) < len(keys)


@pytest.mark.parametrize(("before", "after"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_another_device(
    before: str, after: str, tmp_path: Path, orders: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAUNCHER_VARIABLE, "host")

    def on(device: str, folder: Path) -> JobSpec:
        return replace(load_job(folder / "job.toml"), device=device, duplicates=None)

    shop(tmp_path / "whole", orders)
    whole = run_job(on("cpu", tmp_path / "whole"))
    shop(tmp_path / "moved", orders)
    packed = tmp_path / "moved" / "b.ndjson.gz"
    packed.write_bytes(b"not gzip")
    with pytest.raises(SourceError, match=r"b\.ndjson\.gz"):
        run_job(on(before, tmp_path / "moved"))
    assert list((tmp_path / "moved" / "state").iterdir())
    packed.write_bytes(gzip.compress(orders[1]))
    resumed = run_job(on(after, tmp_path / "moved"))
    assert resumed.progress.messages_before > 0
    assert written(tmp_path / "moved") == written(tmp_path / "whole")
    assert told_on_any_device(resumed.metrics) == told_on_any_device(whole.metrics)
    left = resumed.metrics.left_to_cpu
    twice = sum(says_a_key_twice(line) for half in orders for line in half.splitlines())
    assert 0 < left <= resumed.metrics.rejected_messages + twice, "the broken ones and these, and no other"
