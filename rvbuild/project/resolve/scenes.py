"""The scenes of a project, each with the settings of `[scene]` and of its own table, and with expanded paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rvbuild.project.model import (
    BoxFileLabels,
    ImageSource,
    LayeredLabels,
    RasterLabels,
    Scene,
    VectorLabels,
    Written,
)
from rvbuild.project.resolve.checks import check_scenes
from rvbuild.project.resolve.paths import Paths
from rvbuild.project.scenes.box_files import BoxFileTable
from rvbuild.project.scenes.image import ImageTable
from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable, background, joined
from rvbuild.project.scenes.scene import SceneTable
from rvbuild.project.scenes.splits import Placed, placed
from rvbuild.project.scenes.stac import AssetError, StacError, StacReader, layout
from rvbuild.project.scenes.vectors import areas
from rvbuild.project.schema import ProjectFile
from rvbuild.project.tables.chip import ChipTable
from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.problems import Problems
from rvbuild.settings.area import AoiPartSettings


class Scenes:
    """Resolves scenes, and reports their problems.

    Parameters
    ----------
    file
        The validated file.
    paths
        Expands its paths.
    problems
        Receives the problems.
    workspace
        The base of relative paths.
    class_names
        The names of all classes, in the order of their ids.
    """

    def __init__(
        self, file: ProjectFile, paths: Paths, problems: Problems, workspace: Path, class_names: tuple[str, ...]
    ) -> None:
        self.file = file
        self.paths = paths
        self.problems = problems
        self.workspace = workspace
        self.class_names = class_names
        self._stac = StacReader()
        self._unreadable: dict[Key, bool] = {}
        self._image_texts: dict[int, tuple[str, ...]] = {}

    @property
    def reads(self) -> Mapping[str, tuple[int, int, int, int] | str | None]:
        """The files read besides the project file: STAC items; see `Project.reads`."""
        return self._stac.reads

    def resolve(self) -> tuple[Scene, ...]:
        """Return all scenes; missing parts are reported."""
        places = placed(self.file.scenes, self.file.project.seed)
        scenes = [self._scene(place) for place in places]
        # A problem of a scene is reported once, not for each of its parts.
        whole = {place.key: scene for place, scene in reversed([*zip(places, scenes, strict=True)])}
        check_scenes(self.file, self.problems, list(reversed(whole.values())), list(reversed(whole)))
        return tuple(scenes)

    def _scene(self, item: Placed) -> Scene:
        """Return one scene: `[scene]`, overridden by `by_id`."""
        id_ = item.base
        image = self._image(id_)
        channels = self.source(id_, "channels")[0].channels
        aoi, aoi_parts = self._aoi(id_)
        return Scene(
            id=item.id,
            split=item.split,
            image=image,
            channels=channels,
            labels=self._labels(id_, image.files),
            aoi=aoi,
            aoi_parts=aoi_parts,
            base=id_,
            blocks=item.blocks,
            chip=self._chip(id_),
            key=item.key,
        )

    def _aoi(self, id_: str) -> tuple[tuple[str, ...], tuple[AoiPartSettings, ...]]:
        """Return the files of the area of interest of a scene, and the settings of its tables, if they have any."""
        table, at = self.source(id_, "aoi")
        if not table.aoi:
            return (), ()
        files = self.paths.files(id_, "aoi", tuple(text for area in areas(table.aoi) for text in area.vector), at)
        parts: list[AoiPartSettings] = [
            {"files": len(area.vector), **area.stage_settings()} for area in areas(table.aoi)
        ]
        return files, tuple(parts) if any(len(part) > 1 for part in parts) else ()

    def _chip(self, id_: str) -> ChipTable | None:
        """Return the chip settings of a scene, if it has its own."""
        override = self.file.scenes.by_id.get(id_)
        return None if override is None or override.chip is None else override.chip.laid_over(self.file.chip)

    def _image(self, id_: str) -> ImageSource:
        """Return the imagery of a scene; STAC items are read, because they determine its files."""
        table, at = self.source(id_, "image")
        image = table.image
        if image is None or image.stac is None:
            return ImageSource(self.paths.files(id_, "image", self._texts(image), at), image)
        (path,) = self.paths.expand((image.stac,), at, "image", id_)
        key: Key = (*at, "image", "stac")
        # A problem with the items of one scene does not affect the next scene.
        if self._unreadable.setdefault(key, self.problems.touch(*key)):
            return ImageSource((path,), image)
        try:
            items = self._stac.items(self.workspace, path, image.assets)
        except StacError as error:
            if isinstance(error, AssetError) and image.assets is not None:
                key = (*at, "image", "assets")
            self.problems.add(key, f"{path}: {error}")
            return ImageSource((path,), image)
        files, stack = layout(items, image.reduce, image.primary, image.layer())
        self.paths.written[id_, "image"] = (Written(self.problems.places.where(key), image.stac),) * len(files)
        return ImageSource(files, image, stack)

    def _texts(self, image: ImageTable | None) -> tuple[str, ...]:
        """Return the paths of an image as written; cached, since scenes without an override share the table."""
        if id(image) not in self._image_texts:
            self._image_texts[id(image)] = () if image is None else tuple(text for _, text in image.paths())
        return self._image_texts[id(image)]

    def _labels(
        self, id_: str, image: tuple[str, ...]
    ) -> RasterLabels | VectorLabels | LayeredLabels | BoxFileLabels | None:
        """Return the labels of a scene, or None if it has none."""
        table, at = self.source(id_, "labels")
        labels = table.labels
        if isinstance(labels, RasterLabelsTable):
            return RasterLabels(self.paths.files(id_, "labels", labels.raster, at), labels)
        if isinstance(labels, BoxFileTable):
            files = self.paths.files(id_, "labels", labels.paths, at)
            return BoxFileLabels(files, labels, image[0] if image else "", self._origin(id_))
        if isinstance(labels, VectorLabelsTable):
            return VectorLabels(self.paths.files(id_, "labels", labels.vector, at), labels, self.class_names)
        if isinstance(labels, tuple):
            files = self.paths.files(id_, "labels", tuple(text for part in labels for text in part.paths), at)
            vectors = tuple(part for part in labels if isinstance(part, VectorLabelsTable))
            if len(vectors) == len(labels):
                return VectorLabels(
                    files, joined(vectors), self.class_names, tuple((len(part.vector), part) for part in vectors)
                )
            parts = tuple((len(part.paths), part) for part in labels)
            return LayeredLabels(files, parts, background(labels), self.class_names)
        return None

    def _origin(self, id_: str) -> tuple[int, int] | None:
        """Return the origin of a scene in its image, for labels in pixels of the whole image."""
        table, at = self.source(id_, "image")
        if table.image is None or table.image.bbox_px is None:
            if table.image is not None and table.image.bbox_units is not None:
                message = (
                    'the labels count the pixels of the whole image; say with "bbox_px" which of them are the scene'
                )
                self.problems.add((*at, "image", "bbox_units"), message)
            return None
        return table.image.bbox_px[:2]

    def source(self, id_: str, field: str) -> tuple[SceneTable, Key]:
        """Return the table that a field of a scene comes from, and the key of that table."""
        override = self.file.scenes.by_id.get(id_)
        if override is not None and override.is_set(field):
            return override, ("scenes", "by_id", id_)
        return self.file.scene, ("scene",)
