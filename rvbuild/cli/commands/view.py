"""`rvbuild view`: a project as a local web page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from rvbuild.cli.terminal import echo
from rvbuild.errors import UsageError
from rvbuild.session.projects import project_paths


def view(words: Sequence[str], overrides: Sequence[str], port: int, opens: bool, trust: bool) -> int:
    """Show a project until Ctrl-C.

    Raises
    ------
    UsageError
        Packages are not installed, or the words name several projects.
    """
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise UsageError(f"rvbuild view needs {' and '.join(missing)}: pip install 'rvbuild[view]'")
    paths = project_paths(words)
    if len(paths) > 1:
        names = ", ".join(map(str, paths))
        raise UsageError(f"rvbuild view shows one project at a time; name one of {names}")
    from rvbuild.view.web.serve import serve

    serve(paths[0], overrides, port=port, opens=opens, trust=trust, say=lambda line: echo(line, err=True))
    return 0
