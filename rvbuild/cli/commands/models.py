"""The command `models`: what `model` and `encoder` of `[train]` can name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rvbuild.cli.report import print_json, size_text
from rvbuild.cli.terminal import echo
from rvbuild.errors import RvbuildError, UsageError, counted, nearest
from rvbuild.project.networks import EXTRA, TIMM
from rvbuild.project.networks.listing import Named, Weights, listed

_OF_FILE = "licence of the file"


def models(pattern: str, as_json: bool) -> int:
    """Print the names that match a pattern: parameters, pretrained weights with licence and size, and bands.

    Weights that are on this machine are marked, also files that projects of the workspace name.
    """
    names = _with_files(listed(pattern))
    if as_json:
        print_json({"models": [asdict(named) for named in names]}, indent=2)
        return 0
    if not names:
        hint = _nearest(pattern) or "; expected a part of a name, or a pattern such as timm/res*"
        raise UsageError(f"models {pattern}: no name matches{hint}")
    shown = names if pattern else [named for named in names if not named.name.startswith(TIMM)]
    width = max(len(named.name) for named in shown)
    for named in shown:
        echo(f"{named.name:{width}}  {_size(named)}  {', '.join(named.uses)}{_weights(named)}")
    if len(shown) < len(names):
        hidden = counted(len(names) - len(shown), "network")
        echo(f"and {hidden} of timm ({EXTRA}): `rvbuild models timm/` lists all, `rvbuild models convnext` some")
    return 0


def _size(named: Named) -> str:
    return f"{named.parameters / 1e6:7.1f} M" if named.parameters is not None else " " * 9


def _weights(named: Named) -> str:
    if not named.weights:
        return "; no weights of its own"
    bands = f" for {', '.join(named.bands)}" if named.bands else ""
    return f"; weights{bands}: {', '.join(map(_described, named.weights))}"


def _described(weights: Weights) -> str:
    size = ("" if weights.exact else "about ") + size_text(weights.size)
    return f"{weights.name} ({weights.licence}, {size}{', here' if weights.here is not None else ''})"


def _with_files(names: Sequence[Named]) -> list[Named]:
    """Return names with the files of weights that the projects of the workspace start them from."""
    files: dict[str, list[Weights]] = {}
    for model, path in _files_of_projects():
        there = path.is_file()
        weights = Weights(str(path), _OF_FILE, path.stat().st_size if there else 0, there, str(path) if there else None)
        files.setdefault(model, []).append(weights)
    return [replace(named, weights=(*named.weights, *files.get(named.name, ()))) for named in names]


def _files_of_projects() -> list[tuple[str, Path]]:
    """Return the networks of projects that start from a file, with the file; projects with mistakes have none."""
    from rvbuild.session.projects import load_available

    if not Path("projects").is_dir():
        return []
    try:
        projects = load_available((), (), lambda line: None)
    except RvbuildError:
        return []
    found = []
    for project in projects:
        train = project.train
        if train.weights is not None and train.bundle is None:
            settings = train.stage_settings()
            name = str(settings["model_args"].get("encoder", settings["model"])).split(".")[0]
            found.append((name, project.workspace / train.weights))
    return sorted(set(found))


def _nearest(pattern: str) -> str:
    names = [named.name for named in listed()]
    return nearest(pattern, [*names, *(name.rpartition("/")[2] for name in names)])
