"""docs/embedding.md is one program that prints what it says it prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "embedding.md"
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def printed_by(block: str) -> list[str]:
    """Comments behind a print, or on lines of their own."""
    return re.findall(r"(?m)^(?:.*print\(.*\)  )?# (.*)$", block)


def test_every_block_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    assert len(BLOCKS) == 8
    for block in BLOCKS:
        exec(compile(block, DOCUMENT.name, "exec"), names)
        expected = printed_by(block)
        assert expected
        assert capsys.readouterr().out.splitlines() == expected
