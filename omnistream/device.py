"""Where the stages run."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from omnistream.errors import DeviceError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Device:
    """A device and why it was taken."""

    name: str
    reason: str


def choose_device(wanted: str) -> Device:
    """Choose the device of a pipeline.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda"}
        What the job asks for.

    Raises
    ------
    DeviceError
        When the job insists on CUDA.
    """
    if wanted == "cuda":
        raise DeviceError(
            'device = "cuda": this version has no CUDA kernels; use device = "auto", which takes the CPU'
        )
    device = Device("cpu", "asked for" if wanted == "cpu" else "this version has no CUDA kernels")
    log.info("device %s (%s)", device.name, device.reason)
    return device
