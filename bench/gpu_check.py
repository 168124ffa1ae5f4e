"""Everything that a GPU must show, in under eight minutes: conformance, memory checks and speed.

    make gpu-check                # on a machine with an NVIDIA GPU
    make gpu-check REHEARSE=1     # the same steps without one, tiny; its figures say nothing of a GPU

Works offline with cupy, numba-cuda, pyarrow, pybind11, cmake, ninja and pytest. The steps run in their order,
and one that fails does not stop the others. A figure is taken only after its answer was compared with the
CPU's. The last line is one JSON object; the same, with a table, goes to bench/results/. A rehearsal marks
every figure and writes no file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 460.0  # of the eight minutes, what is not kept for writing the results
REHEARSED_ARCH = "sm_90"


class Skip(Exception):  # noqa: N818
    """Why a step was not taken."""


@dataclass
class Check:
    """What the steps share: how they run, and what they found."""

    rehearse: bool
    started: float = field(default_factory=time.monotonic)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    findings: dict[str, Any] = field(default_factory=dict)
    kernels: dict[str, dict[str, int]] = field(default_factory=dict)  # what each takes

    @property
    def seconds_left(self) -> float:
        return LIMIT_SECONDS - (time.monotonic() - self.started)

    def figure(self, name: str, value: float, unit: str, **more: Any) -> None:
        """Note a measurement, and how it was taken."""
        mark = {"rehearsal": True} if self.rehearse else {}
        self.figures[name] = {"value": float(f"{value:.4g}"), "unit": unit, **more, **mark}

    def run(self, *command: str, **environment: str) -> str:
        """Run a command to its end, and return what it printed."""
        done = subprocess.run(
            command,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
            timeout=max(self.seconds_left, 1.0),
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-4000:]}")
        return done.stdout


# ---- the steps, in their order ----


def build(check: Check) -> str:
    """Build the extension in place, if the package is not installed."""
    if importlib.util.find_spec("omnistream._core") and importlib.util.find_spec("omnistream.kernels"):
        return "the extension is there already"
    pybind11 = check.run(sys.executable, "-m", "pybind11", "--cmakedir").strip()
    folder = ROOT / "build" / "gpu-check"
    flags = [
        f"-Dpybind11_DIR={pybind11}",
        f"-DPython_EXECUTABLE={sys.executable}",
        "-DCMAKE_BUILD_TYPE=Release",
    ]
    check.run("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *flags)
    check.run("cmake", "--build", str(folder))
    for library in folder.glob("_core*.so"):
        shutil.copy(library, ROOT / "omnistream")
    link = ROOT / "omnistream" / "kernels"
    if not link.exists():
        link.symlink_to("../kernels")
    importlib.invalidate_caches()
    return "built with cmake and ninja"


def device(check: Check) -> str:
    """Look at the machine, and stop here if it has nothing to measure on."""
    from omnistream.device import probe_cuda
    from omnistream.doctor import examine

    check.findings = examine()
    copies = check.findings["copies"]
    for name, rate in copies.items():
        if name != "skipped":
            check.figure(name.removesuffix("_gb_s"), rate, "GB/s")
    missing = probe_cuda().missing
    if missing and not check.rehearse:
        raise SystemExit(
            f"gpu-check: {missing[0].what}; {missing[0].fix}. To rehearse: make gpu-check REHEARSE=1"
        )
    return "; ".join(each.what for each in missing) or check.findings["gpus"][0]["name"]


def compile_kernels(check: Check) -> str:
    """Compile every stage for the GPU that is there, and note what each kernel takes of it."""
    from omnistream.device import probe_cuda
    from omnistream.kernels import load

    if importlib.util.find_spec("cuda.core") is None:
        raise Skip("cuda-core is not installed; CuPy compiles each stage at its first use")
    arch = REHEARSED_ARCH if check.rehearse else probe_cuda().gpus[0].arch
    start = time.perf_counter()
    for stage in load.stages():
        used, warnings = load.usage(stage, arch)
        if warnings:
            raise RuntimeError(warnings)
        check.kernels |= {f"{stage}.{name}": asdict(each) for name, each in sorted(used.items())}
    check.figure("compile all kernels", time.perf_counter() - start, "s", arch=arch)
    spilling = [name for name, each in check.kernels.items() if each["spilled_bytes"]]
    return f"{len(check.kernels)} kernels for {arch}; these spill registers: {', '.join(spilling) or 'none'}"


def conformance(check: Check) -> str:
    """Run the conformance suite on the GPU; in a rehearsal, on what stands for it."""
    if importlib.util.find_spec("hypothesis") is None:
        raise Skip("hypothesis is not installed; the answers of the benchmarks are compared all the same")
    # What stands for a GPU: Numba's simulator, and the host launcher for the CUDA sources.
    stand_ins = "cudasim or cuda-host"
    engines = stand_ins if check.rehearse else f"cuda and not ({stand_ins})"
    # Not the project's settings: they need plugins that an image with CUDA may lack.
    settings = ["-c", os.devnull, f"--rootdir={ROOT}", "--import-mode=importlib", "-p", "no:cacheprovider"]
    pytest = [sys.executable, "-m", "pytest", "-q", *settings]
    printed = [check.run(*pytest, "tests/conformance", "-k", engines)]
    if not check.rehearse:
        # Tests of the drivers alone, which take the host launcher unless they are told otherwise.
        drivers = [f"tests/conformance/test_{stage}_device.py" for stage in ("encode", "window", "pipeline")]
        printed.append(check.run(*pytest, *drivers, OMNISTREAM_TEST_LAUNCHER="cuda"))
    return "; ".join(each.strip().splitlines()[-1].strip("= ") for each in printed)


def sanitizer(check: Check) -> str:
    """Run a small job under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        raise Skip("compute-sanitizer is not installed; it comes with the CUDA toolkit")
    if check.rehearse:
        raise Skip("there is no GPU; the host launcher's tests run under AddressSanitizer")
    script = str(ROOT / "bench" / "gpu_benchmarks.py")
    for each in ("memcheck", "racecheck"):
        check.run(tool, "--tool", each, "--error-exitcode", "1", sys.executable, script, "--small")
    return "memcheck and racecheck found nothing"


