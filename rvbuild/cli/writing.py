"""The commands that write what concerns project files: `schema`, `new`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from rvbuild.cli.report import print_json
from rvbuild.errors import RvbuildError, UsageError
from rvbuild.project import json_schema, starter


def schema() -> int:
    """Print the JSON Schema of project files."""
    print_json(json_schema(), indent=2)
    return 0


def new(name: str, task: str) -> int:
    """Write a starter project, never over an existing file."""
    stem = name.removesuffix(".toml")
    if not stem or "/" in stem or stem.startswith("."):
        raise UsageError(f"new {name}: a project's name is a file name without folders, such as `rvbuild new parcels`")
    path = Path("projects") / f"{stem}.toml"
    text = starter(stem, task)
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"{error.filename} is there already; choose another name, or remove it first") from None
    except OSError as error:
        raise RvbuildError(f"{path}: cannot be written: {error.strerror or error}") from None
    then = f"rvbuild check {quote(str(path))}"
    click.echo(f"{path}: written; set the paths of your imagery and labels in it, then `{then}`")
    return 0
