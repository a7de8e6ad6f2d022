"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import pytest

from rvbuild.process.memory import give_back

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
