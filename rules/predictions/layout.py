"""The strips of scenes: which rows of a large scene are predicted together, as an artifact of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rvbuild.rules.common import Product, Project, Scene, name, size
from rvbuild.stages.window_rows import WindowRows

if TYPE_CHECKING:
    from rvbuild.settings.predict import BlendSettings

STAGE = "strips"


def has_area(scene: Scene) -> bool:
    """Tell whether only a part of a scene counts."""
    return bool(scene.aoi) or scene.blocks is not None


def strips_of(project: Project, scene: Scene) -> list[tuple[int, int]]:
    """Return the first row of each strip of a scene, and the one after its last; empty if it is predicted at once."""
    most_px = project.predict.strip_px
    if most_px is None or (shape := size(project, scene)) is None:
        return []
    height, width = shape
    if height * width <= most_px:
        return []
    predict: BlendSettings = project.predict.stage_settings()
    rows = WindowRows.of(width, (project.chip_px, predict["stride_px"]), predict["batch_size"])
    # Whole groups of rows of windows, so that as few windows as possible are predicted twice.
    step = max(1, most_px // (width * rows.group_px)) * rows.group_px
    return [(first, min(height, first + step)) for first in range(0, height, step)]


def strip(scene: Scene, number: int) -> str:
    """Return the name of a strip, in place of a scene's."""
    return f"{scene.id}#{number}"


def area_of_strip(project: Project, scene: Scene, number: int) -> Product | None:
    """Return the area of interest in a strip as an input."""
    return Product("area", name(STAGE, project.name, scene.id), (f"{number}.tif",)) if has_area(scene) else None


def parts(project: Project, scene: Scene, strips: Sequence[tuple[int, int]]) -> tuple[Product, ...]:
    """Return the predicted strips of a scene as inputs that are in no key: they follow from the other inputs."""
    names = [strip(scene, number) for number in range(len(strips))]
    cut = [Product(f"strips/{i}", name(STAGE, project.name, each), in_key=False) for i, each in enumerate(names)]
    if strips and has_area(scene):
        cut.append(Product("area", name(STAGE, project.name, scene.id), in_key=False))
    return tuple(cut)
