"""What a run did with artifacts, and who is told of it."""

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
    """The outputs came from the store."""
    FRESH = "fresh"
    """Nothing was to be done."""
    FAILED = "failed"
    """The stage failed, or an input changed while it ran."""
    SKIPPED = "skipped"
    """Something it needs failed, or the run stopped before its turn."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to an artifact in this run."""

    artifact: Artifact
    did: Did
    reasons: tuple[Reason, ...] = ()
    seconds: float = 0.0
    key: str | None = None
    outputs: tuple[str, ...] = ()
    message: str = ""
    detail: str = ""  # a traceback, for a log and never for the terminal


class Reporter(Protocol):
    """Is told what happens, from any thread."""

    def begins(self, artifact: Artifact, decision: Decision) -> Progress:
        """Say that work on `artifact` begins; return where its progress goes."""

    def ended(self, outcome: Outcome) -> None:
        """Say what became of an artifact."""

    def note(self, line: str) -> None:
        """Say something about the whole run."""
