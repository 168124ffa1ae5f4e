"""Where each stage of a pipeline runs, and why.

The stages pass batches on, which lie on the host (`_core.Batch`, `_core.CleanBatch`) or on the device
(`kernels.rows`). A stage has a `Seat`, which says before each batch where it is to be worked on; the stage
brings the batch there. With ``device = "cuda"`` a stage is on the device whenever it has kernels for what the
job asks; with ``"auto"`` where batches of that size were faster.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnistream.device import Costs, Device, Missing, choose_device, fall_back, probe_cuda
from omnistream.errors import DeviceError

if TYPE_CHECKING:
    from omnistream.kernels.launch import Launcher

log = logging.getLogger(__name__)

# Set to "host" the kernels run on the CPU: to rehearse a job without a GPU, slowly.
LAUNCHER_VARIABLE = "OMNISTREAM_CUDA_LAUNCHER"
# Those with CUDA sources; encode's work is a part of decode.
KERNEL_STAGES = ("decode", "clean", "encode", "window")
# What a lane of a row takes, to speak of sizes before anything is copied.
LANE_BYTES = 8


class Placement:
    """The device of a pipeline, and the seats of its stages.

    CuPy and the kernels are loaded here when the job insists on them, and with ``auto`` for the first batch
    that is worth the trip.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda"}
    launcher : Launcher, optional
        Stands for the GPU: for tests.
    memory_bytes : int
        How much of the device's memory may be taken; 0 for as much as there is.

    Raises
    ------
    DeviceError
        When the job insists on CUDA, and it cannot be used.
    """

    def __init__(self, wanted: str, launcher: Launcher | None = None, memory_bytes: int = 0) -> None:
        self.wanted = wanted
        self._memory_bytes = memory_bytes or None
        self.costs = Costs() if wanted == "auto" else None
        self.seats: dict[str, Seat] = {}
        self._launcher: Launcher | None = None
        if wanted == "cpu":
            self.device = choose_device(wanted)
        elif launcher is not None:
            self.device, self._launcher = Device(launcher.name, "as the caller wants"), launcher
        elif os.environ.get(LAUNCHER_VARIABLE) == "host":
            self.device = Device("cuda-host", "the kernels run on the CPU, as a rehearsal")
        else:
            self.device = choose_device(wanted)
        if wanted == "cuda":
            self.launcher()

    @property
    def usable(self) -> bool:
        """Whether there is a device, as far as is known."""
        return self.device.name != "cpu"

    def launcher(self) -> Launcher | None:
        """Return the device with its kernels ready, or None when it turns out that they cannot be used.

        Raises
        ------
        DeviceError
            In the latter case, when the job insists on CUDA.
        """
        if self._launcher is not None or not self.usable:
            return self._launcher
        try:
            launcher = _new_launcher(self.device.name, self._memory_bytes)
            launcher.load(KERNEL_STAGES)
        except (DeviceError, RuntimeError) as error:  # CuPy's own are RuntimeErrors
            missing = Missing(str(error).splitlines()[0], "see what omnistream doctor says")
            self.device = fall_back(self.wanted, missing)
            return None
        log.info("device %s: %s", self.device.name, self.device.reason)
        self._launcher = launcher
        return launcher

    def seat(self, stage: str, refusal: str | None, stays: bool = False) -> Seat:
        """Give a stage its seat; `refusal` says why it is not on the device, if it is not."""
        self.seats[stage] = Seat(stage, self, refusal, stays)
        return self.seats[stage]

    def check(self) -> None:
        """Refuse a job that insists on CUDA and of which nothing would run there.

        Raises
        ------
        DeviceError
            With the reason of each stage.
        """
        if self.wanted != "cuda" or any(seat.able for seat in self.seats.values()):
            return
        reasons = "; ".join(f"{seat.stage}: {seat.why}" for seat in self.seats.values())
        raise DeviceError(f'device = "cuda": no stage of the job has kernels; {reasons}; use device = "auto"')


@dataclass
class Seat:
    """Where one stage runs.

    Attributes
    ----------
    stage : str
    placement : Placement
        Has the device.
    refusal : str or None
        Why the stage is never there.
    stays : bool
        The stage has state, which would have to move: once both devices are measured it stays.
    """

    stage: str
    placement: Placement
    refusal: str | None = None
    stays: bool = False
    _chosen: Device | None = None
    _measured: bool = False

    @property
    def able(self) -> bool:
        """Whether some batch may be worked on on the device."""
        return self.refusal is None and self.placement.usable

    @property
    def fixed(self) -> bool:
        """Whether all batches are."""
        return self.able and self.placement.costs is None

    def choose(self, size_bytes: int) -> bool:
        """Return whether a batch is for the device."""
        costs = self.placement.costs
        if not self.able or costs is None:
            return self.able
        if self._chosen is None or not (self.stays and self._measured):
            self._chosen = costs.choose(self.stage, size_bytes)
            if not self._measured and costs.is_measured(self.stage, size_bytes):
                self._measured = True
                log.info("%s on %s: %s", self.stage, self._chosen.name, self._chosen.reason)
        return self._chosen.name == "cuda"

    def turn(self, size_bytes: int) -> AbstractContextManager[Launcher | None]:
        """Give the device if the batch is for it, else None; note what the work takes."""
        return self._turn(size_bytes) if self.able else nullcontext()

    @contextmanager
    def _turn(self, size_bytes: int) -> Iterator[Launcher | None]:
        launcher = self.placement.launcher() if self.choose(size_bytes) else None
        start = time.perf_counter()
        try:
            yield launcher
        except MemoryError as error:
            if launcher is None:
                raise
            from omnistream.kernels.memory import too_short

            raise too_short(launcher.pool, self.stage) from error
        if self.placement.costs is not None and not (self.stays and self._measured):
            if launcher is not None:
                launcher.wait()
            self.note("cpu" if launcher is None else "cuda", size_bytes, time.perf_counter() - start)

    def note(self, device: str, size_bytes: int, seconds: float) -> None:
        """Remember what a batch took."""
        if self.placement.costs is not None:
            self.placement.costs.observe(self.stage, device, size_bytes, seconds)

    @property
    def device(self) -> str:
        """Return the device's name, ``cpu`` or, before the first batch of an ``auto`` job, ``auto``."""
        if not self.able:
            return "cpu"
        if self.placement.costs is not None and self._chosen is None:
            return "auto"
        name = self.placement.device.name if self.fixed or self._chosen is None else self._chosen.name
        return self.placement.device.name if name == "cuda" else name

    @property
    def why(self) -> str:
        """Return why it runs there, where that is not what the job asks of all stages."""
        if not self.placement.usable:
            return ""
        return self.refusal or (self._chosen.reason if self._chosen else "")


ON_CPU = Seat("", Placement("cpu"))


def _new_launcher(name: str, memory_bytes: int | None) -> Launcher:
    from omnistream.kernels.launch import CudaLauncher, HostLauncher

    if name == "cuda-host":
        return HostLauncher(limit_bytes=memory_bytes)
    gpu = max(probe_cuda().gpus, key=lambda gpu: gpu.capability)
    return CudaLauncher(gpu.arch, gpu.index, memory_bytes)
