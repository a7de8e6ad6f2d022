"""The question on a terminal whether the code of a workspace may run; `rvbuild.session.trust` decides when to ask."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rvbuild.cli.terminal import echo
from rvbuild.session.trust import Ask


def asker(allowed: bool) -> Ask | None:
    """Return a function that asks the user, if that is allowed and there is a terminal."""
    return _ask if allowed and _on_terminal() else None


def _ask(workspace: Path, names: str) -> bool:
    echo(f"This build runs Python code of the workspace, with all of your permissions: {names}", err=True)
    return click.confirm(f"Do you trust {workspace}, now and in the future?", default=False, err=True)


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
