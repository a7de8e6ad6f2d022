"""The edits of label files that follow from the accepted verdicts about one scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from rvbuild.errors import DataError, nearest
from rvbuild.geo.classes import names
from rvbuild.geo.vector.box_files import FileBoxes, read_box_file
from rvbuild.geo.vector.files import Features, read_features
from rvbuild.geo.vector.reading import label_reading
from rvbuild.review.accepted import Accepted
from rvbuild.review.applying.changes import Plan, SceneChanges
from rvbuild.review.current import RasterPart, pixels_in, vector_files
from rvbuild.review.edits.class_values import box_label, class_values
from rvbuild.review.edits.edit import Action, Edit, Shared
from rvbuild.review.edits.files import FileEdits, Kind, require_editable
from rvbuild.review.edits.place import to_file
from rvbuild.review.edits.rasters import PixelEdit
from rvbuild.review.edits.shared import shared_by
from rvbuild.review.labels import LabelObject
from rvbuild.review.shapes import area_of, iou, rings_of
from rvbuild.settings.labels import BoxFileSettings, FeatureSettings

_SAME_IOU = 0.8
"""A label of the class with which a missing one overlaps more than this is that label."""

_CLOSE_IOU = 0.95
"""A label that overlaps with a proposed outline more than this has been redrawn already."""


class Planner:
    """Plans the edits of one scene."""

    def __init__(self, made: Plan, changes: SceneChanges) -> None:
        self.made, self.changes = made, changes
        self.scene, self.current = changes.scene, changes.current
        self._features: dict[int, tuple[Features, FeatureSettings]] = {}
        self._boxes: dict[int, FileBoxes] = {}
        self._shared: dict[tuple[int, str], Shared | None] = {}
        self._by_feature: dict[tuple[str, str | None, str | None], list[LabelObject]] = {}
        for label in self.current.objects:
            layer = None if label.origin is None else label.origin.layer
            name = self.scene.label_names[label.source.file]
            self._by_feature.setdefault((name, layer, label.feature), []).append(label)

    def add(self, accepted: Accepted) -> None:
        """Plan the edit of one suspect."""
        if accepted.kind == "missing":
            self._add_label(accepted)
        elif accepted.feature is None:
            self._change_pixels(accepted)
        else:
            self._change_label(accepted)

    def _change_label(self, accepted: Accepted) -> None:
        label = self._find(accepted)
        if label is None:
            return
        removes = accepted.kind in ("spurious", "duplicate")
        own = names(self.current.classes)[label.class_id]
        class_name = own
        if accepted.proposed_class is not None and not removes:
            class_name = self._class(accepted)
        area = None
        if accepted.kind == "outline":
            rings = accepted.outline(self.current.grid)
            if rings is None:
                raise DataError("has no outline to draw; keep the column `proposed_px`")
            area = area_of(rings)
        self.changes.changed.append((label, None if removes else class_name, area))
        self._edit_label(label, None if removes or class_name == own else class_name, area, removes)
        what = f"{own} removed" if removes else f"{own} → {class_name}" if class_name != own else f"{own}"
        self.made.lines.append(
            f"{accepted.file}, feature {accepted.feature}: {what}{' redrawn' if area is not None else ''}"
        )

    def _find(self, accepted: Accepted) -> LabelObject | None:
        """Return the label that was reviewed; None if what is proposed has been done already.

        Raises
        ------
        DataError
            It has changed since.
        """
        assert accepted.file is not None
        there = self._by_feature.get((accepted.file, accepted.layer, accepted.feature), [])
        for label in there:
            if self.current.object_digest(label) == accepted.digest:
                return label
        # Features without ids of their own have moved up if one before them was removed.
        for label in self.current.objects:
            own_id = None if label.origin is None else label.origin.id
            same_file = self.scene.label_names[label.source.file] == accepted.file
            if same_file and own_id is None and self.current.object_digest(label) == accepted.digest:
                return label
        if self._is_done(accepted, there):
            self.made.already.append(str(accepted))
            return None
        raise DataError(
            "the label has changed since the review. Run `rvbuild review` again, which keeps verdicts, and apply the "
            "new table"
        )

    def _is_done(self, accepted: Accepted, there: Sequence[LabelObject]) -> bool:
        own = names(self.current.classes)
        if accepted.kind in ("spurious", "duplicate"):
            has_ids = any(
                label.origin is not None and label.origin.id is not None
                for label in self.current.objects
                if self.scene.label_names[label.source.file] == accepted.file
            )
            return not there and has_ids
        if accepted.kind == "outline":
            rings = accepted.outline(self.current.grid)
            wanted = accepted.proposed_class or accepted.label_class
            return rings is not None and any(
                self.scene.label_names[label.source.file] == accepted.file
                and own[label.class_id] == wanted
                and iou(label.shape, self.current.as_read(area_of(rings))) > _CLOSE_IOU
                for label in self.current.objects
            )
        return any(own[label.class_id] == accepted.proposed_class for label in there)

    def _class(self, accepted: Accepted) -> str:
        name, known = accepted.proposed_class, names(self.current.classes)
        if name is None:
            raise DataError("has no proposed_class")
        if name not in known:
            raise DataError(f"there is no class {name!r}{nearest(name, known)}. Classes: {', '.join(known)}")
        return name

    def _edit_label(self, label: LabelObject, class_name: str | None, area: Any, removes: bool) -> None:
        origin, file = label.origin, label.source.file
        assert origin is not None
        assert label.source.place is not None
        settings = self.scene.labels
        if settings["kind"] in ("vector", "layers"):
            features, table = self._features_of(file)
            kind = features.geometries[label.source.place].geom_type
            shape = None if area is None else to_file(area, features, self.current.grid, table, kind)
            values: Mapping[str, object] = {}
            if class_name is not None:
                values = class_values(features, label.source.place, class_name, table, self.current.classes)
            edits = self._vector_edits(file)
        else:
            boxes = self._boxes_of(file)
            shape = None if area is None else self._to_box(area)
            values = {} if class_name is None else {"label": box_label(boxes, class_name, self._box_settings())}
            edits = self._box_edits(file)
        action: Action = "remove" if removes else "change"
        _merge(edits.edits, Edit(action, origin.number, origin.id, values, shape))

    def _add_label(self, accepted: Accepted) -> None:
        class_name, rings = self._class(accepted), accepted.outline(self.current.grid)
        if rings is None:
            raise DataError("has no outline to draw; keep the column `proposed_px`")
        area, own = area_of(rings), names(self.current.classes)
        for label in self.current.objects:
            if own[label.class_id] == class_name and iou(label.shape, self.current.as_read(area)) > _SAME_IOU:
                self.made.already.append(str(accepted))
                return
        where = self._add_to_some_file(class_name, area)
        if where is None:
            return
        self.made.lines.append(f"{where}: {class_name} added in scene {accepted.scene}")

    def _add_to_some_file(self, class_name: str, area: Any) -> str | None:
        """Plan a new label in the file that has most labels of its class; return the name of the file."""
        settings, reasons, image, shared = self.scene.labels, list[str](), None, None
        count = [0] * len(self.scene.label_files)
        for label in self.current.objects:
            count[label.source.file] += names(self.current.classes)[label.class_id] == class_name
        vectors = {path for path, _ in vector_files(self.scene.label_files, settings)}
        for file in sorted(range(len(count)), key=lambda file: -count[file]):
            try:
                if settings["kind"] in ("vector", "layers"):
                    if self.scene.label_files[file] not in vectors:
                        continue
                    features, table = self._features_of(file)
                    kind = features.geometries[0].geom_type if len(features.geometries) else "Polygon"
                    values = class_values(features, None, class_name, table, self.current.classes)
                    shape = to_file(area, features, self.current.grid, table, kind)
                    shared = self._shared_in(file, class_name, values)
                    edits = self._vector_edits(file)
                elif settings["kind"] == "raster":
                    return self._add_pixels(class_name, area)
                else:
                    boxes = self._boxes_of(file)
                    values = {"label": box_label(boxes, class_name, self._box_settings())}
                    shape, edits = self._to_box(area), self._box_edits(file)
                    image = None if boxes.image is None else boxes.image.name
            except DataError as error:
                reasons.append(str(error))
                continue
            edits.edits.append(Edit("add", values=values, shape=shape, image=image, shared=shared))
            self.changes.added.append((class_name, area))
            return self.scene.label_names[file]
        raise DataError("cannot be added to a label file: " + "; ".join(reasons or ["there is none that can hold it"]))

    def _change_pixels(self, accepted: Accepted) -> None:
        if accepted.kind == "outline":
            raise DataError(
                "an outline in a label raster cannot be redrawn: pixels that it leaves would have no class. Edit the "
                "raster by hand, or reject the verdict"
            )
        if accepted.file not in self.scene.label_names:
            raise DataError(
                f"the scene has no label file {accepted.file!r}{nearest(str(accepted.file), self.scene.label_names)}"
            )
        file = self.scene.label_names.index(accepted.file)
        part = next((p for p in self.current.rasters if p.first <= file < p.first + len(p.files)), None)
        if part is None:
            raise DataError("the label file is no raster any more; run `rvbuild review` again")
        if accepted.polygon is None:
            raise DataError("its area is not known; keep the column `label_px`")
        known, own = names(self.current.classes), accepted.label_class
        class_name = known[self.current.null_id] if accepted.kind != "class" else self._class(accepted)
        window, mask = pixels_in(accepted.polygon, self.current.grid)
        ids = self.current.pixels(part)[window.slices_in(self.current.grid.window)]
        if self.current.raster_digest(file, accepted.polygon) != accepted.digest:
            if (ids[mask] == known.index(class_name)).all():
                self.made.already.append(str(accepted))
                return
            raise DataError(
                "the labels there have changed since the review. Run `rvbuild review` again, which keeps verdicts, and "
                "apply the new table"
            )
        if own in known:
            mask = mask & (ids == known.index(own))
        self._edit_pixels(part, PixelEdit(window, mask, class_name))
        self.made.lines.append(
            f"{accepted.file}, {np.count_nonzero(mask):,} pixels at row {window.row}, column {window.col}: "
            f"{own} → {class_name}"
        )

    def _add_pixels(self, class_name: str, area: Any) -> str | None:
        part = self.current.rasters[0]
        window, mask = pixels_in(rings_of(area), self.current.grid)
        ids = self.current.pixels(part)[window.slices_in(self.current.grid.window)]
        if (ids[mask] == names(self.current.classes).index(class_name)).all():
            self.made.already.append(f"{class_name} at row {window.row}, column {window.col}")
            return None
        self._edit_pixels(part, PixelEdit(window, mask, class_name))
        return self.scene.label_names[part.first]

    def _edit_pixels(self, part: RasterPart, edit: PixelEdit) -> None:
        for place, path in enumerate(part.files, part.first):
            edits = self._file_edits(path, None, self.scene.label_names[place], "raster")
            edits.raster = (self.current.grid, part.settings)
            edits.pixels.append(edit)
        self.changes.pixels.setdefault(part.first, []).append(edit)

    def _features_of(self, file: int) -> tuple[Features, FeatureSettings]:
        """Return the features of a file with the attributes that give their classes, and how they are read."""
        if file not in self._features:
            path = self.scene.label_files[file]
            table = next(s for p, s in self._vector_tables() if p == file)
            self._features[file] = read_features(path, **label_reading(table)), table
        return self._features[file]

    def _shared_in(self, file: int, class_name: str, values: Mapping[str, object]) -> Shared | None:
        """Return what the labels of a class in a file have in common, but for the attributes that give the class."""
        key = file, class_name
        if key not in self._shared:
            features, table = self._features_of(file)
            self._shared[key] = shared_by(features, class_name, table, self.current.classes, values)
        return self._shared[key]

    def _vector_tables(self) -> list[tuple[int, FeatureSettings]]:
        tables, first = [], 0
        every = vector_files(self.scene.label_files, self.scene.labels)
        for path, settings in every:
            first = self.scene.label_files.index(path, first)
            tables.append((first, settings))
            first += 1
        return tables

    def _boxes_of(self, file: int) -> FileBoxes:
        if file not in self._boxes:
            self._boxes[file] = read_box_file(self.scene.label_files[file], self._box_settings())
        return self._boxes[file]

    def _box_settings(self) -> BoxFileSettings:
        settings = self.scene.labels
        assert settings["kind"] in ("coco", "voc", "csv")
        return settings

    def _to_box(self, area: Any) -> Any:
        """Return an area in pixels of the scene as a box in those of the image of a box file."""
        x, y = self._box_settings().get("origin_px", (0, 0))
        grid = self.current.grid
        x0, y0, x1, y1 = shapely.intersection(area, shapely.box(0, 0, grid.width, grid.height)).bounds
        return shapely.box(x0 + x, y0 + y, x1 + x, y1 + y)

    def _vector_edits(self, file: int) -> FileEdits:
        features, table = self._features_of(file)
        edits = self._file_edits(self.scene.label_files[file], features.layer, self.scene.label_names[file], "vector")
        edits.encoding = table.get("encoding")
        return edits

    def _box_edits(self, file: int) -> FileEdits:
        kind: Any = self._box_settings()["kind"]
        return self._file_edits(self.scene.label_files[file], None, self.scene.label_names[file], kind)

    def _file_edits(self, path: Path, layer: str | None, name: str, kind: Kind) -> FileEdits:
        require_editable(path, name, kind)
        return self.made.files.setdefault((path, layer), FileEdits(path, name, kind, layer))


def _merge(edits: list[Edit], new: Edit) -> None:
    """Add an edit, joined with another of the same label.

    Raises
    ------
    DataError
        They contradict each other.
    """
    for place, old in enumerate(edits):
        if old.action == "add" or old.number != new.number:
            continue
        if old.action == new.action == "remove":
            return
        clash = {key for key in old.values.keys() & new.values.keys() if old.values[key] != new.values[key]}
        if old.action != new.action or clash or (old.shape is not None and new.shape is not None):
            raise DataError("contradicts another accepted verdict about the same label; reject one of them")
        shape = old.shape if new.shape is None else new.shape
        edits[place] = Edit("change", old.number, old.id, {**old.values, **new.values}, shape)
        return
    edits.append(new)
