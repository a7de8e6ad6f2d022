"""The scenes that a bundle predicts: images with the names of their results, and the assets of STAC items."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rvbuild.errors import DataError, UsageError, counted
from rvbuild.files.urls import Url, to_path
from rvbuild.project.scenes.stac import StacError, assets_of, data_assets, hrefs_of, listed, roles_of
from rvbuild.session.predicting.inputs import Image, Item
from rvbuild.stages.bundle.results import Scene, grouped

_VISUAL = "visual"


def scenes(found: Sequence[Image | Item], files: int, layers: Sequence[str], assets: Sequence[str]) -> list[Scene]:
    """Return the scenes to predict, each once.

    Parameters
    ----------
    found
        The images and items that the user named.
    files
        The number of files of a scene.
    layers
        The names of the layers of a scene, if they have names.
    assets
        The assets of items to use; empty for the default.

    Raises
    ------
    UsageError
        With all problems: an item without such assets, images that cannot be layers of a stack, results that would
        share a directory.
    """
    problems: list[str] = []
    if assets and not any(isinstance(each, Item) for each in found):
        problems.append("--asset applies to STAC items, and there is none among the inputs")
    if assets and len(assets) != files:
        problems.append(f"the model needs {counted(files, 'file')} for each image, and --asset names {len(assets)}")
    made: list[Scene] = []
    layers_found: list[Image] = []
    for each in found:
        if isinstance(each, Image):
            layers_found.append(each)
            continue
        try:
            names = tuple(assets) or default_assets(each, files, layers)
            paths = tuple(to_path(href) for href in hrefs_of(each.content, names, each.where))
            made.append(Scene(each.name, paths))
            problems += [
                f"{each.where}: item {each.name!r}: no such file: {path}"
                for path in paths
                if not isinstance(path, Url) and not path.exists()
            ]
        except StacError as error:
            problems.append(f"{each.where}: {error}")
    made = [*_of_images(layers_found, files, problems), *made]
    problems += _shared(made)
    if problems:
        raise UsageError("\n".join(problems))
    return made


def default_assets(item: Item, files: int, layers: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the assets of an item that are predicted if the user names none.

    They are those that the layers of the model are called after; or else those with the role `data`, or whose type is a
    raster; and if these are several for a model of one file, the one that is called `data`, or that is `visual` by its
    role or name.

    Raises
    ------
    StacError
        None fit, or several.
    """
    there = assets_of(item.content)
    if files > 1 and len(layers) == files and all(name in there for name in layers):
        return tuple(layers)
    names = data_assets(item.content)
    if len(names) == files:
        return names
    if files == 1:
        by_role = [name for name, asset in there.items() if _VISUAL in roles_of(asset)]
        for chosen in ([name for name in there if name == "data"], by_role, [n for n in there if n == _VISUAL]):
            if len(chosen) == 1:
                return tuple(chosen)
    raise StacError(
        f"item {item.name!r} has several assets that could be predicted ({listed(names)}), and the model takes "
        f"{counted(files, 'file')}; choose with {' '.join(['--asset NAME'] * min(files, 2))}{' …' * (files > 2)}"
    )


def _of_images(images: Sequence[Image], files: int, problems: list[str]) -> list[Scene]:
    if files == 1:
        first: dict[str, Image] = {}
        for image in images:
            first.setdefault(str(image.path), image)
        return [Scene(image.name, (image.path,)) for image in first.values()]
    if any(not image.single for image in images):
        problems.append(
            f"the model takes stacks of {files} files, so folders and patterns do not say which files belong together; "
            "name the files of each image one after another, in a list (@list.txt) for example, or STAC items"
        )
        return []
    try:
        names = {str(image.path): image.name for image in images}
        return [Scene(names[str(paths[0])], paths) for paths in grouped([image.path for image in images], files)]
    except DataError as error:
        problems.append(str(error))
        return []


def _shared(made: Sequence[Scene]) -> list[str]:
    """Return a line for each pair of scenes whose results would be written to one directory."""
    lines = []
    seen: dict[str, Scene] = {}
    for scene in made:
        # Some file systems take "A" and "a" for the same.
        other = seen.setdefault(scene.name.casefold(), scene)
        if other is scene:
            continue
        first, second = other.files[0], scene.files[0]
        lines.append(f"{first} and {second}: both results would be called {scene.name}{_advice(first, second)}")
    return lines


def _advice(first: Path, second: Path) -> str:
    if isinstance(first, Url) or isinstance(second, Url) or first.parent == second.parent:
        return "; rename one, or give them names in a table (.csv with the columns image and name)"
    above = os.path.commonpath([first, second])
    return (
        f"; name a folder above both, such as {above}, or a pattern in quotes: results then lie as the images do. "
        "Or give them names in a table (.csv with the columns image and name)"
    )