def benchmarks(check: Check) -> str:
    """Take the figures, each against the CPU on this host."""
    sys.path.insert(0, str(Path(__file__).parent))
    import gpu_benchmarks

    sizes = gpu_benchmarks.REHEARSED if check.rehearse else gpu_benchmarks.FULL
    copies = {name.removesuffix("_gb_s"): rate for name, rate in check.findings["copies"].items()}
    copies.pop("skipped", None)
    bench = gpu_benchmarks.Bench(check.rehearse, sizes, check.figure, copies)
    skipped = []
    for name, benchmark in gpu_benchmarks.ALL.items():
        try:
            if check.seconds_left < gpu_benchmarks.SECONDS_EACH:
                raise Skip("out of time")
            benchmark(bench)
        except gpu_benchmarks.Unavailable as error:
            skipped.append(f"{name}: {error}")
        except Skip as error:
            skipped.append(f"{name}: {error}")
    return "; ".join(["all but", *skipped]) if skipped else "all"


STEPS: dict[str, Callable[[Check], str]] = {
    "build": build,
    "device": device,
    "compile": compile_kernels,
    "conformance": conformance,
    "sanitizer": sanitizer,
    "benchmarks": benchmarks,
}


# ---- the report ----


def take(check: Check) -> dict[str, Any]:
    """Take every step; returns the report."""
    steps = {}
    for name, step in STEPS.items():
        start = time.monotonic()
        try:
            if check.seconds_left <= 0:
                raise Skip("out of time")
            state, text = "passed", step(check)
        except Skip as reason:
            state, text = "skipped", str(reason)
        except (Exception, SystemExit) as error:
            state, text = "failed", f"{type(error).__name__}: {error}"
        steps[name] = {"state": state, "text": text, "seconds": round(time.monotonic() - start, 1)}
        print(f"{name:<12} {state:<8} {steps[name]['seconds']:>6.1f} s  {text}", flush=True)
        if state == "failed" and name in ("build", "device"):
            break
    found = check.findings
    gpus = found.get("gpus") or [{"name": "none", "arch": "none"}]
    return {
        "rehearsal": check.rehearse,
        "passed": all(step["state"] != "failed" for step in steps.values()),
        "device": gpus[0]["name"],
        "arch": gpus[0]["arch"],
        "driver": found.get("driver"),
        "driver_cuda": found.get("driver_cuda"),
        "versions": {"omnistream": found.get("omnistream"), **found.get("packages", {})},
        "host": {
            "machine": found.get("machine"),
            "cpus": found.get("cpus"),
            "decode_isa": found.get("decode_isa"),
        },
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - check.started, 1),
        "steps": steps,
        "figures": check.figures,
        "kernels": check.kernels,
    }


def as_markdown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    lines = [
        f"# GPU check on {report['device']} ({report['arch']})",
        "",
        f"{report['time']}; driver {report['driver']}, CUDA {report['driver_cuda']}; {versions}. "
        f"Host: {report['host']['cpus']} CPUs, {report['host']['decode_isa']}. Command: `make gpu-check`. "
        "Figures are medians.",
        "",
        "| step | | |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {step['state']} | {step['text'].splitlines()[0]} |"
            for name, step in report["steps"].items()
        ),
        "",
        "| figure | value | unit | taken with |",
        "| --- | --- | --- | --- |",
    ]
    for name, figure in report["figures"].items():
        more = ", ".join(f"{key} {value}" for key, value in figure.items() if key not in ("value", "unit"))
        lines.append(f"| {name} | {figure['value']:g} | {figure['unit']} | {more} |")
    lines += [
        "",
        "| kernel | registers | spilled, B | stack, B | shared, B |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, used in report["kernels"].items():
        lines.append(f"| {name} | {' | '.join(str(each) for each in used.values())} |")
    return "\n".join(lines) + "\n"


def write(report: dict[str, Any], folder: Path) -> Path:
    """Write the report as JSON and as Markdown; return the path without its suffix."""
    name = "".join(c if c.isalnum() else "-" for c in report["device"].lower()).strip("-")
    path = folder / f"gpu-{name}-{report['time'][:10]}"
    Path(f"{path}.json").write_text(json.dumps(report, indent=1) + "\n")
    Path(f"{path}.md").write_text(as_markdown(report))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rehearse", action="store_true", help="without a GPU, on tiny inputs; writes no file"
    )
    options = parser.parse_args()
    if options.rehearse:
        # Numba's simulator stands for the GPU, and must be chosen before Numba is imported.
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    sys.path.append(str(ROOT))  # where the package is not installed
    check = Check(options.rehearse)
    report = take(check)
    if not check.rehearse and "benchmarks" in report["steps"]:
        print(f"wrote {write(report, ROOT / 'bench' / 'results')}.json and .md")
    print(json.dumps(report))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
