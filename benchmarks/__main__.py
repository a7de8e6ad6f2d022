"""`python -m benchmarks [NAME…]`: run the benchmarks and print one table."""

from __future__ import annotations

import importlib
import platform
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bar import Figure, table

NAMES = (
    "nothing_to_do",
    "first_status",
    "scale",
    "driver",
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
    "check",
    "view",
)


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    start = time.perf_counter()
    for name in names or NAMES:
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=f"rvbuild-bench-{name}-") as folder:
            for figure in importlib.import_module(f"benchmarks.{name}").run(Path(folder) / name):
                print(f"  {figure.title}: {figure.measured:.3g} {figure.unit}", file=sys.stderr, flush=True)
                figures.append(figure)
    print(table(figures))
    print(f"\nPython {platform.python_version()}, {platform.machine()}, {time.perf_counter() - start:.0f} s in all")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
