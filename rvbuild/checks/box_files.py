"""Comparison of the images that box files name with the images of their scenes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rvbuild.checks.findings import Finding, Level
from rvbuild.geo.vector.box_images import Listed, common_parts, parts_of
from rvbuild.project.model import Scene


def named_otherwise(
    boxes: Sequence[tuple[Path, Listed]], settings: Mapping[str, Any], images: Sequence[Path]
) -> Iterator[str]:
    """Yield a message for each box file whose image has a different name than that of the scene.

    Parameters
    ----------
    boxes
        Each box file, and the image of its boxes.
    settings
        The settings of the labels; an `image` in them is accepted, whatever its name.
    images
        The files of the scene's image; suffixes are ignored.
    """
    stems = {path.stem.casefold() for path in images}
    for path, listed in boxes:
        name = parts_of(listed.name)[-1]
        if listed.name and not settings.get("image") and Path(name).stem.casefold() not in stems:
            yield (
                f'{path}: holds boxes of the image "{listed.name}", but the image of the scene is {images[0]}. Does '
                "the file belong to this scene?"
            )


def used_twice(scenes: Sequence[Scene], facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield a finding for each scene whose boxes are also used for another image.

    Parameters
    ----------
    scenes
        The scenes of the project.
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
        reported: set[str] = set()
        for first, second in combinations(by_image.values(), 2):
            near, far = sorted((first, second), key=lambda scene: -_matching_parts(scene, name))
            if far.id in reported:
                continue
            reported.add(far.id)
            text = f'{path}: the boxes of "{name}" are used for this scene ({far.image.files[0]}) and for scene '
            text += f"{near.id} ({near.image.files[0]}). "
            if _matching_parts(near, name) > _matching_parts(far, name):
                text += "By its folders, the name refers to the latter. "
            advice = "For each scene, set `image` in `labels` to the name that its image has in the file"
            yield Finding(Level.ERROR, "boxes of another image", text + advice, far.id, "labels")


def _matching_parts(scene: Scene, name: str) -> int:
    """Return the number of trailing parts of a scene's image path that match a name."""
    return common_parts(scene.image.files[0], name)
