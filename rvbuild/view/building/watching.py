"""Notices what is saved while the page is open: the project file, imagery, labels, and results of builds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rvbuild.engine.cluster.running import hosts_of
from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.engine.store.state_file import state_file
from rvbuild.errors import RvbuildError
from rvbuild.files.address import is_url
from rvbuild.rules import common
from rvbuild.view.looking import Looking

INTERVAL_S = 0.5

State = dict[str, Signature | None]


class Watcher:
    """Looks at the files of a project in a thread of its own, and looks anew at the project when one has changed."""

    def __init__(
        self,
        looking: Looking,
        changed: Callable[[], None],
        grown: Callable[[], None],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self._looking, self._changed, self._grown, self._moved = looking, changed, grown, moved
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rvbuild-view-watch", daemon=True)
        self._before: State = {}
        self._live: State = {}
        self._hosts: dict[str, str] = {}

    def start(self) -> None:
        """Begin; the project has been looked at."""
        self._before, self._live, self._hosts = self._state(), self._growing(), hosts_of(Path(self._cache()))
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def check(self) -> bool:
        """Look once; return whether something had changed, which was then looked at and told.

        A log that grows is only told: it changes no state of an artifact. Neither does the host that builds one.
        """
        hosts = hosts_of(Path(self._cache()))
        if hosts != self._hosts:
            self._hosts = hosts
            self._moved()
        live = self._growing()
        if live != self._live:
            self._live = live
            self._grown()
        now = self._state()
        if now == self._before:
            return False
        # Programs write in several steps: what was saved is looked at when nothing changes any more.
        while not self._stop.wait(INTERVAL_S / 2):
            after = self._state()
            if after == now:
                break
            now = after
        self._looking.look()
        # Looking writes what it has found out to the state database, which is no change.
        self._before = self._state() if self._unchanged(now) else now
        self._changed()
        return True

    def _unchanged(self, before: State) -> bool:
        """Tell whether the user's files are as they were before the project was looked at."""
        after, cache = self._state(), self._cache()
        ours = (cache, str(state_file(Path(cache))))
        return {k: v for k, v in after.items() if not k.startswith(ours)} == {
            k: v for k, v in before.items() if not k.startswith(ours) and k in after
        }

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            try:
                self.check()
            except (RvbuildError, OSError) as error:  # for example a directory that cannot be read now
                self._changed_in_vain(error)

    def _changed_in_vain(self, error: Exception) -> None:
        """Keep what is shown, and say once what is wrong."""
        seen = self._looking.seen
        if str(error) not in seen.problems:
            self._looking.seen = replace(seen, problems=(*seen.problems, str(error)))
            self._changed()

    def _cache(self) -> str:
        project = self._looking.seen.project
        return str((project.workspace if project is not None else self._looking.path.parent) / "cache")

    def _growing(self) -> State:
        """Return how the files look that grow while stages run."""
        seen = self._looking.seen
        if seen.project is None:
            return {}
        found = {state.live: signature(seen.project.workspace / state.live) for state in seen.states if state.live}
        return {path: now for path, now in found.items() if now is not None}

    def _state(self) -> State:
        """Return how all files look that decide what the page shows."""
        seen = self._looking.seen
        paths = {str(self._looking.path)}
        if (project := seen.project) is not None:
            for scene in project.scenes:
                named = [*scene.image.files, *scene.aoi, *(scene.labels.files if scene.labels else ())]
                paths.update(str(common.resolve(project, path)) for path in named if not is_url(path))
            paths.update(str(file) for code in common.images_code(project, project.scenes) for file in code.files)
            paths.update(path for path in project.reads if not is_url(path))
            cache = project.workspace / "cache"
            paths.update(str(project.workspace / output) for state in seen.states for output in state.outputs)
            paths.update(str(path) for path in _databases(cache))
        return {path: signature(path) for path in paths}


def _databases(cache: Path) -> list[Path]:
    """Return the files that every build writes to."""
    path = state_file(cache)
    return [path, path.with_name(f"{path.name}-wal")]
