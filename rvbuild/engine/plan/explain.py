"""The chain of causes: from an artifact that is not fresh down to the edited file or key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import Reason, State
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.store.action import Action

#: The meaning of a state for the next run, in words.
MEANING = {
    State.FRESH: "is fresh: nothing to do",
    State.RESTORABLE: "would be restored from the store",
    State.STALE: "is stale: would be built",
    State.WAITING: "waits: would be built if its inputs change",
    State.MISSING: "is missing: would be built",
    State.FAILED: "failed: would be tried again",
}


@dataclass(frozen=True, slots=True)
class Link:
    """One artifact in a chain of causes, `depth` steps below the requested one."""

    artifact: Artifact
    state: State
    reasons: tuple[Reason, ...]
    depth: int
    seen: bool = False  # already explained above
    action: Action | None = None  # the result that would be restored


def chain(plan: Plan, name: str) -> Iterator[Link]:
    """Yield the artifact `name` and all of its dependencies that are not fresh."""
    done: set[str] = set()

    def walk(name: str, depth: int) -> Iterator[Link]:
        artifact = plan.artifacts[name]
        decision = plan[name].decision
        action = plan[name].action if decision.state is State.RESTORABLE else None
        yield Link(artifact, decision.state, decision.reasons, depth, name in done, action)
        if name in done:
            return
        done.add(name)
        for needed in artifact.needs():
            if plan[needed].decision.state is not State.FRESH:
                yield from walk(needed, depth + 1)

    yield from walk(name, 0)


def drift(plan: Plan, name: str, now: dict[str, str]) -> list[str]:
    """Return a line for each package whose version has changed since artifact `name` was built."""
    record = plan.workspace.state.record(name)
    if record is None:
        return []
    return [
        f"{package} {old} → {now[package]}"
        for package, old in sorted(record.packages.items())
        if package in now and now[package] != old
    ]
