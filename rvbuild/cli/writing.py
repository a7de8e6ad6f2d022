"""The commands about project files: `check`, `schema`, `new`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from rvbuild.cli.session import load_all, project_paths
from rvbuild.errors import ProjectError, UsageError
from rvbuild.project import json_schema, missing_files, starter


def check(words: Sequence[str], overrides: Sequence[str]) -> int:
    """Load the projects and look for all files they name; raise with every problem."""
    projects = load_all(project_paths(words), overrides)
    problems = [problem for project in projects for problem in missing_files(project)]
    if problems:
        raise ProjectError(problems)
    for project in projects:
        counts = {split: sum(s.split == split for s in project.scenes) for split in ("train", "validation", "test")}
        said = ", ".join(f"{n} {split}" for split, n in counts.items() if n)
        click.echo(f"{project.path}: good ({project.task}; scenes: {said}; {len(project.classes)} classes)")
    return 0


def schema() -> int:
    """Print the JSON Schema of project files."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


def new(name: str, task: str) -> int:
    """Write a starter project, never over an existing file."""
    stem = name.removesuffix(".toml")
    if not stem or "/" in stem or stem.startswith("."):
        raise UsageError(f"new {name}: a project's name is a file name without folders, such as `rvbuild new parcels`")
    path = Path("projects") / f"{stem}.toml"
    text = starter(stem, task)
    path.parent.mkdir(exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already; choose another name, or remove it first") from None
    click.echo(f"{path}: written; set the paths of your imagery and labels in it, then `rvbuild check {path}`")
    return 0
