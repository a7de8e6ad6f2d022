"""Object detection applied to the tables of a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rvbuild.errors import either, nearest
from rvbuild.files.formats import BOX_FILES
from rvbuild.project.applied.parts import Parts, of_task
from rvbuild.project.scenes.labels import RasterLabelsTable
from rvbuild.project.tables.chip import ChipTable
from rvbuild.project.tables.evaluation import EvalTable
from rvbuild.project.tables.predict import PredictTable
from rvbuild.project.tables.train import TrainTable
from rvbuild.project.tasks.detection import MODEL_ARGS, MOST_MERGE, SPEC
from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.problems import Problems
from rvbuild.project.toml.table import Context, Finding, Table, no_effect
from rvbuild.settings.chip import ChipSettings
from rvbuild.settings.evaluation import BoxEvalSettings
from rvbuild.settings.predict import BoxForwardSettings, BoxPredictSettings, BoxResultSettings


def check(table: Table, context: Context) -> Iterator[Finding]:
    """Find settings that are invalid for boxes."""
    if isinstance(table, RasterLabelsTable):
        message = f"{SPEC.name} needs boxes or shapes: {either(['vector', *BOX_FILES])}; found a raster"
        yield Finding(("raster",), message)
    elif isinstance(table, ChipTable):
        yield from _check_chip(table)
    elif isinstance(table, TrainTable):
        yield from _check_train(table)
    elif isinstance(table, PredictTable) and table.merge_thresh > MOST_MERGE:
        yield Finding(
            ("merge_thresh",),
            f"expected at most {MOST_MERGE}, found {show(table.merge_thresh)}; of boxes in one window that overlap by "
            "more, the model keeps only one",
        )


def _check_chip(table: ChipTable) -> Iterator[Finding]:
    if table.neg_ratio is None and table.is_set("neg_ioa_thresh"):
        yield no_effect("neg_ioa_thresh", "without neg_ratio, which sets how many chips are background")
    elif table.neg_ratio is not None and table.neg_ioa_thresh > table.ioa_thresh:
        yield Finding(
            ("neg_ioa_thresh",),
            f"{show(table.neg_ioa_thresh)} is more than ioa_thresh = {show(table.ioa_thresh)}, so a chip could be both "
            "positive and background",
            (("ioa_thresh",),),
        )
    for key in ("height_limits_px", "width_limits_px"):
        if getattr(table, key):
            yield Finding((key,), f"does not work with {SPEC.name}, whose random chips are squares; set size_limits_px")
            return


def _check_train(table: TrainTable) -> Iterator[Finding]:
    model = table.model or SPEC.models[0]
    if model not in SPEC.models:
        return
    valid = MODEL_ARGS[model.partition("_")[0]]
    for key in table.model_args:
        if key not in valid:
            hint = nearest(key, valid) or f"; it takes {', '.join(valid)}"
            yield Finding(("model_args", key), f"{show(model)} has no such argument{hint}", (("model",),))


def chip_px(chip: ChipTable, labels: list[Any]) -> int:
    """Return the side of chips, in pixels."""
    return chip.size_px


def apply(parts: Parts, labels: Mapping[Key, Any], problems: Problems) -> Parts:
    """Return the parts with tables whose stage settings include those of boxes."""
    return Parts(
        scenes=tuple(replace(s, chip=s.chip and of_task(BoxChipTable, s.chip)) for s in parts.scenes),
        chip=of_task(BoxChipTable, parts.chip),
        predict=of_task(BoxPredictTable, parts.predict),
        eval=of_task(BoxEvalTable, parts.eval),
        # With this stride, every object of up to half a chip is completely inside some window.
        stride_px=max(1, parts.chip.size_px // 2),
    )


class BoxChipTable(ChipTable):
    """The chip settings of a project with boxes."""

    def stage_settings(self) -> ChipSettings:
        """Return the settings, including those of boxes."""
        settings: ChipSettings = {
            **super().stage_settings(),
            "ioa_thresh": self.ioa_thresh,
            "clip": self.clip,
            "neg_ratio": self.neg_ratio,
            "neg_ioa_thresh": self.neg_ioa_thresh,
        }
        if settings["keep"] is not None:
            # One box is enough.
            settings["keep"] = {**settings["keep"], "min_px": 1}
        return settings


class BoxPredictTable(PredictTable):
    """The prediction of boxes: the same table, with the settings about boxes."""

    def stage_settings(self) -> BoxPredictSettings:
        """Return the settings, including those of boxes."""
        return {**super().stage_settings(), **self.derive_settings()}

    def infer_settings(self) -> BoxForwardSettings:
        """Return the settings that the raw result depends on: boxes are not blended."""
        settings = super().stage_settings()
        return {"stride_px": settings["stride_px"], **self.forward_settings()}

    def writes_scores(self) -> bool:
        """Tell whether the raw result has scores with names: those of boxes have class ids."""
        return False

    def derive_settings(self) -> BoxResultSettings:
        """Return the settings that the derived files depend on."""
        return {
            "boxes": self.boxes or "geojson",
            "score_thresh": self.score_thresh,
            "merge_thresh": self.merge_thresh,
        }


class BoxEvalTable(EvalTable):
    """The evaluation of boxes."""

    def stage_settings(self) -> BoxEvalSettings:
        """Return the settings, including those of boxes."""
        return {"iou_thresh": self.iou_thresh}
