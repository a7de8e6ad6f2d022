"""The state of an artifact, as data; no projects here."""

from __future__ import annotations

from dataclasses import dataclass

from rvbuild.engine.plan.decide import State


@dataclass(frozen=True, slots=True)
class ArtifactStatus:
    """The state of one artifact.

    Attributes
    ----------
    project, stage : str
    scene : str or None
        None for an artifact of all scenes.
    state : State
        What the next run will do with it.
    reasons : tuple of str
        Why it is not fresh.
    outputs : tuple of str
        Its outputs, as paths relative to the workspace.
    key : str or None
        Its key, the digest of its inputs, settings and code; None while an input is not known.
    seconds : float or None
        Duration of the last build.
    live : str
        The file that grows while it is built, relative to the workspace; empty if there is none.
    """

    project: str
    stage: str
    scene: str | None
    state: State
    reasons: tuple[str, ...]
    outputs: tuple[str, ...]
    key: str | None
    seconds: float | None
    live: str = ""

    @property
    def label(self) -> str:
        """The stage, with the scene if there is one: `chip:a`."""
        return f"{self.stage}:{self.scene}" if self.scene else self.stage
