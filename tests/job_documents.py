"""Job documents as tests write them, and what their mistakes say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omnistream.errors import JobError
from omnistream.job import parse_job

DAILY = {"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["units_sold"]}


def flat(**tables: Any) -> dict[str, Any]:
    """Return a job of flat orders."""
    return {"schema": {"use": "order_flat"}, **tables}


def the_problem(document: dict[str, Any], base_dir: Path | str = ".") -> str:
    """Return what the only mistake of a document says."""
    with pytest.raises(JobError) as caught:
        parse_job(document, file="job.toml", base_dir=base_dir)
    (problem,) = caught.value.problems
    return problem
