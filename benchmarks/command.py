"""Calls of the command in a process of its own, as a user makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RVBUILD = Path(sys.executable).parent / "rvbuild"

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""That of a user, whose Python keeps what it has compiled."""


def rvbuild(*arguments: str, cwd: Path) -> str:
    """Run `rvbuild` and return its standard output; a failure is an error that shows what it said."""
    done = subprocess.run([RVBUILD, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"rvbuild {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def rvbuild_json(*arguments: str, cwd: Path) -> dict[str, Any]:
    """Run `rvbuild … --json` and return what it printed."""
    result: dict[str, Any] = json.loads(rvbuild(*arguments, "--json", cwd=cwd))
    return result


def in_child(module: str, *arguments: str) -> dict[str, float]:
    """Run `python -m module` and return the JSON object on the last line of its output."""
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{module} {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_rss_mb() -> float:
    """Return the peak resident memory of this process; unlike `getrusage` it does not count the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM: this benchmark needs Linux")
