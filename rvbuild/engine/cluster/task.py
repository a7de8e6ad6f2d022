"""A job on its way to the workers of a cluster, and who takes it there."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rvbuild.engine.cluster.link import Link
from rvbuild.engine.cluster.offers import Offers
from rvbuild.engine.cluster.running import Board
from rvbuild.engine.run.worker import Job
from rvbuild.progress import Progress


@dataclass
class Task:
    """A job that was given to the cluster."""

    job: Job
    progress: Progress
    needs: Mapping[str, float] = field(default_factory=dict)
    key: str = ""
    """Of the task of Dask; a new one each time that it is submitted."""
    hosts: list[str] = field(default_factory=list)
    """Where it was started."""
    is_refused: bool = False
    """Whether it was started once more than it may be: Dask counts the losses of each task that it is given."""
    done: threading.Event = field(default_factory=threading.Event)

    def lost_text(self) -> str:
        """Return that its worker was lost again and again, for messages."""
        hosts = ", ".join(dict.fromkeys(self.hosts)) or "unknown hosts"
        return (
            f"its worker was lost {len(self.hosts)} times ({hosts}); were the workers killed (out of memory, end of "
            "their time)? See the logs of the cluster"
        )


class Submits(Protocol):
    """Gives tasks to a cluster: its executor."""

    link: Link
    offers: Offers
    board: Board
    fixed: int
    """How many workers there always are, but while one is started again; 0 if workers may join and leave."""

    def submit(self, task: Task, worker: str | None = None) -> Any:
        """Give a task to the cluster, or to one worker; return its future."""

    def withdraw(self, task: Task) -> None:
        """Forget a task that has ended, or that is no longer wanted."""
