"""Build and run the fuzzer of decode for some time; the last line printed is one JSON object.

A finding ends the run: its input is kept under build/fuzz/findings/, and the exit status is 1.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
LONGEST_INPUT = 1_024  # bytes; a few messages, as more find nothing new and take longer
SLOWEST_INPUT_S = 10

# The decoder allocates much and frees it soon: long traces and a large quarantine would halve the speed.
SANITIZER = {
    "ASAN_OPTIONS": "quarantine_size_mb=16:malloc_context_size=3",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def missing_packages() -> list[str]:
    """Debian packages that building the fuzzer needs and this machine lacks."""
    if shutil.which("clang++") is None:
        return ["clang", "llvm"]
    resources = subprocess.run(
        ["clang++", "-print-resource-dir"], check=True, capture_output=True, text=True
    ).stdout.strip()
    major = re.search(r"\d+", Path(resources).name)
    if not list(Path(resources).glob("lib/**/libclang_rt.fuzzer*.a")):
        return [f"libclang-rt-{major.group() if major else ''}-dev"]
    return []


def build() -> None:
    """Compile the fuzzer with clang, AddressSanitizer and UndefinedBehaviorSanitizer."""
    options = ["CMAKE_CXX_COMPILER=clang++", "CMAKE_BUILD_TYPE=RelWithDebInfo"]
    options += ["OMNISTREAM_FUZZ=ON", "OMNISTREAM_PYTHON=OFF"]
    configure = ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", *(f"-D{option}" for option in options)]
    subprocess.run(configure, check=True)
    subprocess.run(["cmake", "--build", BUILD], check=True)


def fuzz(seconds: int) -> tuple[int, int]:
    """Run for so long; how many inputs were tried and what libFuzzer's exit status was."""
    grown = BUILD / "corpus"  # what this and earlier runs found interesting
    findings = BUILD / "findings"
    for folder in (grown, findings):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        BUILD / "fuzz_decode",
        f"-dict={ROOT / 'tests' / 'fuzz' / 'decode.dict'}",
        f"-artifact_prefix={findings}/",
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={SLOWEST_INPUT_S}",
        "-entropic=0",  # its book-keeping takes a quarter of the time
        "-print_final_stats=1",
        grown,
        CORPUS,
    ]
    executions = 0
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, errors="replace", env=os.environ | SANITIZER
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.match(r"stat::number_of_executed_units: (\d+)", line):
                executions = int(found.group(1))
            if " NEW " not in line and " REDUCE " not in line:
                print(line, end="", file=sys.stderr)
    return executions, process.returncode


def main() -> int:
    """Build, run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--check", action="store_true", help="only tell whether the fuzzer can be built")
    arguments = parser.parse_args()
    if packages := missing_packages():
        print(f"the fuzzer needs clang and libFuzzer: apt-get install {' '.join(packages)}", file=sys.stderr)
        return 2
    if arguments.check:
        return 0
    build()
    begin = time.monotonic()
    executions, status = fuzz(arguments.seconds)
    findings = int(status != 0)
    elapsed = round(time.monotonic() - begin)
    print(json.dumps({"executions": executions, "seconds": elapsed, "findings": findings}))
    return findings


if __name__ == "__main__":
    sys.exit(main())
