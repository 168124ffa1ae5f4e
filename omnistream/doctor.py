"""``omnistream doctor`` and ``warmup``: what this machine has for GPU and Kafka, and kernels made ready."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from omnistream import _core
from omnistream.cache import cache_dir
from omnistream.device import Cuda, probe_cuda
from omnistream.errors import DeviceError

# What a package is for, by the names that its distributions have.
_PACKAGES = {
    "numpy": (("numpy",), "arrays"),
    "pyarrow": (("pyarrow",), "batches, files"),
    "numba": (("numba",), "features"),
    "numba-cuda": (("numba-cuda",), "features on the GPU"),
    "cupy": (("cupy-cuda13x", "cupy-cuda12x", "cupy"), "the GPU"),
    "cuda-core": (("cuda-core",), "omnistream warmup without a GPU"),
    "cudf": (("cudf-cu13", "cudf-cu12", "cudf"), "data frames on the GPU"),
    "rmm": (("rmm-cu13", "rmm-cu12", "rmm"), "the memory pool of cudf"),
    "confluent-kafka": (("confluent-kafka",), "topics"),
}
_COPY_BYTES = 256 << 20


def examine() -> dict[str, Any]:
    """Return all findings, in JSON types."""
    cuda = probe_cuda()
    missing = cuda.missing
    cache = cache_dir()
    files = [path for path in cache.rglob("*") if path.is_file()] if cache.is_dir() else []
    return {
        "omnistream": _installed(("omnistream",)),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "decode_isa": _core.decode_isa(),
        "nvidia_hardware": cuda.hardware,
        "driver": cuda.driver,
        "driver_cuda": None if cuda.version is None else ".".join(map(str, cuda.version)),
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "arch": gpu.arch,
                "memory_bytes": gpu.memory_bytes,
                "multiprocessors": gpu.multiprocessors,
            }
            for gpu in cuda.gpus
        ],
        "packages": {name: _installed(names) for name, (names, _) in _PACKAGES.items()},
        "librdkafka": _librdkafka(),
        "compile_cache": {
            "path": str(cache),
            "files": len(files),
            "size_bytes": sum(path.stat().st_size for path in files),
        },
        "copies": _copies(cuda),
        "cuda_usable": not missing,
        "missing": [{"what": each.what, "fix": each.fix} for each in missing],
    }


def describe(findings: dict[str, Any]) -> str:
    """Return the findings as lines for people."""
    gpus = findings["gpus"]
    lines = [
        f"omnistream      {findings['omnistream'] or 'not installed'}",
        f"python          {findings['python']}, {findings['machine']}, {findings['cpus']} CPUs",
        f"decode          {findings['decode_isa']}",
        f"NVIDIA hardware {findings['nvidia_hardware'] or 'none on the PCI bus'}",
        f"driver          {_driver(findings)}",
    ]
    for gpu in gpus:
        memory = f"{gpu['memory_bytes'] / 2**30:.1f} GiB"
        lines.append(f"GPU {gpu['index']}           {gpu['name']}, {gpu['arch']}, {memory}")
    if not gpus:
        lines.append("GPU             none")
    for name, (_, purpose) in _PACKAGES.items():
        lines.append(f"{name:<15} {findings['packages'][name] or 'not installed'} ({purpose})")
    cache = findings["compile_cache"]
    lines.append(f"librdkafka      {findings['librdkafka'] or 'none: it comes with confluent-kafka'}")
    lines.append(
        f"compile cache   {cache['path']}: {cache['files']} files, {cache['size_bytes'] / 2**20:.1f} MiB"
    )
    copies = findings["copies"]
    if "skipped" in copies:
        lines.append(f"copies          not measured: {copies['skipped']}")
    else:
        rates = ", ".join(f"{name.removesuffix('_gb_s')} {rate:.1f} GB/s" for name, rate in copies.items())
        lines.append(f"copies          {rates}")
    lines.append("")
    if findings["cuda_usable"]:
        lines.append("cuda            can be used")
    lines += [f"cuda            {each['what']}; {each['fix']}" for each in findings["missing"]]
    return "\n".join(lines)


def warm_up(arches: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Compile every stage's kernels and return what is kept of each.

    Parameters
    ----------
    arches : sequence of str, optional
        Such as ``sm_90``, on any machine; by default those of this machine's GPUs.

    Raises
    ------
    DeviceError
        When there is no GPU to compile for, or no compiler, or it refuses.
    """
    from omnistream.kernels import load

    if not arches:
        cuda = probe_cuda()
        if not cuda.gpus:
            missing = cuda.missing[0]
            raise DeviceError(f"{missing.what}; name what to compile for: omnistream warmup --arch sm_90")
        arches = sorted({gpu.arch for gpu in cuda.gpus})
    unknown = [arch for arch in arches if re.fullmatch(r"sm_\d{2,3}[af]?", arch) is None]
    if unknown:
        raise DeviceError(f"{unknown[0]} is no architecture; write one such as {', '.join(load.ARCHES)}")
    paths = [(stage, arch, load.compile_cubin(stage, arch)) for stage in load.stages() for arch in arches]
    return [
        {"stage": stage, "arch": arch, "path": str(path), "size_bytes": path.stat().st_size}
        for stage, arch, path in paths
    ]


def _driver(findings: dict[str, Any]) -> str:
    if findings["driver_cuda"] is None:
        return findings["driver"] or "none"
    return f"{findings['driver'] or 'version not known'}, CUDA {findings['driver_cuda']}"


def _installed(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _librdkafka() -> str | None:
    if importlib.util.find_spec("confluent_kafka") is None:
        return None
    import confluent_kafka

    return str(confluent_kafka.libversion()[0])


def _copies(cuda: Cuda) -> dict[str, Any]:
    """Measure copies between host and GPU, from pinned memory and from pageable."""
    if cuda.missing:
        return {"skipped": cuda.missing[0].what}
    import cupy
    import numpy as np

    on_device = cupy.empty(_COPY_BYTES, np.uint8)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(_COPY_BYTES), np.uint8, _COPY_BYTES)
    pageable = np.zeros(_COPY_BYTES, np.uint8)

    def rate(copy: Any) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            copy()
            cupy.cuda.get_current_stream().synchronize()
            times.append(time.perf_counter() - start)
        return _COPY_BYTES / min(times) / 1e9

    return {
        "pinned_to_gpu_gb_s": rate(lambda: on_device.set(pinned)),
        "gpu_to_pinned_gb_s": rate(lambda: on_device.get(out=pinned)),
        "pageable_to_gpu_gb_s": rate(lambda: on_device.set(pageable)),
    }
