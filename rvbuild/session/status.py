"""The states of artifacts and their causes, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.keys.packages import versions
from rvbuild.engine.plan import explain
from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.session.session import Session


def statuses(session: Session, artifacts: Sequence[Artifact]) -> list[ArtifactStatus]:
    """Return the states of artifacts that the plan has examined."""
    seconds = session.workspace.state.last_seconds()
    return [_status(session, artifact, seconds.get(artifact.name)) for artifact in artifacts]


def _status(session: Session, artifact: Artifact, seconds: float | None) -> ArtifactStatus:
    planned = session.plan[artifact.name]
    record = planned.facts.record
    return ArtifactStatus(
        artifact.project,
        artifact.stage,
        artifact.scene,
        planned.decision.state,
        tuple(str(r) for r in planned.decision.reasons),
        tuple(o.path for o in record.outputs.values()) if record else (),
        planned.facts.key,
        None if seconds is None else round(seconds, 3),
        artifact.live,
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """A result in the store.

    Attributes
    ----------
    files : int
        Number of its files.
    size : int
        Size of all files, in bytes.
    at : float
        When it was built, in seconds since the epoch.
    seconds : float
        Duration of the build.
    """

    files: int
    size: int
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Cause:
    """One artifact in a chain of causes.

    Attributes
    ----------
    project, stage : str
    scene : str or None
        None for an artifact of all scenes.
    state : State
        What the next run will do with it.
    reasons : tuple of str
        Why it is not fresh.
    depth : int
        Number of steps below the requested artifact.
    seen : bool
        Whether it is already explained above.
    stored : Stored or None
        The result that would be restored.
    """

    project: str
    stage: str
    scene: str | None
    state: State
    reasons: tuple[str, ...]
    depth: int
    seen: bool
    stored: Stored | None

    @property
    def label(self) -> str:
        """The stage, with the scene if there is one: `chip:a`."""
        return f"{self.stage}:{self.scene}" if self.scene else self.stage


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of the state of an artifact.

    Attributes
    ----------
    causes : tuple of Cause
        The artifact, and all of its dependencies that are not fresh, each with its reasons.
    notes : dict of str to str
        Path → note about an input.
    drift : tuple of str
        Packages whose versions have changed since it was built, which does not make it stale.
    """

    causes: tuple[Cause, ...]
    notes: dict[str, str]
    drift: tuple[str, ...]


def explanations(session: Session, word: str) -> list[Explanation]:
    """Return the explanations of the artifacts that `STAGE` or `STAGE:SCENE` names.

    Raises
    ------
    UsageError
        There is none.
    """
    artifacts = session.matching(word)
    session.plan.examine(session.plan.closure(a.name for a in artifacts))
    installed = versions()
    return [
        Explanation(
            tuple(map(_cause, explain.chain(session.plan, artifact.name))),
            session.plan.notes(artifact),
            tuple(explain.drift(session.plan, artifact.name, installed)),
        )
        for artifact in artifacts
    ]


def _cause(link: explain.Link) -> Cause:
    artifact, action, stored = link.artifact, link.action, None
    if action is not None:
        size = sum(size for _, size in action.outputs.values())
        stored = Stored(len(action.outputs), size, action.at, action.seconds)
    reasons = tuple(map(str, link.reasons))
    return Cause(artifact.project, artifact.stage, artifact.scene, link.state, reasons, link.depth, link.seen, stored)
