"""A few runs of `make crash-test`, and what its checker sees."""

from __future__ import annotations

from pathlib import Path

from tests.state.crash import Tally, compare, crash_jobs, visible


def test_a_job_that_is_killed_and_started_again_writes_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    tally = crash_jobs(5, 3, tmp_path)
    assert tally.runs == 5
    assert tally.sound, "\n".join(tally.notes)
    assert tally.resumed, "no run was killed after its first checkpoint"
    found = visible(tmp_path / "whole")
    assert min(map(len, found.values())) > 0

    # The checker itself: one row less, one twice, one file of a run that was not over.
    wrong = {name: list(rows) for name, rows in found.items()}
    wrong["ever"] = wrong["ever"][1:]
    wrong["letters"].append(wrong["letters"][0])
    (tmp_path / "whole" / "out" / ".days.ndjson.tmp").touch()
    seen = Tally()
    compare(tmp_path / "whole", wrong, seen)
    assert (seen.different, seen.lost, seen.duplicated, seen.unfinished) == (2, 1, 1, 1)
    assert not seen.sound
