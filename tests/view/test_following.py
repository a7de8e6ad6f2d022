"""The draft after each save."""

from __future__ import annotations

from typing import Any

from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.view.building.following import Follower
from rvbuild.view.looking import Seen

STATES = {"draft": State.FRESH, "suspects": State.STALE, "suggestions": State.STALE}


class FakeBuild:
    def __init__(self) -> None:
        self.started: list[str] = []
        self.running = False

    def state(self) -> dict[str, Any]:
        return {"running": self.running}

    def start(self, stage: str) -> None:
        self.started.append(stage)


def seen(state: State, key: str = "k", stage: str = "draft", **more: Any) -> Seen:
    return Seen(states=(ArtifactStatus("p", stage, "a", state, (), (), key, None),), **more)


def follower() -> tuple[Follower, FakeBuild]:
    build = FakeBuild()
    made = Follower(build)  # type: ignore[arg-type]
    made.on = True
    return made, build


def test_a_draft_that_is_not_up_to_date_is_built() -> None:
    following, build = follower()
    following.look(seen(State.FRESH))
    assert build.started == []
    following.look(seen(State.STALE))
    assert build.started == ["draft"]


def test_what_reviews_and_suggestions_make_is_no_draft() -> None:
    following, build = follower()
    following.look(seen(State.FRESH, stage="sums"))
    assert build.started == ["draft"]


def test_suspects_that_are_not_up_to_date_start_nothing() -> None:
    following, build = follower()
    states = [ArtifactStatus("p", stage, None, state, (), (), "k", None) for stage, state in STATES.items()]
    following.look(Seen(states=tuple(states)))
    assert build.started == []


def test_nothing_happens_unless_it_is_wanted_and_can_be() -> None:
    following, build = follower()
    following.on = False
    following.look(seen(State.STALE))
    following.on = True
    following.look(seen(State.STALE, problems=("broken",)))
    build.running = True
    following.look(seen(State.STALE))
    assert build.started == []


def test_the_first_draft_is_built_too_and_other_stages_are_not() -> None:
    following, build = follower()
    following.look(seen(State.STALE, stage="train"))
    assert build.started == ["draft"]
    following.look(seen(State.STALE, key="other", stage="train"))
    assert build.started == ["draft"], "it was tried, and there is still none"


def test_what_fails_is_tried_again_when_something_has_changed() -> None:
    following, build = follower()
    for _ in range(3):
        following.look(seen(State.STALE))
    assert build.started == ["draft"]
    following.look(seen(State.STALE, key="after an edit"))
    assert build.started == ["draft", "draft"]
