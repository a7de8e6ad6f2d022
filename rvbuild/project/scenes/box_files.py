"""Labels as box files: COCO JSON, Pascal VOC XML and CSV, whose boxes are in pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, TypeAlias

from pydantic import Field, Tag

from rvbuild.files.formats import BoxFormat
from rvbuild.project.toml.table import Context, Finding, SomePaths, Table, no_effect
from rvbuild.settings.labels import BoxFileSettings


class BoxFileTable(Table):
    """Labels as boxes in the pixels of the image."""

    kind: ClassVar[BoxFormat]

    class_: str | None = Field(None, alias="class", description="Class of all boxes, whatever the file calls them.")
    class_map: dict[str, str] | None = Field(
        None,
        description="Name in the file, or the id of a category without a name → class name. Default: the names in the "
        "file are those of the classes.",
    )
    unknown: str = Field(
        "error",
        description="How to treat boxes whose name is not a class: error, drop (leave them out), or the name of a "
        "class.",
    )

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths, in their original form."""
        paths: tuple[str, ...] = getattr(self, self.kind)
        return paths

    def check(self, context: Context) -> Iterator[Finding]:
        """Find unknown classes, and keys that exclude each other."""
        options = [(("unknown",), self.unknown, ("error", "drop")), (("class",), self.class_, ())]
        options += [(("class_map", value), name, ()) for value, name in (self.class_map or {}).items()]  # type: ignore[misc]
        for key, name, also in options:
            if name is not None and (problem := context.class_problem(name, also=also)):
                yield Finding(key, problem)
        if self.class_map == {}:
            yield Finding(("class_map",), "the table is empty")
        if self.class_ is not None:
            for field in ("class_map", "unknown"):
                if self.is_set(field):
                    yield no_effect(field, 'with "class", which all boxes get', "class")

    def settings(self, scene_image: str) -> BoxFileSettings:
        """Return the settings of stages, without the paths.

        Parameters
        ----------
        scene_image
            The path of the scene's image file, which identifies its boxes if no name is given.
        """
        image, scene_image_path = self._image(scene_image)
        return {
            "kind": self.kind,
            "class": self.class_,
            "class_map": self.class_map,
            "unknown": self.unknown,
            "image": image,
            "scene_image": scene_image_path,
        }

    def _image(self, scene_image: str) -> tuple[str | None, str | None]:
        """Return the settings `image` and `scene_image`."""
        image: str | None = getattr(self, "image", None)
        return image, None if image else scene_image


_IMAGE = (
    "Name of the scene's image in the file, with as many of its folders as make it unique. Default: the name of the "
    "scene's image file, or the only image in the file."
)


class CocoTable(BoxFileTable):
    """Labels as COCO JSON."""

    kind = "coco"

    coco: SomePaths = Field(description="One or more COCO JSON files.")
    image: str | None = Field(None, description=_IMAGE)


class VocTable(BoxFileTable):
    """Labels as Pascal VOC XML."""

    kind = "voc"

    voc: SomePaths = Field(description="One or more Pascal VOC XML files of the image.")

    def _image(self, scene_image: str) -> tuple[str | None, str | None]:
        # The file is about one image.
        return None, None


class CsvTable(BoxFileTable):
    """Labels as CSV."""

    kind = "csv"

    csv: SomePaths = Field(
        description="CSV with the columns image_path, xmin, ymin, xmax, ymax and label, as written by DeepForest."
    )
    image: str | None = Field(None, description=_IMAGE)


AnyBoxFileTable: TypeAlias = (
    Annotated[CocoTable, Tag("<coco>")] | Annotated[VocTable, Tag("<voc>")] | Annotated[CsvTable, Tag("<csv>")]
)
"""The tables with their tags in `rvbuild.project.scenes.labels.AnyLabelsTable`."""

TABLES: dict[str, type[BoxFileTable]] = {table.kind: table for table in (CocoTable, VocTable, CsvTable)}
"""The tables by the key that names their files."""
