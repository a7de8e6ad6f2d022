"""The draft after each save: it is built again when it is no longer up to date, if the user wants that."""

from __future__ import annotations

from rvbuild.engine.plan.decide import State
from rvbuild.errors import UsageError
from rvbuild.session.names import belongs
from rvbuild.view.building.builds import Build
from rvbuild.view.looking import Seen

STAGE = "draft"
_DUE = (State.STALE, State.MISSING, State.WAITING, State.RESTORABLE)


class Follower:
    """Starts builds of the draft while `on`."""

    def __init__(self, build: Build) -> None:
        self.on = False
        self._build = build
        self._tried: object = None

    def look(self, seen: Seen) -> None:
        """Start a build if the draft needs one, unless it was tried in vain and nothing has changed since."""
        if not self.on or seen.problems or self._build.state()["running"]:
            return
        drafts = [status for status in seen.states if belongs(status.stage, STAGE)]
        now = tuple((status.label, status.state, status.key) for status in drafts)
        # Reviews and suggestions need features and sums as well: these alone are no draft.
        made = any(status.stage == STAGE for status in drafts)
        if (made and not any(status.state in _DUE for status in drafts)) or (now == self._tried):
            return
        self._tried = now
        try:
            self._build.start(STAGE)
        except UsageError:
            return  # another build has begun: this is looked at again when it ends
