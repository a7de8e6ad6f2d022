"""The results of a build, as data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import Decision
from rvbuild.engine.run.outcome import Did, Outcome
from rvbuild.errors import StageError
from rvbuild.progress import Progress, Silent

_LOG = logging.getLogger("rvbuild")


@dataclass(frozen=True)
class ArtifactResult:
    """The result of one artifact in a build.

    Attributes
    ----------
    stage : str
    scene : str or None
        None for an artifact of all scenes.
    did : Did
        `built`, `restored`, `fresh`, `failed` or `skipped`.
    reasons : tuple of str
        Why it was not fresh.
    message : str
        The error, if it failed.
    outputs : tuple of Path
        Its outputs now.
    key : str or None
        Its key, the digest of its inputs, settings and code.
    seconds : float
        Duration of the build.
    """

    stage: str
    scene: str | None
    did: Did
    reasons: tuple[str, ...]
    message: str
    outputs: tuple[Path, ...]
    key: str | None
    seconds: float

    @property
    def label(self) -> str:
        """The stage, with the scene if there is one: `chip:a`."""
        return f"{self.stage}:{self.scene}" if self.scene else self.stage


@dataclass(frozen=True)
class Run:
    """The results of a build. `Project.build` returns it.

    Attributes
    ----------
    artifacts : tuple of ArtifactResult
        The results of the requested artifacts and of all their dependencies; each comes after its dependencies.
    """

    artifacts: tuple[ArtifactResult, ...]

    def did(self, outcome: Did | str) -> tuple[str, ...]:
        """Return the labels of the artifacts with this outcome, for example `run.did("built")`.

        Raises
        ------
        ValueError
            `outcome` is not one of `Did`.
        """
        did = Did(outcome)
        return tuple(artifact.label for artifact in self.artifacts if artifact.did is did)

    @property
    def ok(self) -> bool:
        """Whether all artifacts are up to date now."""
        return not any(artifact.did in (Did.FAILED, Did.SKIPPED) for artifact in self.artifacts)


class BuildError(StageError):
    """A build with failures; finished artifacts are kept.

    Attributes
    ----------
    run : Run
        The results, including the failures.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        failed = [a for a in run.artifacts if a.did is Did.FAILED]
        super().__init__("\n".join(f"{artifact.label}: {artifact.message}" for artifact in failed))


def run_of(outcomes: list[Outcome], root: Path) -> Run:
    """Return outcomes as data."""
    return Run(
        tuple(
            ArtifactResult(
                o.artifact.stage,
                o.artifact.scene,
                o.did,
                tuple(map(str, o.reasons)),
                o.message,
                tuple(root / path for path in o.outputs),
                o.key,
                o.seconds,
            )
            for o in outcomes
        )
    )


def remark(progress: Callable[[str], None] | None) -> Callable[[str], None]:
    """Return the receiver of notes: the user's callable, or else the logger `rvbuild`."""
    return progress if progress is not None else _LOG.warning


class Reports:
    """Reports outcomes to a callable, a line each; without one, notes go to the logger `rvbuild`."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self._progress = progress
        self.note = remark(progress)

    def begins(self, artifact: Artifact, decision: Decision) -> Progress:
        """Return a receiver of the notes of an artifact."""
        return _Notes(self._progress, artifact.label())

    def ended(self, outcome: Outcome) -> None:
        """Report the outcome of an artifact."""
        if self._progress is not None and outcome.did is not Did.FRESH:
            text = outcome.message or "; ".join(map(str, outcome.reasons))
            self._progress(f"{outcome.did.value} {outcome.artifact.label()}" + (f" ({text})" if text else ""))


class _Notes(Silent):
    def __init__(self, progress: Callable[[str], None] | None, label: str) -> None:
        self._progress, self._label = progress, label

    def note(self, message: str) -> None:
        """Forward a line."""
        if self._progress is not None:
            self._progress(f"{self._label}: {message}")
