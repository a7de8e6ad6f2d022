"""Checks of one scene: its files are opened as in the stages, without reading all pixels.

The results are JSON data, so they can be stored until the files change.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from rvbuild import tasks
from rvbuild.checks import label_rasters
from rvbuild.checks.box_files import named_otherwise
from rvbuild.checks.findings import Level
from rvbuild.checks.ground import ground_of
from rvbuild.checks.project import NOT_READ
from rvbuild.errors import RvbuildError
from rvbuild.files.address import is_url
from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.geo.grid import Grid, crs_name, reproject
from rvbuild.geo.labels.boxes import BoxLabels
from rvbuild.geo.labels.vector import read_tables
from rvbuild.geo.raster.file import require_complete
from rvbuild.geo.raster.meaning import meaning
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.raster.open import SceneImage, describe, open_scene_image
from rvbuild.geo.raster.tags import scattered
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.vector.placing import SWAPPED, on_image, swapped_on
from rvbuild.geo.vector.reading import area_reading, area_tables, label_reading, label_tables, split
from rvbuild.geo.windows import Window, require_few, starts
from rvbuild.settings.labels import (
    AnyVectorSettings,
    BoxFileSettings,
    LabelSettings,
    RasterPartSettings,
    VectorPartSettings,
)
from rvbuild.stages.chip.cut import THREADS
from rvbuild.stages.chip.windows import both_ways, candidates, side_limits, why_none
from rvbuild.stages.data.settings import CheckSettings
from rvbuild.stages.threads.block_cache import MAX_BYTES

MAX_VECTOR_BYTES = 50_000_000
"""Larger vector labels are not read, only opened."""

MAX_WINDOWS = 50_000
"""In scenes with more windows, those inside the area of interest are not counted."""

FILL_SAMPLES, FILL_PX = 9, 16
"""Windows that are read to look for implausible real values, spread over the image, and their side."""

LARGEST_VALUE = 1e19
"""No remote-sensing measurement has larger values."""

_CHIP = ("chip", "size_px")

_CULPRIT = re.compile(r": (channels|nodata|bbox_px|bbox_units)(?:: | = )")
"""The key that the message of an error about an image names."""

_IN_ORDER = (".tif", ".tiff")
"""Suffixes of formats in which a single pixel can be read without decoding those before it."""

Facts = dict[str, Any]


def check_scenes(scenes: Sequence[Mapping[str, Any]]) -> list[Facts]:
    """Check several scenes; called in a worker."""
    return [check_scene(scene["inputs"], scene["settings"]) for scene in scenes]


def check_scene(inputs: Mapping[str, Sequence[Path]], settings: CheckSettings) -> Facts:
    """Check one scene.

    Parameters
    ----------
    inputs
        `image`, `labels` and `aoi`: the existing files of the scene; empty if it has none.
    settings
        Those of a survey, and `split`.

    Returns
    -------
    dict
        `problems`: [level, part, kind, text, key] of each. `image`: its size, bands, dtype, CRS, pixel size and tags.
        `ground`: the area that it covers, see `rvbuild.checks.ground`. `labels`: the number of features of each class
        on the image, for features and boxes, or the number of pixels of a small raster. `boxes_of`: the images that box
        files name. `chips`: the number of windows that may become chips. Unknown values are omitted.
    """
    return _SceneCheck(inputs, settings).facts


class _SceneCheck:
    """Collects the facts about one scene; if a part cannot be read, checks that depend on it are skipped."""

    def __init__(self, inputs: Mapping[str, Sequence[Path]], settings: CheckSettings) -> None:
        self.inputs, self.settings = inputs, settings
        self.facts: Facts = {"problems": []}
        self._not_empty = {part: self._require_content(part) for part in ("image", "labels", "aoi")}
        self._aoi: Aoi | None = None
        self._outside = False
        self._grid: Grid | None = None
        is_readable = self._try("image", self._check_image) and self._try("aoi", self._check_aoi)
        if is_readable and not self._outside:
            self._try("image", self._find_ground)
        if inputs.get("labels") and self._try("labels", self._check_labels) and is_readable:
            self._try("labels", self._count_chips)

    def _try(self, part: str, check: Any) -> bool:
        """Check one part of the scene; return whether it could be read."""
        if not self._not_empty[part] or (part != "image" and self._grid is None):
            return False
        try:
            check()
        except RvbuildError as error:
            match = _CULPRIT.search(str(error)) if part == "image" else None
            key = () if match is None else ("scene", *(("channels",) if match[1] == "channels" else (part, match[1])))
            self._problem(Level.ERROR, part, _kind_of(error, self.inputs.get(part, ())), str(error), key)
            return False
        except Exception as error:  # an error of a library, for a file in another format than its suffix
            names = ", ".join(map(str, self.inputs[part][:1]))
            self._problem(Level.ERROR, part, "unreadable", f"{names}: cannot be read ({type(error).__name__}: {error})")
            return False
        return True

    def _problem(self, level: Level, part: str, kind: str, text: str, key: Sequence[str] = ()) -> None:
        self.facts["problems"].append([level.value, part, kind, text, list(key)])

    def _require_content(self, part: str) -> bool:
        """Report empty files; return whether there are none."""
        empty = [path for path in self.inputs.get(part, ()) if path.exists() and path.stat().st_size == 0]
        for path in empty:
            self._problem(
                Level.ERROR, part, "empty", f"{path}: is empty (0 bytes); copy it again, or leave the scene out"
            )
        return not empty

    def _check_image(self) -> None:
        for path in self.inputs["image"]:
            if path.suffix.lower() in _IN_ORDER and not is_url(str(path)):
                require_complete(path)
        with open_scene_image(self.inputs["image"], self.settings) as image:
            self._grid = image.grid
            self.facts["image"] = {**describe(image), "tags": meaning(self.inputs["image"], self.settings)}
            self.facts["transform"] = list(image.grid.transform[:6])
            stored = not {"transform", "scale"} & set(self.settings["image"])
            if stored and image.dtype.kind == "f" and not is_url(str(self.inputs["image"][0])):
                self._check_fill_values(image)
            size_px = self.settings["chip"]["size_px"]
            height, width = image.grid.height, image.grid.width
            require_few(len(starts(height, size_px, size_px)) * len(starts(width, size_px, size_px)), size_px)
            needed = image.cache_bytes(size_px, width)
            self.facts["cache"] = min(MAX_BYTES, THREADS * needed)
            if needed > 4 * MAX_BYTES:
                self._problem(
                    Level.WARNING,
                    "image",
                    "blocks",
                    f"{self.inputs['image'][0]}: a window of {size_px} rows needs blocks that decode to "
                    f"{needed / 1e9:.1f} GB, so reading will be slow. Tile the file, for example with "
                    "`gdal_translate -of COG`",
                )

    def _check_fill_values(self, image: SceneImage) -> None:
        """Report values that cannot be measurements: nodata that is undeclared, or that GDAL does not understand."""
        grid = image.grid
        for row, col, height, width in scattered(grid.height, grid.width, FILL_SAMPLES, FILL_PX):
            pixels, valid = image.read(Window(row, col, height, width))
            implausible = pixels[valid & (np.abs(pixels) > LARGEST_VALUE)]
            if implausible.size:
                self._problem(
                    Level.WARNING,
                    "image",
                    "fill values",
                    f"{self.inputs['image'][0]}: holds the value {implausible[0]:.9g}, which looks like nodata but "
                    f"counts as data, because the file does not declare it. "
                    f"Set `nodata = {implausible[0]:.9g}` in `image`",
                )
                return

    def _check_aoi(self) -> None:
        assert self._grid is not None
        self._aoi = open_aoi(self.inputs.get("aoi", ()), self._grid, self.settings.get("area"))
        empty = self._aoi is not None and not (self._aoi.bounds.height and self._aoi.bounds.width)
        self._outside = empty and bool(self.inputs.get("aoi"))
        if self._outside:
            self._problem(
                Level.ERROR,
                "aoi",
                "aoi outside",
                f"{self.inputs['aoi'][0]}: the area of interest lies outside the image ({self._grid.describe()}), so "
                f"no pixel of the scene is used. {self._advice_on_aoi(self._grid)}",
            )

    def _advice_on_aoi(self, grid: Grid) -> str:
        """Return advice for an area of interest outside the image."""
        tables = area_tables(self.inputs["aoi"], self.settings.get("area", {}))
        readings = [(path, area_reading(table)) for paths, table in tables for path in paths]
        if any(swapped_on(read_features(path, **reading), grid) for path, reading in readings):
            return SWAPPED
        return "Is it the right file, and is its CRS correct?"

    def _find_ground(self) -> None:
        """Record the area that the scene covers; training chips may extend beyond its area of interest."""
        assert self._grid is not None
        chip = self.settings["chip"]
        beyond = self.settings["split"] == "train" and not chip["within_aoi"]
        reach_px = max([chip["size_px"], *(px for pair in side_limits(chip) for px in pair)]) if beyond else 0
        ground = ground_of(self._grid, self._aoi, self.inputs["image"], reach_px)
        if ground is not None:
            self.facts["ground"] = ground

    def _check_labels(self) -> None:
        assert self._grid is not None
        files, settings = self.inputs["labels"], self.settings["labels"]
        assert settings is not None
        classes, null_id = self.settings["classes"], self.settings["null_id"]
        parts: Sequence[tuple[Sequence[Path], RasterPartSettings | VectorPartSettings | LabelSettings]] = (
            split(files, settings["parts"]) if settings["kind"] == "layers" else [(files, settings)]
        )
        vectors = [path for paths, part in parts if part["kind"] == "vector" for path in paths if not is_url(str(path))]
        self.facts["vector_bytes"] = sum(path.stat().st_size for path in vectors)
        if self.facts["vector_bytes"] > MAX_VECTOR_BYTES:
            self._problem(
                Level.WARNING,
                "labels",
                NOT_READ,
                f"{vectors[0]}: labels of {self.facts['vector_bytes'] / 1e6:.0f} MB are not read here; "
                "`rvbuild check --deep` reads them",
            )
            return
        with tasks.get(self.settings["task"]).labels(files, settings, self._grid, classes, null_id) as labels:
            for note in labels.notes:
                self._problem(Level.WARNING, "labels", "repaired", note)
            if "scene_image" in settings and isinstance(labels, BoxLabels):
                self._check_boxes(labels, settings)
        for paths, part in parts:
            if part["kind"] == "vector":
                counted = self._count_features(paths, part, self._grid)
                if settings["kind"] == "vector":
                    self.facts["labels"] = counted
            elif part["kind"] == "raster":
                for level, kind, text in label_rasters.problems(paths, part, self._grid, classes, null_id):
                    self._problem(level, "labels", kind, text)
                pixels = None
                if part is settings:
                    pixels = label_rasters.counts(paths, part, self._grid, classes, null_id)
                if pixels is not None:
                    self.facts["labels"] = {"features": pixels, "all": sum(pixels)}
                if part["resample"] == "nearest":
                    self._require_overlap(paths[0], _box_on(self._grid, paths))

    def _check_boxes(self, labels: BoxLabels, settings: BoxFileSettings) -> None:
        """Record the boxes of each class on the image, and the images that box files name."""
        counts = np.bincount(labels.classes, minlength=len(self.settings["classes"])).tolist()
        self.facts["labels"] = {"features": counts, "all": sum(counts)}
        for text in named_otherwise(labels.images, settings, self.inputs["image"]):
            self._problem(Level.WARNING, "labels", "another image", text)
        if not settings["image"]:
            self.facts["boxes_of"] = [[str(path), listed.name] for path, listed in labels.images if listed.name]

    def _count_features(self, files: Sequence[Path], settings: AnyVectorSettings, grid: Grid) -> Facts:
        """Return the number of features of each class on the image, and in total; report it if there are none."""
        tables = read_tables(files, settings, grid, self.settings["classes"])
        shapes = [shape for table in tables for shape in table.shapes]
        ids = np.array([class_id for table in tables for class_id in table.class_ids], dtype=np.int64)
        boxes = shapely.bounds(np.array(shapes, dtype=object)).reshape(-1, 4)
        on = on_image(boxes, grid)
        if not shapes:
            background = settings.get("background")
            so = f"everything is labelled {background}" if background else "nothing is labelled"
            text = f"{files[0]}: has no feature with an area, so {so}"
            self._problem(Level.WARNING, "labels", "no features", text)
        elif not on.any():
            around = [boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max()]
            readings = [
                (path, label_reading(table)) for paths, table in label_tables(files, settings) for path in paths
            ]
            swapped = any(swapped_on(read_features(path, **reading), grid) for path, reading in readings)
            self._require_overlap(files[0], around, SWAPPED if swapped else "")
        counts = np.bincount(ids[on], minlength=len(self.settings["classes"])).tolist()
        return {"features": counts, "all": len(shapes)}

    def _require_overlap(self, path: Path, box: Iterable[float], advice: str = "") -> None:
        """Report labels that do not overlap the image; `box` is their extent in pixels of the image."""
        assert self._grid is not None
        x0, y0, x1, y1 = box
        if on_image(np.array([[x0, y0, x1, y1]]), self._grid).any():
            return
        mirrored = on_image(np.array([[x0, -y1, x1, -y0]]), self._grid).any()
        if not advice and self._grid.crs is None and self._grid.transform.is_identity and mirrored:
            advice = (
                "QGIS displays an image without a georeference below y = 0. A world file beside the image, with the "
                "lines 1, 0, 0, -1, 0.5 and -0.5, gives the image the coordinates of such labels"
            )
        advice = advice or "Does the file belong to this scene, and are both CRSs correct?"
        whole = _span(self._grid, 0, 0, self._grid.width, self._grid.height)
        self._problem(
            Level.WARNING,
            "labels",
            "no overlap",
            f"{path}: no label lies on the image. The image spans {whole}, the labels "
            f"{_span(self._grid, x0, y0, x1, y1)}. {advice}",
        )

    def _count_chips(self) -> None:
        """Record the number of windows that may become chips; report a scene without chips, or smaller than a chip."""
        assert self._grid is not None
        grid, chip = self._grid, self.settings["chip"]
        if self.settings["split"] == "test":
            return
        size = chip["size_px"]
        if chip["method"] != "sliding":
            self.facts["chips"] = chip["per_scene"]
            smallest = [min(pair) for pair in side_limits(chip)]
            size = max(smallest) if smallest else size
        elif grid.height * grid.width / math.prod(both_ways(chip["stride_px"])) <= MAX_WINDOWS:
            task, labels = tasks.get(self.settings["task"]), self.settings["labels"]
            assert labels is not None
            windows = task.chip_windows(self.inputs["labels"], labels, grid, self.settings["classes"], chip)
            self.facts["chips"] = len(candidates(grid, self._aoi, chip, 0, windows))
        if self.facts.get("chips") == 0 and chip.get("padding_px") is not None and not self._outside:
            self._problem(Level.WARNING, "", "no chips", why_none(grid, self._aoi, chip), _CHIP)
        elif self.facts.get("chips") == 0 and not self._outside:
            inside = "in the area of interest" if self._aoi is not None and chip["within_aoi"] else "on the scene"
            self._problem(
                Level.WARNING,
                "",
                "no chips",
                f"no window of {size} px lies {inside}, so the scene yields no chips. Reduce chip.size_px, or set "
                "chip.within_aoi = false",
                _CHIP,
            )
        elif size > min(grid.height, grid.width):
            share = 1 - min(size, grid.height) * min(size, grid.width) / size**2
            self._problem(
                Level.WARNING,
                "image",
                "small scene",
                f"a chip of {size} px is larger than the image of {grid.width} x {grid.height} px (width x height): "
                f"{share:.0%} of it is padding. Reduce chip.size_px",
                _CHIP,
            )


def _kind_of(error: Exception, files: Sequence[Path]) -> str:
    """Return the kind of an error: its message without details that differ between scenes."""
    text = str(error)
    for path in files:
        text = text.replace(str(path), "")
    return "".join(c for c in text if not c.isdigit())[:60]


def _span(grid: Grid, x0: float, y0: float, x1: float, y1: float) -> str:
    """Describe the extent of a box in pixels, for messages: in coordinates of the CRS if there is one."""
    if grid.crs is None:
        return f"columns {x0:.0f} to {x1:.0f} and rows {y0:.0f} to {y1:.0f}"
    x, y = grid.to_map(np.array([x0, x1, x1, x0], dtype=np.float64), np.array([y0, y0, y1, y1], dtype=np.float64))
    names = ("longitudes", "latitudes") if grid.crs.is_geographic else ("x", "y")
    digits = 6 if grid.crs.is_geographic else 1
    spans = (f"{name} {v.min():.{digits}f} to {v.max():.{digits}f}" for name, v in zip(names, (x, y), strict=True))
    return f"{' and '.join(spans)} in {crs_name(grid.crs)}"


def _box_on(grid: Grid, files: Sequence[Path]) -> list[float]:
    """Return the extent (x0, y0, x1, y1) of label rasters in pixels of the image."""
    with open_image(files) as labels:
        source_grid = labels.grid
    x = np.array([0.0, source_grid.width, source_grid.width, 0.0])
    y = np.array([0.0, 0.0, source_grid.height, source_grid.height])
    map_x, map_y = source_grid.to_map(x, y)
    if source_grid.crs is not None and grid.crs is not None:
        map_x, map_y = reproject(files[0], source_grid.crs, grid.crs, map_x, map_y)
        map_x = map_x + grid.turns(map_x.mean(keepdims=True))
    col, row = grid.to_pixel(map_x, map_y)
    return [float(col.min()), float(row.min()), float(col.max()), float(row.max())]
