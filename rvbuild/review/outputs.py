"""What a review shows to users: the table of suspects, a project of QGIS, pictures and a page."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rvbuild.errors import DataError
from rvbuild.geo.classes import Classes
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.open import SceneImage, open_scene_image
from rvbuild.geo.vector.files import layer_of
from rvbuild.geo.write.overview import step_of, write_jpeg
from rvbuild.geo.write.picture import Stretch, stretch_of
from rvbuild.review.current import CurrentLabels, raster_parts, vector_files
from rvbuild.review.labels import LabelObject
from rvbuild.review.page import PAGE, write_page
from rvbuild.review.pictures import picture, shown_window
from rvbuild.review.qgis import PROJECT, ProjectLayer, write_project
from rvbuild.review.shapes import area_of
from rvbuild.review.suspect import Suspect, order
from rvbuild.review.table import Row, crs_of, placed, write_table
from rvbuild.review.verdicts import Decision
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.labels import LabelSettings

THUMBNAILS = "thumbnails"

MOST_PICTURES = 200
"""Number of suspects with a picture."""

MOST_SCENES = 100
"""Number of scenes in the project of QGIS: those with the most probable suspects."""

_SAMPLE_PX = 720
"""Sides of the sample of a scene that decides over its brightness in pictures."""


@dataclass(frozen=True)
class ReviewedScene:
    """A scene with labels."""

    id: str
    image_files: Sequence[Path]
    image: SceneImageSettings
    label_files: Sequence[Path]
    label_names: Sequence[str]
    """The label files as the project names them."""
    labels: LabelSettings
    predicted: Path | None = None
    """A raster of predicted class ids on the grid of the image, if there is one."""


def write_review(
    folder: Path,
    suspects: Sequence[Suspect],
    scenes: Mapping[str, ReviewedScene],
    *,
    name: str,
    task: str,
    classes: Classes,
    null_id: int,
) -> dict[str, Decision]:
    """Write the files of a review; return what users have decided about each suspect, by its id.

    Parameters
    ----------
    folder
        Is created; verdicts of an earlier review in it are kept.
    suspects
        The suspects.
    scenes
        The scenes that they are in, by id.
    name
        Of the project.
    task, classes, null_id
        Of the project.

    Raises
    ------
    DataError
        Images or labels cannot be read, or another program locks the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    require_no_links(folder)
    ranked = sorted(suspects, key=order)
    pictured = {suspect.id for suspect in ranked[:MOST_PICTURES]}
    thumbnails, fresh = folder / THUMBNAILS, folder / f".{THUMBNAILS}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    rows: dict[str, Row] = {}
    grids: dict[str, Grid] = {}
    layers: dict[str, list[ProjectLayer]] = {}
    for scene_id in dict.fromkeys(suspect.scene for suspect in ranked):
        scene = scenes[scene_id]
        mine = [suspect for suspect in ranked if suspect.scene == scene_id]
        with open_scene_image(scene.image_files, scene.image) as image:
            grids[scene_id] = image.grid
            current = CurrentLabels(task, scene.label_files, scene.labels, image.grid, classes, null_id)
            rows |= {suspect.id: _row(suspect, scene, current) for suspect in mine}
            shown = [suspect for suspect in mine if suspect.id in pictured]
            stretch = _stretch(image) if shown else None
            for suspect in shown:
                near = current.near(shown_window(suspect))
                panels = picture(suspect, image, stretch, classes, near, scene.predicted)
                write_jpeg(fresh / f"{suspect.id}.jpg", panels)
            if len(layers) < MOST_SCENES:
                layers[scene_id] = _layers(scene, image.grid)
    ordered = [rows[suspect.id] for suspect in ranked]
    decided = write_table(folder, ordered)
    shutil.rmtree(thumbnails, ignore_errors=True)
    fresh.rename(thumbnails)
    title = f"Review of {name}"
    crs = crs_of(row.grid for row in ordered)
    chosen = [layer for of_scene in layers.values() for layer in of_scene]
    # Labels above images.
    chosen.sort(key=lambda layer: layer.kind == "image")
    write_project(folder / PROJECT, title, chosen, classes, crs, _extent(ordered))
    pictures = {path.stem: path for path in thumbnails.iterdir()}
    write_page(folder / PAGE, title, ordered, decided, pictures, classes)
    return decided


def require_no_links(folder: Path) -> None:
    """Refuse a folder that leads elsewhere: nothing outside of it may be written.

    Raises
    ------
    DataError
        It is a link, or holds one.
    """
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise DataError(f"{path}: is a link, through which nothing is written; remove it")


def _row(suspect: Suspect, scene: ReviewedScene, current: CurrentLabels) -> Row:
    if suspect.source is None:
        return Row(suspect, current.grid)
    label = current.by_source.get(suspect.source) if suspect.source.place is not None else None
    if suspect.source.place is not None and not _is_about(suspect, label, current):
        raise DataError(
            f"scene {scene.id}: its labels have changed while they were reviewed; run `rvbuild review` again"
        )
    return Row(
        suspect,
        current.grid,
        scene.label_names[suspect.source.file],
        None if label is None or label.origin is None else label.origin.layer,
        None if label is None else label.feature,
        current.digest(suspect.source, suspect.polygon),
    )


def _is_about(suspect: Suspect, label: LabelObject | None, current: CurrentLabels) -> bool:
    """Tell whether a label is the one that a suspect is about."""
    return (
        label is not None
        and current.classes[label.class_id]["name"] == suspect.label_class
        and bool(label.shape.intersects(area_of(suspect.polygon)))
    )


def _stretch(image: SceneImage) -> Stretch:
    if image.dtype == np.uint8:
        return None
    return stretch_of(*image.read_sample(image.grid.window, step_of(image.grid, _SAMPLE_PX)))


def _layers(scene: ReviewedScene, grid: Grid) -> list[ProjectLayer]:
    """Return the files of a scene that QGIS can show: box files have no place on a map."""
    layers = [ProjectLayer(f"{scene.id}: {path.name}", path, "image", grid.crs) for path in scene.image_files]
    for path in (file for part in raster_parts(scene.label_files, scene.labels) for file in part.files):
        layers.append(ProjectLayer(f"{scene.id}: {path.name}", path, "label raster", grid.crs))
    for path, settings in vector_files(scene.label_files, scene.labels):
        layer, crs = layer_of(path, settings["layer"])
        layers.append(ProjectLayer(f"{scene.id}: {path.name}", path, "label vector", crs, layer))
    return layers


def _extent(rows: Sequence[Row]) -> tuple[float, float, float, float] | None:
    """Return the bounds of what is suspected, with some margin."""
    crs = crs_of(row.grid for row in rows)
    boxes = [placed(area_of(row.suspect.polygon), row.grid, crs).bounds for row in rows]
    if not boxes:
        return None
    x0, y0 = (min(box[axis] for box in boxes) for axis in (0, 1))
    x1, y1 = (max(box[axis] for box in boxes) for axis in (2, 3))
    margin = 0.05 * max(x1 - x0, y1 - y0)
    return (x0 - margin, y0 - margin, x1 + margin, y1 + margin)
