"""The commands that write project files and their schema: `new`, `schema`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from shlex import quote

import tomli

from rvbuild.cli.report import print_json
from rvbuild.cli.terminal import echo
from rvbuild.engine.keys import installed
from rvbuild.errors import RvbuildError, UsageError, nearest
from rvbuild.project.schema import json_schema
from rvbuild.project.starter import starter


def schema() -> int:
    """Print the JSON Schema of project files."""
    print_json(json_schema(), indent=2)
    return 0


def new(name: str, task: str) -> int:
    """Write a starter project, and a `dodo.py` for plain doit; existing files are not overwritten."""
    stem = name.removesuffix(".toml")
    if not stem or "/" in stem or stem.startswith("."):
        raise UsageError(f"new {name}: a project's name is a file name without folders, such as `rvbuild new parcels`")
    path = _write(stem, starter(stem, task))
    command = f"rvbuild check {quote(str(path))}"
    echo(f"{path}: written; set the paths of your imagery and labels in it, then `{command}`")
    return 0


def new_example(name: str | None) -> int:
    """Write one of the example projects, and print the source of its data."""
    examples = {
        file.name.removesuffix(".toml"): file
        for file in installed.shipped("projects").iterdir()
        if file.name.endswith(".toml")
    }
    stem = (name or "").removesuffix(".toml")
    if stem not in examples:
        valid = ", ".join(sorted(examples))
        problem = (
            f"new --example {name}: no such example{nearest(stem, examples)}" if name else "new --example: which one?"
        )
        raise UsageError(f"{problem} (examples: {valid})")
    text = examples[stem].read_text(encoding="utf-8")
    path = _write(stem, text)
    echo(f"{path}: written")
    echo(f"its data: {tomli.loads(text)['project']['data_hint']}")
    echo(f"then: `rvbuild build {quote(str(path))}`")
    return 0


def _write(stem: str, text: str) -> Path:
    path = Path("projects") / f"{stem}.toml"
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        with contextlib.suppress(FileExistsError), Path("dodo.py").open("x", encoding="utf-8") as file:
            file.write(installed.shipped("dodo.py").read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise UsageError(f"{error.filename} already exists; choose another name, or remove it first") from None
    except OSError as error:
        raise RvbuildError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path
