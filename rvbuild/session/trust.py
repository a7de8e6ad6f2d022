"""Trust in the code of a workspace: granted by the user, and stored outside of the workspace.

Only builds run user code. If nobody can be asked, in a script or in CI, it runs, and this is reported;
`RVBUILD_TRUST=no` refuses it everywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.errors import UsageError
from rvbuild.files.signing import state_folder
from rvbuild.project.model import Project

VARIABLE = "RVBUILD_TRUST"
_ANSWERS = {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False}
_MOST_NAMED = 5


Ask = Callable[[Path, str], bool]
"""Asks the user whether the code of a workspace may run, given the names of its files; returns the answer."""


def require(
    workspace: Path, artifacts: Iterable[Artifact], trusted: bool, notify: Callable[[str], None], ask: Ask | None = None
) -> None:
    """Require that the user code of artifacts may run.

    Parameters
    ----------
    workspace
        The workspace of the code.
    artifacts
        The artifacts to be built.
    trusted
        Whether the user trusts the code now, as with `--trust`.
    notify
        Receives a message if code runs without a question.
    ask
        Asks the user; None if nobody can be asked.

    Raises
    ------
    UsageError
        The user or `RVBUILD_TRUST` refuses.
    """
    files = {file for a in artifacts for code in a.code_of_users() for file in code.modules.values()}
    require_files(workspace, files, trusted, notify, ask)


def require_files(
    workspace: Path, paths: Iterable[str], trusted: bool, notify: Callable[[str], None], ask: Ask | None = None
) -> None:
    """Require that the code in the files `paths` may run; see `require`."""
    files = sorted(paths)
    if not files:
        return
    shown = [os.path.relpath(f, workspace) if Path(f).is_relative_to(workspace) else f for f in files]
    names = ", ".join(shown[:_MOST_NAMED]) + (
        f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    )
    answer = _environment()
    if answer is False:
        raise UsageError(f"{VARIABLE}={os.environ[VARIABLE]}: the code of this workspace must not run: {names}")
    if trusted:
        remember(workspace)
    elif answer is None and not is_trusted(workspace):
        if ask is None:
            notify(f"running Python code of this workspace: {names} ({VARIABLE}=no prevents it)")
            return
        if not ask(workspace, names):
            raise UsageError("nothing was built: the code of this workspace is not trusted")
        remember(workspace)


def may_inspect(workspace: Path, trusted: bool) -> bool:
    """Tell whether a command that builds nothing may run user code: the user trusts it now or did so before."""
    answer = _environment()
    if answer is False:
        return False
    if trusted:
        remember(workspace)
    return trusted or answer is True or is_trusted(workspace)


def skipped_code(projects: Iterable[Project], command: str, runs_code: bool) -> list[str]:
    """Return a message for each project whose code was not run by a command that builds nothing."""
    lines = []
    for project in () if runs_code else projects:
        modules = sorted({module for scene in project.scenes for module in scene.image.modules()})
        if modules:
            lines.append(
                f"{project.where(('scene', 'image'))}: pixels are inspected as they are before {', '.join(modules)}: "
                f"`{command}` does not run your code, `rvbuild {command} --trust` does"
            )
    return lines


def is_trusted(workspace: Path) -> bool:
    """Tell whether the user has trusted a workspace."""
    return os.path.realpath(workspace) in _remembered()


def remember(workspace: Path) -> None:
    """Store that the user trusts a workspace, if the file can be written."""
    path = _file()
    trusted_paths = _remembered()
    real = os.path.realpath(workspace)
    if path is None or real in trusted_paths:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"trusted": sorted([*trusted_paths, real])}, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    except (OSError, UnicodeError):
        return


def _environment() -> bool | None:
    text = os.environ.get(VARIABLE, "")
    if text.casefold() not in {*_ANSWERS, ""}:
        raise UsageError(f"{VARIABLE}: expected yes or no, found {text!r}")
    return _ANSWERS.get(text.casefold())


def _remembered() -> list[str]:
    path = _file()
    try:
        paths = json.loads(path.read_bytes())["trusted"] if path is not None else []
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [text for text in paths if isinstance(text, str)] if isinstance(paths, list) else []


def _file() -> Path | None:
    folder = state_folder()
    return None if folder is None else folder / "trusted.json"
