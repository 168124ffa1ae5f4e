"""The CUDA sources, without a GPU: each compiles for every architecture, and none spills registers."""

from __future__ import annotations

import pytest

from omnistream.kernels import launch, load

# Blocks of 256 threads, and at least two of them on a multiprocessor, whose register file has 65,536.
MOST_REGISTERS = 128
# What any GPU gives a block without being asked.
MOST_SHARED_BYTES = 48 << 10


@pytest.mark.parametrize("arch", load.ARCHES)
@pytest.mark.parametrize("stage", load.stages())
def test_a_stage_compiles_without_a_warning(
    stage: str, arch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    usage, warnings = load.usage(stage, arch)
    with capsys.disabled():
        for name, used in sorted(usage.items()):
            print(
                f"\n{stage}.cu {arch} {name}: {used.registers} registers, {used.spilled_bytes} B spilled, "
                f"{used.stack_bytes} B stack, {used.shared_bytes} B shared",
                end="",
            )
    assert warnings == ""
    assert sorted(usage) == launch.kernel_names(stage)
    assert {name: used for name, used in usage.items() if used.spilled_bytes} == {}
    assert max(used.registers for used in usage.values()) <= MOST_REGISTERS
    assert max(used.shared_bytes for used in usage.values()) <= MOST_SHARED_BYTES


@pytest.mark.parametrize("sanitize", [False, True])
@pytest.mark.parametrize("stage", load.stages())
def test_a_stage_compiles_for_the_host(stage: str, sanitize: bool) -> None:
    assert launch.build_for_host(stage, sanitize).is_file()
