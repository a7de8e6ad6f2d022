"""The versions of artifacts: the keys that each had in this workspace, counted back from the newest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from rvbuild.engine.run.outcome import Did
from rvbuild.engine.store.state import Entry, State

_MADE = (Did.BUILT.value, Did.RESTORED.value)


@dataclass(frozen=True, slots=True)
class Name:
    """The parts of an artifact's name."""

    stage: str
    project: str
    scene: str | None

    @classmethod
    def of(cls, artifact: str) -> Name:
        """Split the name of an artifact, as composed by the rules."""
        stage, project, *scene = map(unquote, artifact.split(":", 2))
        return cls(stage, project, scene[0] if scene else None)

    def label(self) -> str:
        """Return the short name for humans: `chip:2_10` or `train`."""
        return self.stage if self.scene is None else f"{self.stage}:{self.scene}"


@dataclass(frozen=True, slots=True)
class Version:
    """One content of an artifact; `number` 0 is the newest, and `at` is the time of its last build or restoration."""

    number: int
    key: str
    at: float


def numbered(entries: Iterable[Entry]) -> Iterator[tuple[Entry, int | None]]:
    """Yield each of `entries` (newest first) with the number of its version; failures and cleaning have none.

    Building or restoring an artifact under its previous key does not create a new version.
    """
    last: dict[str, tuple[str, int]] = {}
    for entry in entries:
        if entry.event not in _MADE:
            yield entry, None
            continue
        key, number = last.get(entry.artifact, ("", -1))
        if entry.key != key:
            number += 1
        last[entry.artifact] = (entry.key, number)
        yield entry, number


def versions(state: State, artifact: str) -> list[Version]:
    """Return the versions of `artifact`, the newest first."""
    by_number: dict[int, Version] = {}
    for entry, number in numbered(state.log(artifact)):
        if number is not None and number not in by_number:
            by_number[number] = Version(number, entry.key, entry.at)
    return list(by_number.values())
