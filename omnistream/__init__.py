"""omnistream: a throughput-first streaming core for omnichannel retail.

Order events come in as bytes, become Arrow columns, update event-time state, and leave as Arrow results.
Start with `load_job` and `Pipeline`; docs/index.md leads on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnistream.checkpoint import Snapshot
    from omnistream.job import JobSpec, load_job, parse_job
    from omnistream.ndjson import NdjsonDecoder
    from omnistream.pipeline import Metrics, Pipeline
    from omnistream.run import run_job
    from omnistream.schema import Field, Schema

__all__ = [
    "Field",
    "JobSpec",
    "Metrics",
    "NdjsonDecoder",
    "Pipeline",
    "Schema",
    "Snapshot",
    "load_job",
    "parse_job",
    "run_job",
]

# Loaded at first use: `import omnistream` and `omnistream --help` cost nothing.
_HOMES = {
    "Field": "schema",
    "JobSpec": "spec",
    "Metrics": "pipeline",
    "NdjsonDecoder": "ndjson",
    "Pipeline": "pipeline",
    "Schema": "schema",
    "Snapshot": "checkpoint",
    "load_job": "job",
    "parse_job": "job",
    "run_job": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'omnistream' has no attribute {name!r}")
    return getattr(import_module(f"omnistream.{_HOMES[name]}"), name)
