"""Whether the code of a workspace may run: remembered outside of the workspace, once the user has said so.

Only building runs a user's code. Where nobody can be asked, in a script or in CI, it runs and that is said;
`RVBUILD_TRUST=no` refuses it there, and everywhere.
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
_NAMED = 5


Ask = Callable[[Path, str], bool]
"""Asks the user whether the code of a workspace may run, given the names of its files; returns the answer."""


def require(
    workspace: Path, artifacts: Iterable[Artifact], given: bool, say: Callable[[str], None], ask: Ask | None = None
) -> None:
    """Require that the code which artifacts run may run.

    Parameters
    ----------
    workspace
        Where it comes from.
    artifacts
        What is going to be built.
    given
        Whether the user has said so, as with `--trust`.
    say
        Is told whose code runs, where nobody was asked.
    ask
        Asks the user, where there is one to ask.

    Raises
    ------
    UsageError
        The user says no, or `RVBUILD_TRUST` does.
    """
    files = {file for a in artifacts for code in a.code_of_users() for file in code.modules.values()}
    require_files(workspace, files, given, say, ask)


def require_files(
    workspace: Path, paths: Iterable[str], given: bool, say: Callable[[str], None], ask: Ask | None = None
) -> None:
    """Require that the code in some files may run; see `require`."""
    files = sorted(paths)
    if not files:
        return
    shown = [os.path.relpath(f, workspace) if Path(f).is_relative_to(workspace) else f for f in files]
    names = ", ".join(shown[:_NAMED]) + (f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else "")
    answer = _environment()
    if answer is False:
        raise UsageError(f"{VARIABLE}={os.environ[VARIABLE]}: the code of this workspace must not run: {names}")
    if given:
        remember(workspace)
    elif answer is None and not is_trusted(workspace):
        if ask is None:
            say(f"running Python code of this workspace: {names} ({VARIABLE}=no prevents it)")
            return
        if not ask(workspace, names):
            raise UsageError("nothing was built: the code of this workspace is not trusted")
        remember(workspace)


def may_look(workspace: Path, given: bool) -> bool:
    """Tell whether a command that only looks may run the code of a workspace: the user has said so, now or before."""
    answer = _environment()
    if answer is False:
        return False
    if given:
        remember(workspace)
    return given or answer is True or is_trusted(workspace)


def left_out(projects: Iterable[Project], command: str, runs_code: bool) -> list[str]:
    """Return a line for each project whose code a command that only looks has not run."""
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
    """Take note that the user trusts a workspace; where nothing can be kept, it is not."""
    path = _file()
    known = _remembered()
    real = os.path.realpath(workspace)
    if path is None or real in known:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"trusted": sorted([*known, real])}, indent=1) + "\n", encoding="utf-8")
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
        found = json.loads(path.read_bytes())["trusted"] if path is not None else []
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def _file() -> Path | None:
    folder = state_folder()
    return None if folder is None else folder / "trusted.json"
