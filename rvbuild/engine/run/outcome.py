"""The outcomes of a run, and the interface to report them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import Decision, Reason
from rvbuild.progress import Progress


class Did(enum.Enum):
    """What a run did with an artifact."""

    BUILT = "built"
    """The stage ran."""
    RESTORED = "restored"
    """The outputs were restored from the store."""
    FRESH = "fresh"
    """There was nothing to do."""
    FAILED = "failed"
    """The stage failed, or an input changed while it ran."""
    SKIPPED = "skipped"
    """A dependency failed, or the run stopped before its turn."""


DONE = (Did.BUILT, Did.RESTORED, Did.FRESH)
"""What a run did with an artifact that is up to date now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an artifact in this run."""

    artifact: Artifact
    did: Did
    reasons: tuple[Reason, ...] = ()
    seconds: float = 0.0
    key: str | None = None
    outputs: tuple[str, ...] = ()
    message: str = ""
    detail: str = ""  # a traceback, only for the log
    host: str = ""  # the machine of a cluster that built it


class Reporter(Protocol):
    """Receives events, from any thread."""

    def begins(self, artifact: Artifact, decision: Decision) -> Progress:
        """Report that work on `artifact` starts; return a receiver of its progress."""

    def ended(self, outcome: Outcome) -> None:
        """Report the outcome of an artifact."""

    def note(self, line: str) -> None:
        """Report a message about the whole run."""
