"""Kernels on disk and on the GPU: each stage is one CUDA source, compiled once for an architecture and kept.

The cubins lie in the cache (``omnistream doctor`` shows where), named after a hash of all that went into
them. `compile_cubin` needs no GPU, so ``omnistream warmup --arch sm_90`` can fill the cache of an image;
`module` is what a pipeline loads.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnistream.cache import cache_dir
from omnistream.errors import DeviceError

FOLDER = Path(__file__).resolve().parent
STANDARD = "c++20"
# What CI compiles for: A100, H100, B200.
ARCHES = ("sm_80", "sm_90", "sm_100")
_INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def stages() -> list[str]:
    """Return the stages that have CUDA sources."""
    return sorted(path.stem for path in FOLDER.glob("*.cu"))


def include_folders() -> list[str]:
    """Return where headers are found: ours, then CUB's and libcu++'s, from whichever package has them.

    Raises
    ------
    DeviceError
        When no package has CUB.
    """
    return [str(FOLDER), *_cccl_folders()]


@functools.cache
def _cccl_folders() -> tuple[str, ...]:
    # CuPy ships them for its own kernels; NVIDIA's packages have them where pathfinder looks.
    spec = importlib.util.find_spec("cupy")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent / "_core" / "include" / "cupy" / "_cccl"
        if (root / "cub").is_dir():
            return tuple(str(root / name) for name in ("cub", "thrust", "libcudacxx"))
    if (
        importlib.util.find_spec("cuda") is not None
        and importlib.util.find_spec("cuda.pathfinder") is not None
    ):
        from cuda.pathfinder import find_nvidia_header_directory

        found = [find_nvidia_header_directory(name) for name in ("cccl", "cudart")]
        if found[0] is not None:
            return tuple(str(folder) for folder in found if folder is not None)
    raise DeviceError("the headers of CUB are not found; pip install 'omnistream[gpu]' or nvidia-cuda-cccl")


def sources(stage: str) -> dict[str, bytes]:
    """Return the source of a stage and all headers of ours that it includes, by path."""
    first = FOLDER / f"{stage}.cu"
    if not first.is_file():
        raise DeviceError(f"{stage} has no CUDA kernels; there are: {', '.join(stages()) or 'none'}")
    texts: dict[str, bytes] = {}
    waiting = [first]
    while waiting:
        path = waiting.pop()
        if str(path) in texts:
            continue
        text = texts[str(path)] = path.read_bytes()
        for name in _INCLUDE.findall(text):
            near = [folder / name.decode() for folder in (path.parent, FOLDER)]
            waiting += [found.resolve() for found in near[:] if found.is_file()][:1]
    return dict(sorted(texts.items()))


def compile_cubin(stage: str, arch: str) -> Path:
    """Compile a stage for an architecture with NVRTC, or find what was compiled before.

    Needs the package cuda-core and no GPU.

    Raises
    ------
    DeviceError
        When cuda-core is missing, or the compiler refuses: with its first error.
    """
    path = cubin_path(stage, arch)
    if not path.is_file():
        _write_whole(path, _compile(stage, arch)[0])
    return path


def cubin_path(stage: str, arch: str) -> Path:
    """Return where the cubin of a stage is kept, named after its sources, options and compiler."""
    digest = _digest(stage)
    digest.update(f"{arch} {STANDARD} {_nvrtc_version()}".encode())
    return cache_dir() / "kernels" / f"{stage}-{arch}-{digest.hexdigest()[:16]}.cubin"


def _digest(stage: str) -> Any:
    digest = hashlib.sha256()
    for path, text in sources(stage).items():
        digest.update(Path(path).name.encode() + b"\0" + text + b"\0")
    return digest


@dataclass(frozen=True, slots=True)
class Usage:
    """What a kernel takes on an architecture, as its assembler says."""

    registers: int
    spilled_bytes: int
    stack_bytes: int
    shared_bytes: int


def usage(stage: str, arch: str) -> tuple[dict[str, Usage], str]:
    """Compile a stage anew; return what each of its kernels takes, and the compiler's warnings.

    Raises
    ------
    DeviceError
        As `compile_cubin`.
    """
    _, log = _compile(stage, arch)
    found = {}
    for name, text in re.findall(r"entry function '(\w+)'(.*?)(?=Compiling entry|\Z)", log, re.DOTALL):
        numbers = {
            what: sum(map(int, re.findall(rf"(\d+) {pattern}", text))) for what, pattern in _USAGE.items()
        }
        found[name] = Usage(**numbers)
    return found, "\n".join(line for line in log.splitlines() if "warning" in line.lower())


_USAGE = {
    "registers": r"registers",  # `Used 32 registers`
    "spilled_bytes": r"bytes spill",
    "stack_bytes": r"bytes stack frame",
    "shared_bytes": r"bytes smem",
}


def _compile(stage: str, arch: str) -> tuple[bytes, str]:
    try:
        from cuda.core import Program, ProgramOptions
    except ImportError as error:
        raise DeviceError(f"cannot compile {stage}: pip install 'omnistream[compile]'") from error
    options = ProgramOptions(
        name=f"{stage}.cu",
        arch=arch,
        std=STANDARD,
        include_path=include_folders(),
        fma=False,
        ptxas_options=["-v"],
    )
    text = (FOLDER / f"{stage}.cu").read_text(encoding="utf-8")
    log = io.StringIO()
    try:
        return bytes(Program(text, "c++", options).compile("cubin", logs=log).code), log.getvalue()
    except Exception as error:  # the compiler's own type is no public name
        raise _refused(stage, arch, error) from error


def _refused(stage: str, arch: str, error: Exception) -> DeviceError:
    first = next((line for line in str(error).splitlines() if ": error" in line), error)
    return DeviceError(f"{stage}.cu does not compile for {arch}: {first}")


@functools.cache
def _nvrtc_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "system"


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that others may look for at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


@functools.cache
def module(stage: str, arch: str) -> Any:
    """Return the ``cupy.RawModule`` of a stage: from the cache, or compiled now.

    Without cuda-core, CuPy compiles, and keeps the result in a cache of its own.

    Raises
    ------
    DeviceError
        When it does not compile or load.
    """
    import cupy

    try:
        if importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.core") is not None:
            return cupy.RawModule(path=str(compile_cubin(stage, arch)))
        # CuPy's cache knows a kernel by its text and options; what headers say must show in them.
        sources_are = f"-DOMNISTREAM_SOURCES=0x{_digest(stage).hexdigest()[:15]}"
        folders = [f"-I{folder}" for folder in include_folders()]
        options = (f"--std={STANDARD}", "--fmad=false", sources_are, *folders)
        loaded = cupy.RawModule(code=(FOLDER / f"{stage}.cu").read_text(encoding="utf-8"), options=options)
        loaded.compile()
    except cupy.cuda.compiler.CompileException as error:
        raise _refused(stage, arch, error) from error
    except cupy.cuda.driver.CUDADriverError as error:
        raise DeviceError(
            f"{stage}: the driver refuses the kernels: {error}; update the NVIDIA driver"
        ) from error
    except (RuntimeError, OSError) as error:  # CuPy looks for CUDA's libraries only now
        raise DeviceError(f"{stage}: CuPy cannot compile: {error}; pip install 'omnistream[gpu]'") from error
    return loaded
