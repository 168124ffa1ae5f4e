"""Where each stage of a pipeline runs, and why.

The stages pass batches on, which lie on the host (`_core.Batch`, `_core.CleanBatch`) or on the device
(`kernels.rows`). A stage has a `Seat`, which says before each batch where it is to be worked on; the stage
brings the batch there. With ``device = "cuda"`` a stage is on the device whenever it has kernels for what the
job asks; with ``"auto"`` where batches of that size were faster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnistream.device import Costs, Device, Missing, choose_device, fall_back, probe_cuda
from omnistream.errors import DeviceError

if TYPE_CHECKING:
    from omnistream.kernels.launch import Launcher

# Set to "host" the kernels run on the CPU: to rehearse a job without a GPU, slowly.
LAUNCHER_VARIABLE = "OMNISTREAM_CUDA_LAUNCHER"
# Those with CUDA sources; encode's work is a part of decode.
KERNEL_STAGES = ("decode", "clean", "encode", "window")
# What a lane of a row takes, to speak of sizes before anything is copied.
LANE_BYTES = 8


@dataclass
class Seat:
    """Where one stage runs.

    Attributes
    ----------
    stage : str
    launcher : Launcher or None
        The device, if there is one and the stage has kernels.
    why : str
        Why it runs where it does, where that is not what the job asks of all stages.
    costs : Costs or None
        What batches took; None: all go to the device.
    stays : bool
        The stage has state, which would have to move: once both devices are measured it stays.
    """

    stage: str
    launcher: Launcher | None
    why: str = ""
    costs: Costs | None = None
    stays: bool = False
    _chosen: str = ""
    _settled: bool = False

    def choose(self, size_bytes: int) -> bool:
        """Return whether a batch is for the device."""
        if self.launcher is None:
            return False
        if self.costs is None:
            return True
        if not self._settled:
            device = self.costs.choose(self.stage, size_bytes)
            self._chosen, self.why = device.name, device.reason
            self._settled = self.stays and self.costs.is_measured(self.stage, size_bytes)
        return self._chosen == "cuda"

    @contextmanager
    def turn(self, size_bytes: int) -> Iterator[Launcher | None]:
        """Give the device if the batch is for it, else None; note what the work takes."""
        launcher = self.launcher if self.choose(size_bytes) else None
        if self.costs is None or self.launcher is None or self._settled:
            yield launcher
            return
        start = time.perf_counter()
        yield launcher
        self.launcher.wait()
        self.note("cpu" if launcher is None else "cuda", size_bytes, time.perf_counter() - start)

    def note(self, device: str, size_bytes: int, seconds: float) -> None:
        """Remember what a batch took."""
        if self.costs is not None:
            self.costs.observe(self.stage, device, size_bytes, seconds)

    @property
    def device(self) -> str:
        """Return the device's name, ``cpu`` or, before the first batch of an ``auto`` job, ``auto``."""
        if self.launcher is None:
            return "cpu"
        if self.costs is None:
            return self.launcher.name
        return {"": "auto", "cpu": "cpu"}.get(self._chosen, self.launcher.name)


ON_CPU = Seat("", None)


class Placement:
    """The device of a pipeline, and the seats of its stages.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda"}
    launcher : Launcher, optional
        Stands for the GPU: for tests.

    Raises
    ------
    DeviceError
        When the job insists on CUDA, and it cannot be used.
    """

    def __init__(self, wanted: str, launcher: Launcher | None = None) -> None:
        self.wanted = wanted
        self.device, self.launcher = _open(wanted, launcher)
        self._costs = Costs() if wanted == "auto" else None
        self.seats: dict[str, Seat] = {}

    def seat(self, stage: str, refusal: str | None, stays: bool = False, measured: bool = True) -> Seat:
        """Give a stage its seat; `refusal` says why it is not on the device, if it is not."""
        launcher = self.launcher if refusal is None else None
        why = refusal if refusal is not None and self.launcher is not None else ""
        self.seats[stage] = Seat(stage, launcher, why, self._costs if measured else None, stays)
        return self.seats[stage]

    def check(self) -> None:
        """Refuse a job that insists on CUDA and of which nothing would run there.

        Raises
        ------
        DeviceError
            With the reason of each stage.
        """
        if self.wanted != "cuda" or any(seat.launcher is not None for seat in self.seats.values()):
            return
        reasons = "; ".join(f"{seat.stage}: {seat.why}" for seat in self.seats.values())
        raise DeviceError(f'device = "cuda": no stage of the job has kernels; {reasons}; use device = "auto"')


def _open(wanted: str, launcher: Launcher | None) -> tuple[Device, Launcher | None]:
    if wanted == "cpu":
        return choose_device(wanted), None
    if launcher is None and os.environ.get(LAUNCHER_VARIABLE) == "host":
        device = Device("cuda-host", "the kernels run on the CPU, as a rehearsal")
    elif launcher is None:
        device = choose_device(wanted)
    else:
        return Device(launcher.name, "as the caller wants"), launcher
    if device.name == "cpu":
        return device, None
    try:
        launcher = _launcher(device.name)
        launcher.load(KERNEL_STAGES)
    except (DeviceError, RuntimeError) as error:  # CuPy's own are RuntimeErrors
        return fall_back(wanted, Missing(str(error).splitlines()[0], "see what omnistream doctor says")), None
    return device, launcher


def _launcher(name: str) -> Launcher:
    from omnistream.kernels.launch import CudaLauncher, HostLauncher

    if name == "cuda-host":
        return HostLauncher()
    gpu = max(probe_cuda().gpus, key=lambda gpu: gpu.capability)
    return CudaLauncher(gpu.arch, gpu.index)
