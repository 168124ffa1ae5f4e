"""Where the stages run: what the machine has, what is missing, and which device a batch is worth sending to.

Nothing here imports a CUDA package: the driver is asked through ctypes, packages are looked up by name.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnistream.errors import DeviceError

log = logging.getLogger(__name__)

# The oldest GPU that the kernels are compiled for, and the oldest CUDA that the driver must know.
MIN_CAPABILITY = (8, 0)
MIN_CUDA = (12, 0)

_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR, _MULTIPROCESSORS = 75, 76, 16  # CUdevice_attribute
_ERRORS = {100: "no CUDA device is visible", 803: "driver and libcuda.so.1 are of different versions"}


@dataclass(frozen=True, slots=True)
class Device:
    """A device and why it was taken."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that keeps a GPU from being used, and what to do about it."""

    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """What the driver says of one GPU."""

    index: int
    name: str
    capability: tuple[int, int]
    memory_bytes: int
    multiprocessors: int

    @property
    def arch(self) -> str:
        """Return the architecture as compilers name it: ``sm_90``."""
        return f"sm_{self.capability[0]}{self.capability[1]}"


@dataclass(frozen=True, slots=True)
class Cuda:
    """What this machine has of CUDA. ``missing`` is empty when `gpus` can be used."""

    hardware: int = 0  # NVIDIA devices on the PCI bus, with a driver or without
    driver: str | None = None
    version: tuple[int, int] | None = None  # of the CUDA that the driver knows
    gpus: tuple[Gpu, ...] = ()
    missing: tuple[Missing, ...] = ()


@functools.cache
def probe_cuda() -> Cuda:
    """Ask the machine, once a process."""
    hardware = _pci_devices()
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        what = "no NVIDIA driver: libcuda.so.1 is not found"
        fix = "install the driver" if hardware else "run on a machine with an NVIDIA GPU and its driver"
        return Cuda(hardware, missing=(Missing(what, f"{fix} (in a container: start it with --gpus all)"),))
    driver = _driver_version()
    code = library.cuInit(0)
    if code:
        what = f"the NVIDIA driver does not start: {_ERRORS.get(code, 'cuInit fails')} (CUDA error {code})"
        fix = "see what nvidia-smi says, and start a container with --gpus all"
        return Cuda(hardware, driver, missing=(Missing(what, fix),))
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    version = (number.value // 1000, number.value % 1000 // 10)
    gpus = tuple(_gpus(library))
    return Cuda(hardware, driver, version, gpus, tuple(_missing(version, gpus)))


def _pci_devices() -> int:
    count = 0
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
        except OSError:  # unplugged meanwhile
            continue
        count += vendor.startswith(_NVIDIA_VENDOR) and kind.startswith(_DISPLAY_CLASS)
    return count


def _driver_version() -> str | None:
    try:
        words = Path("/proc/driver/nvidia/version").read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def _gpus(library: Any) -> list[Gpu]:
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    gpus = []
    for index in range(count.value):
        device, memory = ctypes.c_int(), ctypes.c_size_t()
        name = ctypes.create_string_buffer(256)
        library.cuDeviceGet(ctypes.byref(device), index)
        library.cuDeviceGetName(name, len(name), device)
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        numbers = []
        for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR, _MULTIPROCESSORS):
            value = ctypes.c_int()
            library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            numbers.append(value.value)
        capability = (numbers[0], numbers[1])
        gpus.append(Gpu(index, name.value.decode(), capability, memory.value, numbers[2]))
    return gpus


def _missing(version: tuple[int, int], gpus: tuple[Gpu, ...]) -> list[Missing]:
    missing = []
    if not gpus:
        missing.append(Missing("the driver shows no GPU", "check CUDA_VISIBLE_DEVICES"))
    elif all(gpu.capability < MIN_CAPABILITY for gpu in gpus):
        best = max(gpus, key=lambda gpu: gpu.capability)
        what = f"the GPU is too old: {best.name} is {best.arch}, and the kernels need sm_80"
        missing.append(Missing(what, "take an NVIDIA GPU of the year 2020 or later"))
    if version < MIN_CUDA:
        known, needed = (".".join(map(str, each)) for each in (version, MIN_CUDA))
        what = f"the driver knows CUDA {known}, and the kernels need {needed}"
        missing.append(Missing(what, "update the NVIDIA driver"))
    extra = "gpu" if version >= (13, 0) else "gpu12"
    if importlib.util.find_spec("cupy") is None:
        missing.append(Missing("CuPy is not installed", f"pip install 'omnistream[{extra}]'"))
    return missing


