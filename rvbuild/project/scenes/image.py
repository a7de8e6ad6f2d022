"""The `image` of a scene: a path, a list of paths (one mosaic), or a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, Strict, Tag, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rvbuild.errors import nearest
from rvbuild.project.scenes import transforms
from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.table import (
    Context,
    Finding,
    OrString,
    SomePaths,
    SourceText,
    Table,
    by_type,
    duplicates,
    expected,
    no_effect,
    wrong,
)
from rvbuild.settings.image import ImageSettings, LayerDefaults, LayerSettings, Reduce, Resample, StackSettings
from rvbuild.settings.image import Nodata as NodataSettings
from rvbuild.settings.transforms import StatisticsStep

_NODATA = by_type(
    {int: "<number>", float: "<number>", list: "<bands>", tuple: "<bands>"},
    "a number, or a list with one number per band",
)

Nodata: TypeAlias = (
    Annotated[Annotated[float, Tag("<number>")] | Annotated[tuple[float, ...], Strict(False), Tag("<bands>")], _NODATA]
    | None
)


class LayerTable(Table):
    """One layer of a stack: a raster, or a mosaic of several rasters."""

    files: SomePaths = Field(description="The raster, or the rasters of one mosaic.")
    channels: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)] | None = Field(
        None, description="Bands of the layer to use, from 0. Default: every band that is not alpha."
    )
    nodata: Nodata = Field(None, description="Like nodata of the image. Default: nodata of the image.")
    resample: Resample | None = Field(
        None, description="How the layer is resampled to the grid of the primary. Default: resample of the image."
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """Find an empty list of channels."""
        if self.channels == ():
            yield Finding(("channels",), "the list is empty; name at least one band, or leave the key out to use all")


def _one_or_more(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return value or wrong("the list is empty")
    return expected("a path or a list of paths")


File: TypeAlias = Annotated[
    Annotated[SourceText, Tag("<path>")] | Annotated[LayerTable, Tag("<layer>")],
    by_type({str: "<path>", dict: "<layer>", LayerTable: "<layer>"}, "a path, or a table { files = … } in a stack"),
]
Files: TypeAlias = Annotated[
    tuple[File, ...],
    Strict(False),
    BeforeValidator(_one_or_more),
    OrString(),
]


def _four(value: object) -> object:
    if isinstance(value, list) and len(value) != 4:
        return wrong(f"expected four numbers [x min, y min, x max, y max], found {len(value)}")
    return value if isinstance(value, list) else expected("four numbers [x min, y min, x max, y max]")


_SOURCES = ("files", "stac")


class ImageTable(Table):
    """The imagery of a scene."""

    not_settings = (
        *("files", "stac", "assets", "stack", "reduce", "resample", "primary", "bbox_px", "bbox_units", "transform"),
    )  # these become layers, box and steps: see `stage_settings`
    omitted_defaults = ("alpha", "palette", "scale")

    later: ClassVar[dict[str, str]] = {
        "bbox": 'unknown key; a box is "bbox_px" in pixels, or "bbox_units" in units of the image\'s CRS',
    }

    files: Files | None = Field(
        None,
        description="The image, or the images of one mosaic; with stack, its layers, each a path or a table "
        "{ files, channels, nodata, resample }.",
    )
    stac: SourceText | None = Field(
        None,
        description="Instead of files: a STAC item, or an item collection, whose items are the parts of one mosaic, or "
        "the times of a stack with stack = time. Its links may be relative.",
    )
    assets: Annotated[tuple[str, ...], Strict(False)] | None = Field(
        None,
        description="With stac: the assets to read bands from, in this order. Default: those with the role data, or "
        "else all rasters.",
    )
    stack: Literal["bands", "time"] | None = Field(
        None,
        description="How several files are combined: bands, the bands of all files one after another, each resampled "
        "to the grid of the primary; time, the same bands at several times. Default: one mosaic.",
    )
    reduce: Reduce | None = Field(
        None,
        description="With stack = time, where it is required: how the times are combined: the median or mean of those "
        "that have data, pixel by pixel, or bands, one time after another.",
    )
    resample: Resample = Field(
        "bilinear", description="With stack: how layers on another grid or in another CRS are resampled."
    )
    primary: int = Field(0, ge=0, description="With stack: the layer, from 0, whose grid and extent the scene has.")
    bbox_px: Annotated[tuple[int, int, int, int], Strict(False), BeforeValidator(_four)] | None = Field(
        None,
        description="The part of the image to use, in pixels: [x min, y min, x max, y max], columns and rows from 0, "
        "the maxima excluded.",
    )
    bbox_units: Annotated[tuple[float, float, float, float], Strict(False), BeforeValidator(_four)] | None = Field(
        None,
        description="The part of the image to use, in units of its CRS: all pixels that lie at least partly in "
        "[x min, y min, x max, y max].",
    )
    nodata: Nodata = Field(
        None,
        description="Value of pixels without data, or one value per band; [] if every value is data, even if the file "
        "declares a nodata value. Default: the nodata value of the file. NaN always means no data.",
    )
    alpha: bool | None = Field(
        None,
        description="Whether a band that the file tags as alpha is the mask of valid pixels and not an image band. "
        "Default: true if nearly all of its values are transparent or opaque.",
    )
    palette: bool | None = Field(
        None,
        description="Whether a file with a colour table is read as its colours: three bands, red, green and blue. "
        "Default: the stored values, with a warning.",
    )
    scale: bool | None = Field(
        None,
        description="Whether values are read as value × scale + offset, as declared in the file, as real numbers. "
        "Default: the stored values, with a warning where scenes differ.",
    )
    transform: Annotated[tuple[transforms.Transform, ...], Strict(False)] = Field(
        (),
        description="Transforms of the pixels, in order: tables with kind = "
        f'{", ".join(transforms.KINDS)}; or a name such as "min_max", or package.module:function.',
    )

    @model_validator(mode="before")
    @classmethod
    def _from_paths(cls, value: Any) -> Any:
        """Take a bare path or list of paths for a table."""
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return wrong(
                "expected an image, found a list of tables; for a stack, write { files = [{ … }, { … }], stack = "
                '"bands" }'
            )
        if isinstance(value, str | list):
            return {"files": value}
        if isinstance(value, dict) and not any(key in _SOURCES or nearest(key, _SOURCES) for key in value):
            return wrong('the table has neither "files" (an image, the images of one mosaic, or a stack) nor "stac"')
        return value if isinstance(value, dict) else expected("a path, a list of paths or a table")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Also offer the short forms to editors."""
        bare = [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
        return {"anyOf": [*bare, handler(schema)]}

    def check(self, context: Context) -> Iterator[Finding]:
        """Find keys that do not go together."""
        yield from self._check_stac()
        yield from self._check_stack()
        yield from self._check_box()
        yield from transforms.check_order(self.transform)
        if self.stac is None or self.assets is not None:
            yield from transforms.check_names(self.transform, self.assets or ())

    def _check_stac(self) -> Iterator[Finding]:
        if self.files is not None and self.stac is not None:
            yield Finding(("stac",), 'expected either "files" or "stac", found both', (("files",),))
        if self.stac is None:
            if self.assets is not None:
                yield no_effect("assets", 'without "stac"', "stac")
            return
        if self.assets == ():
            yield Finding(("assets",), "the list is empty; name at least one asset, or leave the key out")
        yield from duplicates(self.assets or (), "assets")
        if self.assets and self.primary >= len(self.assets):
            message = f"there is no asset {self.primary}; the assets are 0 to {len(self.assets) - 1}"
            yield Finding(("primary",), message, (("assets",),))

    def _check_stack(self) -> Iterator[Finding]:
        if self.stac is not None:
            yield from self._check_reduce()
            return
        layers = len(self.files or ())
        if self.stack is None:
            for key in ("reduce", "resample", "primary"):
                if self.is_set(key):
                    yield no_effect(key, 'without "stack"; files that are not stacked make one mosaic', "stack")
            for number, file in enumerate(self.files or ()):
                if isinstance(file, LayerTable):
                    yield Finding(
                        ("files", number), 'only a stack has tables as layers; set stack = "bands"', (("stack",),)
                    )
            return
        if layers == 1:
            yield no_effect("stack", "with a single file", "files")
        elif self.files is not None and self.primary >= layers:
            message = f"there is no layer {self.primary}; the layers are 0 to {layers - 1}"
            yield Finding(("primary",), message, (("files",),))
        yield from self._check_reduce()

    def _check_reduce(self) -> Iterator[Finding]:
        if self.stack == "time" and self.reduce is None:
            yield Finding(
                ("reduce",), 'missing; with stack = "time", expected "median", "mean" or "bands"', (("stack",),)
            )
        if self.stack != "time" and self.reduce is not None:
            yield no_effect("reduce", 'with stack = "bands"' if self.stack else 'without stack = "time"', "stack")

    def _check_box(self) -> Iterator[Finding]:
        if self.bbox_px is not None and self.bbox_units is not None:
            yield Finding(("bbox_units",), 'expected either "bbox_px" or "bbox_units", found both', (("bbox_px",),))
        for key, box in (("bbox_px", self.bbox_px), ("bbox_units", self.bbox_units)):
            if box is None:
                continue
            if box[0] >= box[2] or box[1] >= box[3]:
                actual = show(list(box))
                yield Finding((key,), f"expected [x min, y min, x max, y max], minima below maxima, found {actual}")
            elif key == "bbox_px" and min(box) < 0:
                yield Finding((key,), f"expected pixels from 0, found {show(list(box))}")

    def paths(self) -> list[tuple[Key, str]]:
        """Return all paths, each with its key relative to this table, in the order of the layers."""
        paths: list[tuple[Key, str]] = []
        for number, file in enumerate(self.files or ()):
            if isinstance(file, LayerTable):
                paths += [(("files", number, "files", n), path) for n, path in enumerate(file.files)]
            else:
                paths.append((("files", number), file))
        return paths

    def layer(self) -> LayerDefaults:
        """Return the default settings of all layers."""
        return {"nodata": _json(self.nodata), "resample": self.resample}

    def stage_settings(self) -> ImageSettings:
        """Return the settings that affect the pixels, without the paths; unset ones are omitted.

        The combination of the assets of STAC items is not included, because it follows from the items.
        """
        settings = self.settings_as(ImageSettings)
        if self.palette is False:  # equal to the default, as below
            del settings["palette"]
        if self.scale is False:
            del settings["scale"]
        if self.stack is not None and self.stac is None:
            stack: StackSettings = {"layers": self._layers(), "primary": self.primary, "reduce": self.reduce}
            settings = {**settings, **stack}
        if self.bbox_px is not None:
            settings["bbox"] = {"px": list(self.bbox_px)}
        elif self.bbox_units is not None:
            settings["bbox"] = {"units": list(self.bbox_units)}
        if steps := transforms.at_reading(self.transform):
            settings["transform"] = steps
        return settings

    def _layers(self) -> list[LayerSettings]:
        layers: list[LayerSettings] = []
        for file in self.files or ():
            layer = file if isinstance(file, LayerTable) else LayerTable.model_validate({"files": file})
            layers.append(
                {
                    "files": len(layer.files),
                    "channels": None if layer.channels is None else list(layer.channels),
                    "nodata": _json(self.nodata if layer.nodata is None else layer.nodata),
                    "resample": layer.resample or self.resample,
                }
            )
        return layers

    def normalize(self) -> StatisticsStep | None:
        """Return the settings of the transform that needs statistics, or None."""
        return transforms.of_statistics(self.transform)

    def modules(self) -> list[str]:
        """Return the modules of users' transforms."""
        tables = [table for table in self.transform if isinstance(table, transforms.FunctionTable)]
        return [table.function.partition(":")[0] for table in tables]


def _json(nodata: float | tuple[float, ...] | None) -> NodataSettings:
    return list(nodata) if isinstance(nodata, tuple) else nodata
