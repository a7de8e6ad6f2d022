"""`python -m benchmarks [--cores N] [NAME…]`: run the benchmarks and print one table.

They run on one core: a process by itself, its threads, and the processes that it starts.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bar import Figure, table, use_cores

NAMES = (
    "nothing_to_do",
    "first_status",
    "scale",
    "driver",
    "cluster",
    "peers",
    "hashing",
    "edits",
    "chip",
    "rechip",
    "draft",
    "watch_draft",
    "suggest",
    "review",
    "train",
    "train_shards",
    "predict",
    "engines",
    "evaluate",
    "detection",
    "mosaic",
    "vectors",
    "huge",
    "check",
    "view",
)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory.")
    parser.add_argument("--cores", type=int, default=1, metavar="N", help="cores to run on (1)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    arguments = parser.parse_args(words)
    names: list[str] = arguments.names
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    use_cores(arguments.cores)
    figures: list[Figure] = []
    start = time.perf_counter()
    for name in names or NAMES:
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=f"rvbuild-bench-{name}-") as folder:
            for figure in importlib.import_module(f"benchmarks.{name}").run(Path(folder) / name):
                cost = f"; CPU {figure.cost}" if figure.cost else ""
                print(f"  {figure.title}: {figure.measured:.3g} {figure.unit}{cost}", file=sys.stderr, flush=True)
                figures.append(figure)
    print(table(figures))
    took = f"{time.perf_counter() - start:.0f} s in all, on {arguments.cores} core(s)"
    print(f"\nPython {platform.python_version()}, {platform.machine()}, {took}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
