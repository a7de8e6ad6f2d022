"""`rvbuild cache push` and `pull`: transfer of results to and from a remote store."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rvbuild.cli import report
from rvbuild.cli.commands.store import opened
from rvbuild.cli.report import size_text
from rvbuild.cli.terminal import echo
from rvbuild.engine.plan.decide import State
from rvbuild.engine.remote.store import RemoteStore, Transfer
from rvbuild.engine.upkeep.inventory import take_inventory
from rvbuild.engine.workspace import locked
from rvbuild.errors import UsageError, counted
from rvbuild.project.workspaces import every_project
from rvbuild.session.projects import load_all, project_paths
from rvbuild.session.session import Session, open_session
from rvbuild.stages.names import on_request


def _split(command: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the address (by default from RVBUILD_REMOTE) and the projects among `words`."""
    projects = [w for w in words if w.endswith(".toml")]
    urls = [w for w in words if not w.endswith(".toml")] or [u for u in [os.environ.get("RVBUILD_REMOTE")] if u]
    if len(urls) != 1:
        raise UsageError(
            f"cache {command}: give one address of a store (a directory, s3://bucket/path, …), or set RVBUILD_REMOTE"
        )
    return urls[0], projects


def push(words: Sequence[str], everything: bool) -> int:
    """Send the results in the workspace, or with `everything` also earlier ones; return the exit status."""
    url, projects = _split("push", words)
    if os.environ.get("RVBUILD_REMOTE_READ_ONLY", "") not in ("", "0"):
        raise UsageError(f"cache push {url}: RVBUILD_REMOTE_READ_ONLY is set, so nothing is sent; unset it to send")
    if projects:
        raise UsageError(
            f"cache push {projects[0]}: push sends the results of the whole workspace; leave the project out"
        )
    reporter = report.make(False, 0, False)
    try:
        with opened(lock=True) as workspace:
            if everything:
                keys = list(take_inventory(workspace.store).actions)
            else:
                keys = [r.key for r in workspace.state.records().values() if not r.cleaned]
            remote = RemoteStore(url)
            existing = sum(key in remote.keys for key in set(keys))
            moved = remote.push(workspace.store, keys, reporter.task("push"))
            names = workspace.state.names()
    finally:
        reporter.close()
    if moved.differing:
        labels = ", ".join(sorted(names.get(key, key) for key in moved.differing))
        message = f"{len(moved.differing)} differ from the results there, which stay (the first writer wins): {labels}"
        echo(f"{message}\nto use theirs: `rvbuild clean STAGE`, then `rvbuild cache pull`", err=True)
    return _sum_up(moved, "sent", f"; {existing} already existed there" if existing else "")


def pull(words: Sequence[str], everything: bool) -> int:
    """Fetch the results that the projects need now, or with `everything` all; return the exit status.

    The key of an artifact is only known once its inputs are known: records are fetched level by level, down the graph.
    """
    url, paths = _split("pull", words)
    remote = RemoteStore(url)
    if remote.is_missing():
        raise UsageError(f"cache pull {url}: no such directory; `rvbuild cache push {url}` creates it")
    reporter = report.make(False, 0, False)
    try:
        if everything or not (paths or every_project()):
            with opened(lock=True) as workspace:
                moved, suffix = remote.pull(workspace.store, sorted(remote.keys), reporter.task("pull")), ""
        else:
            projects = load_all(project_paths(paths), ())
            with (
                locked(projects[0].workspace, reporter.note),
                open_session(projects, notify=reporter.note, requested=True) as session,
            ):
                session.workspace.read_through = None  # plan with local results only
                moved, missing = _pull_needed(remote, session, reporter)
            suffix = (
                f"; {counted(missing, 'artifact')} {'is' if missing == 1 else 'are'} still to be built"
                if missing
                else "; `rvbuild build` restores them"
            )
    finally:
        reporter.close()
    return _sum_up(moved, "fetched", suffix)


def _pull_needed(remote: RemoteStore, session: Session, reporter: report.Plain) -> tuple[Transfer, int]:
    """Fetch level by level; return the transfer, and the number of artifacts that `build` still has to build."""
    session.plan.examine(session.artifacts)
    total = Transfer()
    tried: set[str] = set()
    while True:
        planned = {a.name: session.plan[a.name] for a in session.artifacts}
        lacking = {p.facts.key for p in planned.values() if p.decision.state is not State.FRESH and not p.facts.stored}
        wanted = sorted(key for key in lacking if key is not None and key not in tried)
        if not wanted:
            needed = (planned[a.name].decision.state for a in session.artifacts if not on_request(a.stage))
            return total, sum(state not in (State.FRESH, State.RESTORABLE) for state in needed)
        tried.update(wanted)
        moved = remote.pull(session.workspace.store, wanted, reporter.task("pull"))
        total += moved
        if moved.records:
            session.plan.invalidate_all()


def _sum_up(moved: Transfer, did: str, suffix: str = "") -> int:
    for problem in moved.problems:
        echo(problem, err=True)
    echo(
        f"{did} {counted(moved.records, 'result')}, {counted(moved.contents, 'file')}, {size_text(moved.size)}{suffix}"
    )
    return 1 if moved.problems else 0
