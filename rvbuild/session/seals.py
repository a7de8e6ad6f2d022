"""Seals builds: writes down every file that a complete build rests on, so that the next one can tell at a glance."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rvbuild.engine.keys import installed
from rvbuild.engine.keys.artifact import Artifact, Source
from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.engine.plan import seal
from rvbuild.engine.store.fingerprint import is_racy
from rvbuild.files.address import is_url
from rvbuild.files.identity import CONTENT
from rvbuild.project.model import Project
from rvbuild.rules.common import listed
from rvbuild.session.session import Session


def before_loading(paths: Iterable[Path]) -> dict[str, Signature]:
    """Return the signatures of project files, and of what rvbuild itself is, as they are before they are read."""
    return {str(p.absolute()): s for p in [*paths, *installed.on_disk()] if (s := signature(p)) is not None}


def write(
    now: Session,
    normal: list[str],
    projects: Sequence[Project],
    closure: Sequence[Artifact],
    before: dict[str, Signature],
    lines: list[str],
) -> None:
    """Write the seal of a complete build, unless it rests on something that a glance cannot vouch for.

    Parameters
    ----------
    now
        The session that has built.
    normal
        The words of the command that the seal answers.
    projects, closure
        What was built: the projects, and all artifacts that the command asks for.
    before
        See `before_loading`.
    lines
        What the command says when there is nothing to do.
    """
    files: dict[str, Any] = dict(before)
    directories: dict[str, int | None] = {}
    if (projects[0].workspace / "projects").is_dir():
        directories[str(projects[0].workspace / "projects")] = None
    elsewhere: dict[str, str] = {}
    for path, found in ((p, s) for project in projects for p, s in project.reads.items()):
        if found is None:
            return
        if isinstance(found, str):
            elsewhere[path] = found
        else:
            files[path] = found
    state, root = now.workspace.state, str(now.workspace.root)
    for artifact in closure:
        for item in artifact.inputs:
            if isinstance(item, Source):
                directories.update(dict.fromkeys(map(str, item.folders)))
                files |= {str(path): seen for path, seen in item.ignored_sidecars}
                for path in map(str, itertools.chain(item.files, *item.sidecars)):
                    if is_url(path):
                        identity = now.workspace.prints.identity(path)
                        if identity is None or identity.by == CONTENT:
                            return
                        elsewhere[path] = identity.digest
                        continue
                    if path in files:
                        continue
                    known = state.file(path)
                    if known is None or is_racy(*known[:2]):
                        return
                    files[path] = known[0]
                    directories[path.rpartition("/")[0] or "/"] = None
        record = now.plan[artifact.name].facts.record
        for output in record.outputs.values() if record else ():
            path = f"{root}/{output.path}"
            found = output.placed() or signature(path)
            if found is None or not output.is_as_placed(found):
                return
            files[path] = found
    for project in projects:
        directories |= listed(project)
    environment = {name: value for p in projects for name, value in p.env.items()}
    seal.write(
        seal.path_of(now.workspace.cache, normal),
        normal,
        files=files,
        directories=directories,
        environment=environment,
        packages={name: version for artifact in closure for name, version in artifact.versions().items()},
        remote_files=elsewhere,
        lines=lines,
        variables={name: value for artifact in closure for name, value in artifact.variables().items()},
    )
