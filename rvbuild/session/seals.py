"""Seals of complete builds: the state of all files that a build depends on; see `rvbuild.engine.plan.seal`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rvbuild.engine.keys import installed
from rvbuild.engine.keys.artifact import Artifact, Source
from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.engine.plan import seal
from rvbuild.engine.store import inside
from rvbuild.engine.store.fingerprint import is_racy
from rvbuild.files.address import is_url
from rvbuild.files.identity import CONTENT
from rvbuild.project.model import Project
from rvbuild.rules.common import listed
from rvbuild.session.session import Session


def before_loading(paths: Iterable[Path]) -> dict[str, Signature]:
    """Return the signatures of the project files and of rvbuild's own files, before they are read."""
    return {str(p.absolute()): s for p in [*paths, *installed.on_disk()] if (s := signature(p)) is not None}


def remove_all(cache: Path) -> None:
    """Remove all seals of a workspace, because something has changed that they do not hold."""
    for path in (cache / "seals").glob("*.json"):
        inside.remove(cache, f"seals/{path.name}")


def write(
    session: Session,
    normal: list[str],
    projects: Sequence[Project],
    closure: Sequence[Artifact],
    before: dict[str, Signature],
    lines: list[str],
) -> None:
    """Write the seal of a complete build, unless it depends on something whose state a seal cannot record.

    Parameters
    ----------
    session
        The session of the build.
    normal
        The normalised command line of the seal.
    projects, closure
        The projects, and all artifacts that the command requests.
    before
        See `before_loading`.
    lines
        The message of the command when there is nothing to do.
    """
    files: dict[str, Any] = dict(before)
    directories: dict[str, int | None] = {}
    if (projects[0].workspace / "projects").is_dir():
        directories[str(projects[0].workspace / "projects")] = None
    remote_files: dict[str, str] = {}
    for path, current in ((p, s) for project in projects for p, s in project.reads.items()):
        if current is None:
            return
        if isinstance(current, str):
            remote_files[path] = current
        else:
            files[path] = current
    state, root = session.workspace.state, str(session.workspace.root)
    packages, variables = dict[str, str](), dict[str, str]()
    for artifact in closure:
        own_packages, own_variables = artifact.environment()
        packages |= own_packages
        variables |= own_variables
        for item in artifact.inputs:
            if isinstance(item, Source):
                directories.update(dict.fromkeys(map(str, item.folders)))
                files |= {str(path): observed for path, observed in item.ignored_sidecars}
                for path in map(str, itertools.chain(item.files, *item.sidecars)):
                    if is_url(path):
                        identity = session.workspace.prints.identity(path)
                        if identity is None or identity.by == CONTENT:
                            return
                        remote_files[path] = identity.digest
                        continue
                    if path in files:
                        continue
                    stored = state.file(path)
                    if stored is None or is_racy(*stored[:2]):
                        return
                    files[path] = stored[0]
                    directories[path.rpartition("/")[0] or "/"] = None
        record = session.plan[artifact.name].facts.record
        for output in record.outputs.values() if record else ():
            path = f"{root}/{output.path}"
            current = output.placed() or signature(path)
            if current is None or not output.is_as_placed(current):
                return
            files[path] = current
    for project in projects:
        directories |= listed(project)
    environment = {name: value for p in projects for name, value in p.env.items()}
    seal.write(
        seal.path_of(session.workspace.cache, normal),
        normal,
        files=files,
        directories=directories,
        environment=environment,
        packages=packages,
        remote_files=remote_files,
        lines=lines,
        variables=variables,
    )
