"""The state of artifacts, and the causes of it, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.keys.packages import versions
from rvbuild.engine.plan import explain
from rvbuild.engine.plan.decide import State
from rvbuild.session.session import Session


@dataclass(frozen=True, slots=True)
class ArtifactStatus:
    """The state of one artifact.

    Attributes
    ----------
    project, stage : str
    scene : str or None
        None for an artifact of all scenes.
    state : State
        What the next run is going to do with it.
    reasons : tuple of str
        Why it is not fresh.
    outputs : tuple of str
        The files that it shows, as paths from the workspace.
    key : str or None
        The digest of all that it is made from; None while an input is not known.
    seconds : float or None
        How long it took to build last time.
    """

    project: str
    stage: str
    scene: str | None
    state: State
    reasons: tuple[str, ...]
    outputs: tuple[str, ...]
    key: str | None
    seconds: float | None

    @property
    def label(self) -> str:
        """The stage, with the scene if there is one: `chip:a`."""
        return f"{self.stage}:{self.scene}" if self.scene else self.stage


def statuses(now: Session, artifacts: Sequence[Artifact]) -> list[ArtifactStatus]:
    """Return the states of artifacts that the plan has looked at."""
    seconds = now.workspace.state.last_seconds()
    return [_status(now, artifact, seconds.get(artifact.name)) for artifact in artifacts]


def _status(now: Session, artifact: Artifact, seconds: float | None) -> ArtifactStatus:
    planned = now.plan[artifact.name]
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
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """A result in the store.

    Attributes
    ----------
    files : int
        How many files it has.
    size : int
        Of all of them, in bytes.
    at : float
        When it was built, in seconds since the epoch.
    seconds : float
        How long that took.
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
        What the next run is going to do with it.
    reasons : tuple of str
        Why it is not fresh.
    depth : int
        How many steps it is below the artifact that was asked about.
    seen : bool
        Whether it was explained further up already.
    stored : Stored or None
        What would be restored.
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
    """Why an artifact is in its state.

    Attributes
    ----------
    causes : tuple of Cause
        The artifact, and below it all that it needs and that is not fresh, each with its reasons.
    notes : dict of str to str
        Path → a remark about an input.
    drift : tuple of str
        Packages whose versions are not those that it was built with, which is no reason to build it again.
    """

    causes: tuple[Cause, ...]
    notes: dict[str, str]
    drift: tuple[str, ...]


def explanations(now: Session, word: str) -> list[Explanation]:
    """Return why the artifacts are in their states that `STAGE` or `STAGE:SCENE` names.

    Raises
    ------
    UsageError
        If there is none.
    """
    asked = now.named(word)
    now.plan.examine(now.plan.closure(a.name for a in asked))
    installed = versions()
    return [
        Explanation(
            tuple(map(_cause, explain.chain(now.plan, artifact.name))),
            now.plan.notes(artifact),
            tuple(explain.drift(now.plan, artifact.name, installed)),
        )
        for artifact in asked
    ]


def _cause(link: explain.Link) -> Cause:
    artifact, action, stored = link.artifact, link.action, None
    if action is not None:
        size = sum(size for _, size in action.outputs.values())
        stored = Stored(len(action.outputs), size, action.at, action.seconds)
    reasons = tuple(map(str, link.reasons))
    return Cause(artifact.project, artifact.stage, artifact.scene, link.state, reasons, link.depth, link.seen, stored)
