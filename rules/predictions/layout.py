"""The strips of scenes: which rows of a large scene are predicted together, as an artifact of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rvbuild.rules.common import Artifact, Product, Project, Scene, folder, name, size
from rvbuild.stages.window_rows import WindowRows

if TYPE_CHECKING:
    from rvbuild.settings.predict import BlendSettings

STAGE = "strips"


def has_area(scene: Scene) -> bool:
    """Tell whether only a part of a scene counts."""
    return bool(scene.aoi) or scene.blocks is not None


def strips_of(project: Project, scene: Scene) -> list[tuple[int, int]]:
    """Return the first row of each strip of a scene, and the one after its last; empty if it is predicted at once."""

    def group(width: int) -> int:
        # Whole groups of rows of windows, so that as few windows as possible are predicted twice.
        predict: BlendSettings = project.predict.stage_settings()
        return WindowRows.of(width, (project.chip_px, predict["stride_px"]), predict["batch_size"]).group_px

    return cut(project, scene, project.predict.strip_px, group)


def cut(project: Project, scene: Scene, most_px: int | None, multiple: Callable[[int], int]) -> list[tuple[int, int]]:
    """Return the first row of each strip, and the one after its last; empty if a scene is not cut.

    Parameters
    ----------
    most_px
        Larger scenes are cut, into strips of about so many pixels; None: no scene.
    multiple
        Returns, for the width of a scene, what the number of rows of a strip is a multiple of.
    """
    if most_px is None or (shape := size(project, scene)) is None:
        return []
    height, width = shape
    if height * width <= most_px:
        return []
    rows = multiple(width)
    step = max(1, most_px // (width * rows)) * rows
    return [(first, min(height, first + step)) for first in range(0, height, step)]


def strip(scene: Scene, number: int) -> str:
    """Return the name of a strip, in place of a scene's."""
    return f"{scene.id}#{number}"


def area_of_strip(project: Project, scene: Scene, number: int) -> Product | None:
    """Return the area of interest in a strip as an input."""
    return Product("area", name(STAGE, project.name, scene.id), (f"{number}.tif",)) if has_area(scene) else None


def joined(stage: str, project: Project, scene: Scene, strips: Sequence[tuple[int, int]]) -> tuple[Product, ...]:
    """Return strips of a stage's own as inputs that are in no key: they follow from the other inputs."""
    names = [name(stage, project.name, strip(scene, number)) for number in range(len(strips))]
    return tuple(Product(f"strips/{number}", each, in_key=False) for number, each in enumerate(names))


def hints(strips: Sequence[tuple[int, int]]) -> dict[str, Mapping[str, object]]:
    """Return how a scene was cut, as a hint for the stage that joins the strips."""
    return {"strips": {"rows": [list(rows) for rows in strips]}} if strips else {}


def in_strips(
    whole: Artifact,
    project: Project,
    scene: Scene,
    strips: Sequence[tuple[int, int]],
    settings_of: Callable[[list[int]], Mapping[str, object]],
    runs: tuple[str, str],
    writes: tuple[str, ...],
) -> Iterator[Artifact]:
    """Yield the artifacts of the strips of a scene, and that of the scene, which joins them.

    Parameters
    ----------
    whole
        The artifact of a scene that is not cut.
    strips
        As `cut` returns them; if there are none, it is `whole` alone.
    settings_of
        Returns the settings of a strip, given its `rows`.
    runs
        What makes a strip, and what joins them.
    writes
        The files of a strip.
    """
    for number, rows in enumerate(strips):
        yield replace(
            whole,
            name=name(whole.stage, project.name, strip(scene, number)),
            scene=strip(scene, number),
            run=runs[0],
            settings=settings_of(list(rows)),
            folder=folder(project, STAGE, scene.id, f"{whole.stage}-{number}"),
            rename={},
            writes=writes,
        )
    if strips:
        inputs = (*whole.inputs, *joined(whole.stage, project, scene, strips))
        whole = replace(whole, run=runs[1], inputs=inputs, hints=hints(strips))
    yield whole


def parts(project: Project, scene: Scene, strips: Sequence[tuple[int, int]]) -> tuple[Product, ...]:
    """Return the predicted strips of a scene as inputs that are in no key: they follow from the other inputs."""
    predicted = joined(STAGE, project, scene, strips)
    if strips and has_area(scene):
        return (*predicted, Product("area", name(STAGE, project.name, scene.id), in_key=False))
    return predicted
