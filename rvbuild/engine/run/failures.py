"""What is kept of failures: their tracebacks, in a log, since they are never printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rvbuild.engine.run.outcome import Outcome
from rvbuild.engine.store import inside


def write_tracebacks(cache: Path, failed: Sequence[Outcome]) -> Path | None:
    """Write the tracebacks of failures to a log in `cache` and return its path; None if there are none."""
    texts = [f"{o.artifact.name}\n{o.detail}" for o in failed if o.detail]
    if not texts:
        return None
    try:
        inside.write(cache, "log/failures.txt", "\n".join(texts).encode("utf-8", "surrogateescape"))
    except OSError:  # probably the full disk that the failures are about
        return None
    return cache / "log" / "failures.txt"
