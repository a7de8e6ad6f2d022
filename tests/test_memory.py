"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import pytest

from rvbuild.process import memory
from rvbuild.process.memory import GROWTH_BYTES, Growth, give_back

COUNT, BYTES = 1000, 64 << 10
"""Blocks that are smaller than those that the C library maps one by one."""


def _resident_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing happens")
def test_freed_memory_is_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(BYTES) for _ in range(COUNT)]
    for block in blocks:
        ctypes.memset(block, 1, BYTES)
    last = libc.malloc(BYTES)  # what lies before it is not given back by itself
    for block in blocks:
        libc.free(block)
    before = _resident_mb()
    give_back()
    assert before - _resident_mb() > COUNT * BYTES / (1 << 20) / 2
    libc.free(last)


def test_memory_goes_back_when_a_process_has_grown_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    resident = 1 << 30
    monkeypatch.setattr(memory, "_resident_bytes", lambda: resident)
    monkeypatch.setattr(memory, "give_back", lambda: given.append(resident))
    growth = Growth()
    grown = [0, 0, GROWTH_BYTES, GROWTH_BYTES + 1]
    # After it went back, the next call tells anew what the work takes, even if that is more.
    again = [2 * GROWTH_BYTES, 3 * GROWTH_BYTES, 3 * GROWTH_BYTES + 1]
    for more in grown + again:
        resident = (1 << 30) + more
        growth.limit()
    assert given == [(1 << 30) + grown[-1], (1 << 30) + again[-1]]


@pytest.mark.skipif(platform.system() != "Linux", reason="only there it is known")
def test_resident_memory_is_that_of_the_system() -> None:
    assert memory._resident_bytes() / (1 << 20) == pytest.approx(_resident_mb(), rel=0.05)
