"""The `[project]` table: the task, the name, and settings of the whole project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, Strict, WithJsonSchema

from rvbuild.errors import nearest
from rvbuild.files.address import is_url
from rvbuild.project.tables import own_rules
from rvbuild.project.tasks import NAMES, SPECS
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.names import RESERVED_CLASSES, RESERVED_PROJECTS, name_problem
from rvbuild.project.toml.paths import path_problem
from rvbuild.project.toml.table import Context, Finding, Table, duplicates, wrong


def task_problem(task: str) -> str | None:
    """Return why a task cannot be used, or None."""
    if task in NAMES:
        return None
    *first, last = map(show, NAMES)
    return f"expected {', '.join(first)} or {last}, found {show(task)}{nearest(task, NAMES)}"


def _task(value: str) -> str:
    problem = task_problem(value)
    return wrong(problem) if problem else value


def _name(value: str) -> str:
    problem = name_problem(value, RESERVED_PROJECTS)
    return wrong(problem) if problem else value


class ProjectTable(Table):
    """General settings of the project."""

    task: Annotated[str, AfterValidator(_task), WithJsonSchema({"type": "string", "enum": list(NAMES)})] = Field(
        description=f"What to predict: {'; '.join(f'{spec.name}, {spec.gives}' for spec in SPECS.values())}."
    )
    name: Annotated[str, AfterValidator(_name)] | None = Field(
        None, description="Name of the project and of its directory in cache/. Default: the file's name without .toml."
    )
    seed: int = Field(0, ge=0, description="Seed of all random choices. The same seed and inputs give the same bytes.")
    null_class: str = Field(
        "null",
        description="Name of the class of pixels without a label. It is added if no class has this name. It is never "
        "trained, predicted or counted in averages without null.",
    )
    strict: Annotated[tuple[str, ...], Strict(False)] = Field(
        (), description='Python packages whose version is part of every artifact\'s key, for example ["torch"].'
    )
    depends: Annotated[tuple[str, ...], Strict(False)] = Field(
        (),
        description="Files that your own code reads, or imports in a way that its source does not show, for example "
        '["params.json", "tables/*.csv"]. They become part of the keys of all artifacts that run your code.',
    )
    allow: Annotated[tuple[str, ...], Strict(False)] = Field(
        (),
        description="Directories and URL prefixes that virtual files (.vrt) may refer to, besides the workspace and "
        "the "
        'directory of the file itself, for example ["/data/tiles", "https://example.org/tiles/"].',
    )
    rules: Annotated[tuple[str, ...], Strict(False)] = Field(
        (),
        description="Files of the workspace that add your own stages, each named after its stage, for example "
        '["rules/tiles.py"]; see docs/pipelines.md. They are code: they run when you build, and also when you inspect '
        "a workspace that you trust.",
    )
    data_hint: str | None = Field(
        None, description="How to get the data, for example: make data. Shown when files are missing."
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """Find names that cannot be used."""
        problem = name_problem(self.null_class, RESERVED_CLASSES)
        if problem:
            yield Finding(("null_class",), problem)
        yield from duplicates(self.allow, "allow")
        for number, place in enumerate(self.allow):
            problem = path_problem(place, may_be_remote=True)
            if problem is None and is_url(place) and not place.endswith("/"):
                problem = f'expected an address that ends with "/", found {show(place)}'
            if problem:
                yield Finding(("allow", number), problem)
        yield from own_rules.findings(self.rules)
        yield from duplicates(self.strict, "strict")
        yield from duplicates(self.depends, "depends")
        for number, path in enumerate(self.depends):
            if problem := path_problem(path):
                yield Finding(("depends", number), problem)
        for number, package in enumerate(self.strict):
            if not package.strip():
                yield Finding(("strict", number), "expected the name of a Python package, found an empty string")
