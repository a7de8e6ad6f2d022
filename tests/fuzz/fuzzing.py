"""What all fuzz tests share: how many inputs are tried, how bytes are mutated, and children that may die of an input.

`RVBUILD_FUZZ=100000` tries so many inputs of each kind instead of the few of the suite, with another seed each time
unless `RVBUILD_FUZZ_SEED` says one.
"""

from __future__ import annotations

import importlib
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings

from rvbuild.errors import RvbuildError

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"

LONG = int(os.environ.get("RVBUILD_FUZZ", "0"))
SEED = int(os.environ.get("RVBUILD_FUZZ_SEED", "0")) or (time.time_ns() if LONG else 1)

DEADLINE_S = 10.0
"""An input that takes longer hangs: the machine may be busy, and no input is large."""

MOST_BYTES = 2 << 30
"""A process that has grown beyond it, after an input, has no bounds."""


def fuzzed(few: int) -> settings:
    """Return how hypothesis tries inputs: `few` in the suite, always the same ones; `RVBUILD_FUZZ` in a long run."""
    return settings(
        max_examples=LONG or few,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def mutated(source: random.Random, content: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Return some bytes with a few of them changed, lost, repeated, or replaced by words that parsers know."""
    mutant = bytearray(content)
    for _ in range(source.choice((1, 1, 1, 2, 3, 5, 10, 30))):
        at = source.randrange(len(mutant) + 1)
        length = source.choice((1, 1, 1, 2, 4, 8, 16, 64, 500))
        kind = source.randrange(8)
        if kind == 0:
            mutant[at : at + length] = source.randbytes(length)
        elif kind == 1 and at < len(mutant):
            mutant[at] ^= 1 << source.randrange(8)
        elif kind == 2:
            del mutant[at : at + length]
        elif kind == 3:
            mutant[at:at] = mutant[at : at + length] * source.choice((1, 2, 20))
        elif kind == 4:
            other = source.randrange(len(mutant) + 1)
            mutant[at : at + length] = mutant[other : other + length]
        elif kind == 5:
            size = source.choice((1, 2, 4, 8))
            number = source.choice((0, 1, 2**7 - 1, 2**31 - 1, 2**63 - 1, 2**64 - 1, 2**32 - 1, 2**16 - 1, 255))
            mutant[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, source.choice(("little", "big")))
        elif kind == 6 and words:
            word = source.choice(words)
            mutant[at : at + source.choice((0, len(word)))] = word
        elif kind == 7 and source.random() < 0.1:
            del mutant[at:]
    return bytes(mutant)


@dataclass
class Tried:
    """What became of inputs, which are known by their numbers."""

    count: int = 0
    accepted: int = 0
    wrong: list[str] = field(default_factory=list)
    """Exceptions that are no messages, hangs, growth: number and what happened."""
    dead: list[int] = field(default_factory=list)
    """Those that a process died of."""


def in_children(target: str, count: int, seed: int = SEED) -> Tried:
    """Try inputs in processes that may die.

    Parameters
    ----------
    target
        `module:function` of this folder; called with a random source that the number of the input seeds and with an
        empty folder. It makes an input and reads it, and returns, or raises what the reader raises.
    count
        How many inputs.
    """
    tried = Tried()
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "shared"
        shared.write_bytes(bytes(64))
        with shared.open("r+b") as file, mmap.mmap(file.fileno(), 64) as area:
            start = 0
            while start < count:
                start = _child(target, start, count, seed, Path(folder), area, tried)
    tried.count = count
    return tried


def _child(target: str, start: int, count: int, seed: int, folder: Path, area: mmap.mmap, tried: Tried) -> int:
    """Try inputs from `start` on in one process, until it is done or dead; return the number of the next."""
    area[:16] = start.to_bytes(8, "little") + bytes(8)
    log = folder / "said"
    with log.open("wb") as output, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, target, str(start), str(count), str(seed), str(folder)],
            stdout=output,
            stderr=errors,
            cwd=HERE.parents[1],
        )
        seen, since = start, time.monotonic()
        while process.poll() is None:
            time.sleep(0.02)
            now = int.from_bytes(area[:8], "little")
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > (DEADLINE_S if now > start else 60):
                process.kill()
                process.wait()
                tried.wrong.append(f"{now}: takes longer than {DEADLINE_S} s")
                break
    last = int.from_bytes(area[:8], "little")
    tried.accepted += int.from_bytes(area[8:16], "little")
    tried.wrong += log.read_text().split("\0")[:-1]
    if process.returncode < 0 and process.returncode != -signal.SIGKILL:
        tried.dead.append(last)
    elif process.returncode > 0:
        raise AssertionError((folder / "errors").read_text())
    return last + 1 if process.returncode else count


def source_of(seed: int, number: int) -> random.Random:
    """Return the random source of one input."""
    return random.Random(f"{seed} {number}")


def _main(target: str, start: str, count: str, seed: str, folder: str) -> None:
    module, _, name = target.partition(":")
    function: Callable[[random.Random, Path], object] = getattr(importlib.import_module(module), name)
    with (Path(folder) / "shared").open("r+b") as file, mmap.mmap(file.fileno(), 64) as area:
        accepted = 0
        for number in range(int(start), int(count)):
            area[:8] = number.to_bytes(8, "little")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            with tempfile.TemporaryDirectory(dir=folder) as own:
                try:
                    function(source_of(int(seed), number), Path(own))
                    accepted += 1
                except RvbuildError:
                    pass
                except BaseException:
                    print(f"{number}: {traceback.format_exc()}", end="\0", flush=True)
            area[8:16] = accepted.to_bytes(8, "little")
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if after > MOST_BYTES > before:
                print(f"{number}: the process has grown from {before:,} to {after:,} bytes", end="\0", flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