_warned: set[str] = set()


def choose_device(wanted: str) -> Device:
    """Choose the device of a pipeline.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda"}
        What the job asks for. ``auto`` falls back to the CPU, with one warning a process for each reason;
        on a machine without NVIDIA hardware it is no warning but a note.

    Raises
    ------
    DeviceError
        When the job insists on CUDA, and it cannot be used: says what to install.
    """
    if wanted == "cpu":
        return Device("cpu", "asked for")
    cuda = probe_cuda()
    if cuda.missing:
        return fall_back(wanted, cuda.missing[0], bool(cuda.hardware or cuda.gpus))
    gpu = max(cuda.gpus, key=lambda gpu: gpu.capability)
    return Device("cuda", f"asked for: {gpu.name}" if wanted == "cuda" else f"{gpu.name} can be used")


def fall_back(wanted: str, missing: Missing, worth_a_warning: bool = True) -> Device:
    """Return the CPU, or raise where the job insists on CUDA.

    Raises
    ------
    DeviceError
        With what is missing and what to do.
    """
    if wanted == "cuda":
        raise DeviceError(
            f'device = "cuda": {missing.what}; {missing.fix}, or use device = "auto"; '
            "omnistream doctor shows what there is"
        )
    if missing.what not in _warned:
        _warned.add(missing.what)
        level = logging.WARNING if worth_a_warning else logging.INFO
        log.log(level, "device cpu: %s; %s", missing.what, missing.fix)
    return Device("cpu", missing.what)


# ---- auto: is a batch worth the trip? ----

# Of a stage and a size, each device gets so many batches before the faster one gets the rest.
TRIALS = 3
# Smaller batches are never sent: a launch and two copies take longer than the CPU needs for them.
SMALLEST_BATCH_BYTES = 64 << 10


@dataclass
class Costs:
    """What batches took, by stage, device and size: decides where the next one goes.

    Sizes are taken together by powers of two. The least time counts: what else ran made the others slower.
    """

    devices: tuple[str, ...] = ("cpu", "cuda")
    _seconds: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)

    def observe(self, stage: str, device: str, size_bytes: int, seconds: float) -> None:
        """Note what a batch took, the copies both ways included."""
        taken = self._seconds.setdefault((stage, device, size_bytes.bit_length()), [])
        taken.append(seconds)
        if len(taken) > TRIALS:
            taken.remove(max(taken))

    def is_measured(self, stage: str, size_bytes: int) -> bool:
        """Return whether every device has had its trials with batches of this size."""
        size = size_bytes.bit_length()
        return all(len(self._seconds.get((stage, each, size), [])) >= TRIALS for each in self.devices)

    def choose(self, stage: str, size_bytes: int) -> Device:
        """Return the device for a batch: each in turn until all are measured, then the faster one."""
        if size_bytes < SMALLEST_BATCH_BYTES:
            return Device("cpu", f"batches below {SMALLEST_BATCH_BYTES >> 10} KiB are not worth the trip")
        size = size_bytes.bit_length()
        taken = {device: self._seconds.get((stage, device, size), []) for device in self.devices}
        for device, seconds in taken.items():
            if len(seconds) < TRIALS:
                return Device(device, f"batch {len(seconds) + 1} of {TRIALS} to measure it by")
        best = {device: min(seconds) for device, seconds in taken.items()}
        device = min(best, key=best.__getitem__)
        shown = ", ".join(f"{name} {seconds * 1e3:.3g} ms" for name, seconds in best.items())
        return Device(device, f"{shown} for a batch of {size_bytes >> 10} KiB")
