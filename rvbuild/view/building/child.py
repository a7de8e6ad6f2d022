"""A build in a process of its own, for the page: its events as JSON, a line each, on standard output."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import Decision
from rvbuild.engine.run.failures import write_tracebacks
from rvbuild.engine.run.outcome import Did, Outcome
from rvbuild.errors import ProjectError, RvbuildError, UsageError
from rvbuild.project.model import Project
from rvbuild.session.build import Order, planned
from rvbuild.session.projects import load_all
from rvbuild.session.reviewing import write as reviews
from rvbuild.session.session import Session

INTERVAL_S = 0.25
"""Between two reports of progress of one artifact."""


class Lines:
    """A `Reporter` that writes events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def tell(self, event: str, **content: Any) -> None:
        """Write an event."""
        with self._lock:
            sys.stdout.write(json.dumps({"event": event, **content}) + "\n")
            sys.stdout.flush()

    def begins(self, artifact: Artifact, decision: Decision) -> Steps:
        """Report that work on an artifact starts."""
        self.tell("begins", label=artifact.label(), reasons=[str(reason) for reason in decision.reasons])
        return Steps(self, artifact.label())

    def ended(self, outcome: Outcome) -> None:
        """Report the outcome of an artifact."""
        if outcome.did is not Did.FRESH:
            self.tell(
                "ended",
                label=outcome.artifact.label(),
                did=outcome.did.value,
                message=outcome.message,
                seconds=round(outcome.seconds, 3),
            )

    def note(self, line: str) -> None:
        """Report a remark about the whole run."""
        self.tell("note", label=None, message=line)


class Steps:
    """A `Progress` that writes events, not too often."""

    def __init__(self, lines: Lines, label: str) -> None:
        self._lines, self._label = lines, label
        self._what, self._unit, self._total, self._done, self._at = "", "", 0, 0, 0.0

    def start(self, what: str, total: int, unit: str) -> None:
        """Report a new step."""
        self._what, self._total, self._unit, self._done = what, total, unit, 0
        self._tell()

    def advance(self, n: int = 1) -> None:
        """Report how far it is, if it is time."""
        self._done += n
        if self._done >= self._total or time.monotonic() - self._at >= INTERVAL_S:
            self._tell()

    def note(self, message: str) -> None:
        """Report a line."""
        self._lines.tell("note", label=self._label, message=message)

    def _tell(self) -> None:
        self._at = time.monotonic()
        self._lines.tell(
            "progress", label=self._label, what=self._what, done=self._done, total=self._total, unit=self._unit
        )


def main(words: list[str]) -> int:
    """Build: `words` are one JSON object with `path`, `overrides`, `stage` and `trust`."""
    asked = json.loads(words[0])
    lines = Lines()
    try:
        ok, message = _build(asked, lines)
    except KeyboardInterrupt:
        lines.tell("finished", ok=False, message="stopped: finished artifacts are kept, all others are unchanged")
        return 130
    except RvbuildError as error:
        text = "\n".join(error.problems) if isinstance(error, ProjectError) else str(error)
        lines.tell("finished", ok=False, message=text)
        return 1
    lines.tell("finished", ok=ok, message=message)
    return 0 if ok else 1


def _build(asked: dict[str, Any], lines: Lines) -> tuple[bool, str]:
    projects = load_all([Path(asked["path"])], asked["overrides"])
    stage = reviews.STAGE if asked["stage"] == "review" else asked["stage"]
    also = reviews.ALSO if stage == reviews.STAGE else ()
    order = Order(stage, keep_going=True, trust=bool(asked["trust"]), also=also)
    # Nobody can be asked here: code runs that the user has trusted before, and no other.
    with planned(projects, order, lines, _not_trusted) as work:
        pending = [a.label() for a in work.closure if work.session.plan[a.name].decision.state.value != "fresh"]
        lines.tell("planned", labels=pending)
        outcomes = work.run(lines, _not_trusted)
        failed = [outcome for outcome in outcomes if outcome.did is Did.FAILED]
        write_tracebacks(work.session.workspace.cache, failed)
        ok = not any(outcome.did in (Did.FAILED, Did.SKIPPED) for outcome in outcomes)
        said = _review(work.session, projects[0], order) if ok and stage == reviews.STAGE else ""
    return ok, said


def _review(session: Session, project: Project, order: Order) -> str:
    """Write the files of the review, as the command does; return what it says."""
    return "\n".join(reviews.write(session, project, order.trust).lines())


def _not_trusted(workspace: Path, names: str) -> bool:
    raise UsageError(
        f"this build runs Python code of the workspace, with all of your permissions: {names}. If you trust "
        f"{workspace}, start `rvbuild view --trust`"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
