"""Compares the images that box files name with the images of their scenes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rvbuild.checks.findings import Finding, Level
from rvbuild.geo.vector.box_images import Listed, common_parts, parts_of
from rvbuild.project.model import Scene


def made_for_another(
    said: Sequence[tuple[Path, Listed]], how: Mapping[str, Any], images: Sequence[Path]
) -> Iterator[str]:
    """Yield a message for each box file whose image has a different name than that of the scene.

    Parameters
    ----------
    said
        Each box file, and the image of its boxes.
    how
        The settings of the labels; an `image` in them is accepted, whatever its name.
    images
        The files of the scene's image; suffixes are ignored.
    """
    stems = {path.stem.casefold() for path in images}
    for path, listed in said:
        name = parts_of(listed.name)[-1]
        if listed.name and not how.get("image") and Path(name).stem.casefold() not in stems:
            yield (
                f'{path}: holds boxes of the image "{listed.name}", but the image of the scene is {images[0]}. Does '
                "the file belong to this scene?"
            )


def taken_twice(scenes: Sequence[Scene], facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield a finding for each scene whose boxes are also used for another image.

    Parameters
    ----------
    scenes
        Of the project.
    facts
        Scene id → its facts: `boxes_of`, [box file, name of the image in it] of each box file for which the project
        does not name the image.
    """
    users: defaultdict[tuple[str, str], dict[tuple[str, ...], Scene]] = defaultdict(dict)
    for scene in scenes:
        for path, name in facts[scene.id].get("boxes_of", ()):
            # Parts of one scene, and scenes with the same image, share boxes.
            users[path, name].setdefault(scene.image.files, scene)
    for (path, name), by_image in users.items():
        told: set[str] = set()
        for one, other in combinations(by_image.values(), 2):
            near, far = sorted((one, other), key=lambda scene: -_known(scene, name))
            if far.id in told:
                continue
            told.add(far.id)
            text = f'{path}: the boxes of "{name}" are used for this scene ({far.image.files[0]}) and for scene '
            text += f"{near.id} ({near.image.files[0]}). "
            if _known(near, name) > _known(far, name):
                text += "By its folders, the name refers to the latter. "
            advice = "For each scene, set `image` in `labels` to the name that its image has in the file"
            yield Finding(Level.ERROR, "boxes of another image", text + advice, far.id, "labels")


def _known(scene: Scene, name: str) -> int:
    """Return how many of the last parts of a scene's image path match a name."""
    return common_parts(scene.image.files[0], name)
