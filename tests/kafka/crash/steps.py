"""Runs a job in a process that kills itself at a chosen step.

It wraps the methods of the steps; the package knows nothing of it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

STUCK_SECONDS = 60
# A small input makes many polls.
MESSAGES_PER_POLL = 40

# step: (module, class or "" for a function of the module, name), in the order in which a run comes to them
STEPS = {
    "poll": ("omnistream.source.kafka", "KafkaSource", "poll"),
    "decode": ("omnistream.decode", "Decode", "run"),
    "window": ("omnistream.window", "Windows", "run"),
    "produce": ("omnistream.sink.kafka", "Producer", "produce"),
    "snapshot": ("omnistream.checkpoint", "", "_write_durably"),
    "snapshot_saved": ("omnistream.delivery", "Delivery", "save"),
    "send_offsets": ("omnistream.sink.kafka", "Producer", "send_offsets"),
    "commit": ("omnistream.sink.kafka", "Producer", "commit"),
}
# What a process needs before it can run a job: imported once, by the process that the others are forked from.
PRELOAD = sorted(
    {module for module, _, _ in STEPS.values()} | {"omnistream.run_kafka", "omnistream.job", __name__}
)


@dataclass(frozen=True)
class Strike:
    """SIGKILL at the `call`-th call of a step (from 1): before it, after it, or `delay_s` after it began."""

    step: str
    call: int
    moment: str = "before"  # "during", "after"
    delay_s: float = 0.0

    def arm(self) -> None:
        module_name, class_name, name = STEPS[self.step]
        module = importlib.import_module(module_name)
        owner = getattr(module, class_name) if class_name else module
        original: Callable[..., Any] = getattr(owner, name)
        calls = 0

        def struck(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            if self.step != "poll":
                calls += 1
            mine = calls == self.call and self.step != "poll"
            if mine and self.moment == "before":
                die()
            if mine and self.moment == "during":
                threading.Timer(self.delay_s, die).start()  # native code lets go of the GIL
            result = original(*arguments, **named)
            if self.step == "poll" and result:  # a poll that brought nothing is no step
                calls += 1
                mine = calls == self.call
            if mine and self.moment == "after":
                die()
            return result

        setattr(owner, name, struck)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, job_name: str, strike: Strike | None, pause_s: float) -> None:
    """Run ``<folder>/<job_name>.toml``; the ledger goes to ``<job_name>.ledger.json``, errors to a log.

    `pause_s` slows the run down, between polls, so that something can happen to it in the middle.
    """
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    logging.basicConfig(filename=folder / f"{job_name}.log", level=logging.INFO, force=True)
    faulthandler.dump_traceback_later(STUCK_SECONDS, file=(folder / f"{job_name}.stuck").open("w"))
    from omnistream.job import load_job
    from omnistream.run import run_job
    from omnistream.source import kafka

    assert kafka.MESSAGES_PER_POLL > MESSAGES_PER_POLL
    kafka.MESSAGES_PER_POLL = MESSAGES_PER_POLL
    if strike is not None:
        strike.arm()
    if pause_s:
        poll = kafka.KafkaSource.poll

        def slow_poll(self: kafka.KafkaSource, *arguments: Any) -> Any:
            time.sleep(pause_s)
            return poll(self, *arguments)

        kafka.KafkaSource.poll = slow_poll  # type: ignore[method-assign]
    try:
        result = run_job(load_job(folder / f"{job_name}.toml", needs_source=True))
    except Exception:
        log.exception("the job has ended")
        sys.exit(1)
    (folder / f"{job_name}.ledger.json").write_text(json.dumps(result.metrics.to_dict()))
