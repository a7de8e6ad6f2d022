"""The images in a box file, and the one that belongs to a scene: by name, and by common folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rvbuild.errors import DataError, nearest
from rvbuild.settings.labels import BoxImageSettings


class Listed(NamedTuple):
    """An image as a box file describes it."""

    name: str
    """Its name, mostly a path."""
    size: tuple[int, int] | None = None
    """Its width and height in pixels; None if the file does not say."""


def choose(path: Path, images: Sequence[Listed], settings: BoxImageSettings) -> int | None:
    """Return the position of the image whose boxes are wanted; None for all boxes.

    Parameters
    ----------
    path
        The box file, for messages.
    images
        The images in the file; empty if it names none.
    settings
        `image`: the name of the image in the file, as far as it tells it from others, or None for `scene_image`, the
        path of the scene's image file. Of several images with its name, the one that shares most folders with it is
        meant. A file about one image alone is about the scene, whatever it calls it.

    Raises
    ------
    DataError
        No image is called so, or several are.
    """
    given = settings.get("image")
    wanted = given or settings.get("scene_image")
    if not images or not wanted:
        return None
    ranks = [_rank(str(wanted), image.name) for image in images]
    best = max(ranks)
    alike = [place for place, rank in enumerate(ranks) if rank == best]
    # A name that is given is all of the name, or the end of it.
    known = best.within if given else best.parts > 0
    if known and len(alike) == 1:
        return alike[0]
    if known:
        names = sorted({images[place].name for place in alike})
        if len(names) == 1:
            raise DataError(
                f'{path}: lists {len(alike)} images "{names[0]}", so boxes cannot be assigned to them; give the images '
                "names, or folders, that tell them apart"
            )
        raise DataError(
            f'{path}: {len(alike)} of its images could be "{wanted}": {_some(names)}. Choose one with '
            "`image` in `labels`"
        )
    if given is None and len(images) == 1:
        return 0
    names = [image.name for image in images]
    hint = nearest(str(wanted), names)
    listed = f"{hint} It has" if hint else "; it has"
    raise DataError(
        f'{path}: has no image "{wanted}"{listed} {_some(names)}. Set `image` in `labels` to the name of the image in '
        "the file"
    )


class _Rank(NamedTuple):
    """How well two paths agree: the best is the largest."""

    parts: int
    """How many of their last parts are the same."""
    within: bool
    """Whether one is the end of the other."""
    same: bool


def _rank(wanted: str, name: str) -> _Rank:
    one, other = parts_of(wanted), parts_of(name)
    parts = common_parts(wanted, name)
    return _Rank(parts, parts == min(len(one), len(other)), one == other)


def common_parts(one: str, other: str) -> int:
    r"""Return how many of the last parts of two paths are the same: the file's name, its folder, and so on.

    >>> common_parts("data/a/image.tif", r"C:\photos\a\image.tif")
    2
    """
    count = 0
    for mine, theirs in zip(reversed(parts_of(one)), reversed(parts_of(other)), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def parts_of(path: str) -> list[str]:
    """Return the parts of a path that Windows or another system wrote, at least one."""
    return [part for part in re.split(r"[/\\]", path) if part not in ("", ".")] or [path]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown}, … ({len(names)} images)" if len(names) > 3 else shown
