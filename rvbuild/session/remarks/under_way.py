"""Trainings that have begun and are not finished, from the file that grows with each epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvbuild.engine.cluster.running import hosts_of
from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.engine.store import inside
from rvbuild.errors import StoreError, counted
from rvbuild.rules.common import name

_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class UnderWay:
    """A stage that runs, or was interrupted.

    Attributes
    ----------
    path : str
        The file that grows, relative to the workspace.
    lines : list of dict
        Its content: what has ended so far.
    at : float
        When it was last written to, in seconds since the epoch.
    """

    path: str
    lines: list[dict[str, Any]]
    at: float


def under_way(workspace: Path, status: ArtifactStatus) -> UnderWay | None:
    """Return what an artifact's stage has done so far that is not in its result; None if that is nothing.

    Parameters
    ----------
    workspace
        The root of the workspace.
    status
        The state of the artifact.
    """
    if not status.live or status.state in (State.FRESH, State.RESTORABLE):
        return None
    live = _content(workspace, status.live)
    name = status.live.rpartition("/")[2]
    shown = next((output for output in status.outputs if output.rpartition("/")[2] == name), None)
    # It stays as it is when the stage has ended.
    if live is None or (shown is not None and live == _content(workspace, shown)):
        return None
    lines = []
    for line in live.decode("utf-8", "replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            break  # it is being written
        if isinstance(value, dict):
            lines.append(value)
    written = inside.stat_file(workspace / "cache", status.live.removeprefix("cache/"))
    return UnderWay(status.live, lines, written.st_mtime if written else 0.0)


def sentences(workspace: Path, rows: Iterable[ArtifactStatus]) -> list[str]:
    """Return a sentence for each of these artifacts that is under way."""
    texts = []
    for row in rows:
        if (now := under_way(workspace, row)) is not None:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now.at))
            texts.append(
                f"{row.project}: {row.label} has begun and is not finished: {counted(len(now.lines), 'epoch')} so far, "
                f"the last at {at} ({now.path})"
            )
    return texts


def on_hosts(workspace: Path, rows: Iterable[ArtifactStatus]) -> list[str]:
    """Return a sentence for each host of a cluster, or for several at one training, that builds some of these now."""
    labels: dict[str, list[str]] = {}
    hosts = hosts_of(workspace / "cache")
    for row in rows if hosts else ():
        if (host := hosts.get(name(row.stage, row.project, row.scene))) is not None:
            labels.setdefault(host, []).append(f"{row.project} {row.label}")
    return [
        f"{host} {'build' if ',' in host else 'builds'} {', '.join(sorted(labels[host]))}" for host in sorted(labels)
    ]


def _content(workspace: Path, path: str) -> bytes | None:
    try:
        return inside.read(workspace / "cache", path.removeprefix("cache/"), _MOST_BYTES)
    except (OSError, ValueError, StoreError):
        return None
