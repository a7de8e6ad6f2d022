"""Points: a project with some keys set. A point is a variant of the project, built in the same workspace.

A point's artifacts are those of a project file with these keys written in. Those that equal the project's own are the
project's own; the others are in `cache/PROJECT/points/ID/`, and what two points share is restored from the store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact, Product, digest
from rvbuild.engine.store import inside
from rvbuild.errors import ProjectError, UsageError, nearest
from rvbuild.project.load import load
from rvbuild.project.model import Project
from rvbuild.project.toml.edit import toml_text
from rvbuild.session.experiments.grid import Keys, normal

POINTS = "points"
"""The folder of the points of a project."""
FILE = "point.json"
"""The file that says what a point sets."""
OPTION = "--grid"
_ID = re.compile(r"p[0-9a-f]{8}")


@dataclass(frozen=True)
class Point:
    """A project with some keys set.

    Attributes
    ----------
    id
        Its name: `p` and a digest of the keys and values, the same in each sweep.
    keys
        What it sets, in the order of the sweep.
    project
        The project with these keys; None if the project file no longer allows them.
    problems
        Why not.
    """

    id: str
    keys: Keys
    project: Project | None
    problems: tuple[str, ...] = ()

    def overrides(self) -> list[str]:
        """Return the keys as words of the command line, like `train.lr=0.001`."""
        return overrides(self.keys)


def overrides(keys: Keys) -> list[str]:
    """Return keys as words of the command line, like `train.lr=0.001`."""
    return [f"{key}={toml_text(value)}" for key, value in keys.items()]


def point_id(keys: Keys) -> str:
    """Return the id of a point.

    >>> point_id({"train.lr": 1}) == point_id({"train.lr": 1.0})
    True
    """
    return "p" + digest(normal(dict(keys)))[:8]


def variant(project: Project, folder: str, id_: str) -> Project:
    """Return a loaded project as a variant: its artifacts have names and folders of their own."""
    return replace(project, name=f"{project.title}/{folder}/{id_}")


def make(path: Path, every: Iterable[Keys]) -> list[Point]:
    """Return the points of a project file.

    Raises
    ------
    ProjectError
        With the problems of all points, each once.
    """
    points: list[Point] = []
    problems: list[str] = []
    for keys in every:
        point = _load(path, keys)
        points.append(point)
        problems += point.problems
    if problems:
        raise ProjectError(list(dict.fromkeys(problems)))
    return points


def _load(path: Path, keys: Keys) -> Point:
    id_ = point_id(keys)
    try:
        return Point(id_, keys, variant(load(path, overrides(keys), option=OPTION), POINTS, id_))
    except ProjectError as error:
        return Point(id_, keys, None, tuple(error.problems))


def remember(cache: Path, project: str, points: Sequence[Point]) -> None:
    """Write down what the points set."""
    for point in points:
        text = json.dumps(point.keys, ensure_ascii=False, indent=1, default=str)
        inside.write(cache, f"{project}/{POINTS}/{point.id}/{FILE}", f"{text}\n".encode())


def remembered(cache: Path, project: Project) -> list[Point]:
    """Return the points of earlier sweeps, by id; those that the project file no longer allows have problems."""
    points = []
    folder = cache / project.title / POINTS
    for path in sorted(folder.glob(f"*/{FILE}")):
        try:
            keys = json.loads(inside.read(cache, f"{project.title}/{POINTS}/{path.parent.name}/{FILE}"))
        except (OSError, ValueError):
            continue
        if isinstance(keys, dict) and point_id(keys) == path.parent.name:
            points.append(_load(project.path, keys))
    return points


def is_id(word: str) -> bool:
    """Tell whether a word may be the id of a point, or the beginning of one."""
    return len(word) > 1 and _ID.fullmatch(word.ljust(9, "0")) is not None


def find(points: Sequence[Point], word: str, project: Project) -> Point:
    """Return the point that a word names: an id, or the beginning of one.

    Raises
    ------
    UsageError
        There is none, or there are several.
    """
    matching = [point for point in points if word and point.id.startswith(word)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UsageError(f"{word}: {len(matching)} points begin like this: {', '.join(p.id for p in matching)}")
    if not points:
        raise UsageError(f"{word}: {project.title} has no points; `rvbuild sweep` makes some")
    raise UsageError(f"{word}: no such point{nearest(word, [p.id for p in points])} (`rvbuild exp` lists them)")


@dataclass(frozen=True)
class Graph:
    """The artifacts of a project and its variants, each once.

    Attributes
    ----------
    artifacts
        All of them, each after its dependencies.
    same
        The name of an artifact of a variant → that of the project's artifact that equals it.
    """

    artifacts: list[Artifact]
    same: Mapping[str, str]

    def of(self, name: str) -> str:
        """Return the name under which an artifact of a variant is built."""
        return self.same.get(name, name)


def share(every: Sequence[Artifact], project: str) -> Graph:
    """Leave out the artifacts of variants that equal those of the project in everything but name and folder.

    Parameters
    ----------
    every
        The artifacts of the project, then those of its variants, each after its dependencies.
    project
        The name of the project.
    """
    originals = {(a.stage, a.scene): a for a in every if a.project == project}
    artifacts: list[Artifact] = []
    same: dict[str, str] = {}
    for artifact in every:
        if artifact.project.partition("/")[0] != project or artifact.project == project:
            artifacts.append(artifact)
            continue
        inputs = tuple(
            replace(item, artifact=same.get(item.artifact, item.artifact)) if isinstance(item, Product) else item
            for item in artifact.inputs
        )
        original = originals.get((artifact.stage, artifact.scene))
        if original is not None and original == replace(
            artifact,
            name=original.name,
            project=original.project,
            folder=original.folder,
            rename=original.rename,
            live=original.live,
            inputs=inputs,
        ):
            same[artifact.name] = original.name
        else:
            artifacts.append(replace(artifact, inputs=inputs))
    return Graph(artifacts, same)
