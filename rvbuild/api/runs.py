"""What a build did, as data."""

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
    """What a build did with one artifact.

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
        What went wrong, if something did.
    outputs : tuple of Path
        The files that it shows now.
    key : str or None
        The digest of all that it is made from.
    seconds : float
        How long it took.
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
    """What a build did. `Project.build` returns it.

    Attributes
    ----------
    artifacts : tuple of ArtifactResult
        All that the build asked for and all that this needs, each after what it needs.
    """

    artifacts: tuple[ArtifactResult, ...]

    def did(self, what: Did | str) -> tuple[str, ...]:
        """Return the labels of the artifacts with which this was done, for example `run.did("built")`.

        Raises
        ------
        ValueError
            `what` is none of `Did`.
        """
        wanted = Did(what)
        return tuple(artifact.label for artifact in self.artifacts if artifact.did is wanted)

    @property
    def ok(self) -> bool:
        """Whether all artifacts are up to date now."""
        return not any(artifact.did in (Did.FAILED, Did.SKIPPED) for artifact in self.artifacts)


class BuildError(StageError):
    """A build in which something failed; what was finished is kept.

    Attributes
    ----------
    run : Run
        What was done, and what failed.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        failed = [a for a in run.artifacts if a.did is Did.FAILED]
        super().__init__("\n".join(f"{artifact.label}: {artifact.message}" for artifact in failed))


def run_of(outcomes: list[Outcome], root: Path) -> Run:
    """Return what became of artifacts as data."""
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
    """Return what receives remarks: the user's callable, or else the logger `rvbuild`."""
    return progress if progress is not None else _LOG.warning


class Reports:
    """Tells a callable what is done, a line each; without one, remarks go to the logger `rvbuild`."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self._progress = progress
        self.note = remark(progress)

    def begins(self, artifact: Artifact, decision: Decision) -> Progress:
        """Return where the notes of an artifact go."""
        return _Notes(self._progress, artifact.label())

    def ended(self, outcome: Outcome) -> None:
        """Tell what became of an artifact."""
        if self._progress is not None and outcome.did is not Did.FRESH:
            said = outcome.message or "; ".join(map(str, outcome.reasons))
            self._progress(f"{outcome.did.value} {outcome.artifact.label()}" + (f" ({said})" if said else ""))


class _Notes(Silent):
    def __init__(self, progress: Callable[[str], None] | None, label: str) -> None:
        self._progress, self._label = progress, label

    def note(self, message: str) -> None:
        """Pass a line on."""
        if self._progress is not None:
            self._progress(f"{self._label}: {message}")
