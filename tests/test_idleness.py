"""Which partitions event time waits for: a clock of our own instead of time that passes."""

from __future__ import annotations

from omnistream.idleness import Idleness


def always(partition: str) -> bool:
    return True


def test_a_partition_is_idle_once_after_the_timeout_and_again_after_it_has_sent() -> None:
    idleness: Idleness[str] = Idleness(10)
    idleness.add(["a", "b"], now=100)
    idleness.saw("b", 105)
    assert idleness.fallen_silent(109, always) == []
    assert idleness.fallen_silent(110, always) == ["a"]
    assert idleness.fallen_silent(111, always) == []
    idleness.saw("a", 112)
    assert idleness.fallen_silent(121, always) == ["b"]
    assert idleness.fallen_silent(122, always) == ["a"]


def test_a_partition_that_is_behind_is_not_idle() -> None:
    idleness: Idleness[str] = Idleness(10)
    idleness.add(["a"], now=0)
    assert idleness.fallen_silent(1_000, lambda _: False) == []
    assert idleness.fallen_silent(1_000, always) == ["a"]


def test_the_clock_goes_on_when_all_are_idle_and_only_then() -> None:
    idleness: Idleness[str] = Idleness(10)
    assert idleness.silence_s(5) is None
    idleness.add(["a", "b"], now=0)
    idleness.saw("b", 4)
    assert idleness.fallen_silent(10, always) == ["a"]
    assert idleness.silence_s(10) is None
    assert idleness.fallen_silent(14, always) == ["b"]
    assert idleness.silence_s(20) == 16
    idleness.saw("a", 21)
    assert idleness.silence_s(22) is None
    idleness.remove(["a"])
    assert idleness.silence_s(22) == 18


def test_without_a_timeout_nothing_is_ever_idle() -> None:
    idleness: Idleness[str] = Idleness(0)
    idleness.add(["a"], now=0)
    assert idleness.fallen_silent(1e9, always) == []
    assert idleness.silence_s(1e9) is None
