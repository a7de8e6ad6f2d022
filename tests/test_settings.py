"""Settings are what they are declared to be, on the whole way from the tables of a project to its stages."""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict, is_typeddict

from rvbuild import rules, tasks
from rvbuild.engine.run.jobs import settings_of
from rvbuild.project.applied.classification import CellPredictTable
from rvbuild.project.applied.detection import BoxEvalTable, BoxPredictTable
from rvbuild.project.load import load
from rvbuild.project.scenes.box_files import BoxFileTable
from rvbuild.project.scenes.image import ImageTable
from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable
from rvbuild.project.scenes.transforms import ExpressionTable
from rvbuild.project.tables.chip import ChipTable
from rvbuild.project.tables.predict import PredictTable, VectorOutputTable
from rvbuild.project.tables.train import TrainTable
from rvbuild.project.toml.table import Table
from rvbuild.rules import check, golden
from rvbuild.settings.classes import ClassId, ClassName
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.labels import BoxFileSettings
from rvbuild.stages.bundle.check import checked_settings
from rvbuild.stages.bundle.settings import BundleStageSettings
from rvbuild.stages.data.settings import CheckSettings
from rvbuild.stages.evaluate.scene import EvalStageSettings
from rvbuild.stages.infer import InferStageSettings
from rvbuild.stages.names import ON_REQUEST
from rvbuild.stages.report.scene import PictureSettings
from rvbuild.tasks.settings import DeriveSettings

CLASSES = """
[classes]
building = "#ff0000"
field = "#00ff00"
road = "#0000ff"
"""

SEGMENTATION = f"""
[project]
task = "semantic_segmentation"
{CLASSES}
[scenes]
train = ["a", "b"]
validation = {{ fraction = 0.2, block_px = 64 }}
test = {{ folds = 5, fold = 1, block_px = 64 }}
[scene]
channels = [0, 1, 2]
aoi = [{{ vector = "area.gpkg", layer = "x", where = "kind = 1" }}, "more.geojson"]
[scene.image]
files = ["{{id}}.tif", {{ files = ["s1.tif", "s2.tif"], channels = [0], nodata = [0, 1], resample = "cubic" }}]
stack = "bands"
primary = 1
bbox_units = [0.0, 0.0, 100.5, 100.0]
alpha = true
palette = true
scale = true
transform = [
  {{ kind = "cast", dtype = "float32" }},
  {{ kind = "reclass", map = {{ 1 = 2 }} }},
  {{ kind = "nodata", value = 0 }},
  "nan",
  {{ kind = "expression", bands = {{ ndvi = "(B2 - B1) / (B2 + B1)" }}, keep = true }},
  {{ kind = "stats", max_stds = 2.5 }},
]
[[scene.labels]]
raster = "{{id}}_l.tif"
map = {{ 1 = "building" }}
other = "field"
nodata = []
resample = "nearest"
[[scene.labels]]
vector = "{{id}}.gpkg"
layer = "roads"
encoding = "UTF-8"
class_attribute = "kind"
class_map = {{ a = "road" }}
class_where = {{ road = "width > 3" }}
where = ["has", "width"]
background = "field"
all_touched = true
buffer_px = {{ Point = 2, LineString = {{ road = 3 }}, Polygon = -1 }}
shift_px = [1, 2]
unknown = "drop"
[scenes.by_id.b]
image = {{ files = ["b.tif"], nodata = 0, bbox_px = [0, 0, 9, 9], transform = [{{ kind = "stats", max_stds = 2.5 }}] }}
labels = [{{ vector = "b.geojson", class = "road", shift_m = [1, 2] }}, {{ vector = "c.fgb", class = "building" }}]
chip = {{ max_nodata = 0.25, store = false }}
[chip]
size_px = 32
method = "random"
per_scene = 5
height_limits_px = [16, 64]
width_limits_px = [16, 64]
max_attempts = 3
padding_px = [1, 2]
within_aoi = false
max_nodata = 0.5
keep = {{ classes = ["road"], min_px = 5, otherwise = 0.5 }}
[analyze]
sample = 0.5
[train]
max_chips = 10
loss = "focal"
loss_args = {{ gamma = 1 }}
class_weights = {{ road = 2 }}
sampling = "balanced"
normalize = {{ mean = [0.5, 0.5, 0.5], std = [0.1, 0.1, 0.1] }}
checkpoints = true
threads = 2
[predict]
scores = "uint8"
mosaic = "cog"
vectors = [{{ class = "road", kind = "buildings" }}, {{ class = "building", file = "x.gpkg" }}]
"""

CELLS = f"""
[project]
task = "chip_classification"
{CLASSES}
[scenes]
train = ["a"]
validation = ["b"]
[scene]
image = "{{id}}.tif"
labels = {{ vector = "{{id}}.geojson", class_attribute = "c", rule = "ioa", ioa_thresh = 0.3, cell_px = 20 }}
[scenes.by_id.b]
labels = [{{ vector = "b.geojson", class = "road", cell_px = 20 }}, {{ vector = "c.fgb", class = "building" }}]
[chip]
method = "random"
[eval]
splits = ["validation"]
"""

BOXES = f"""
[project]
task = "object_detection"
{CLASSES}
[scenes]
train = ["a"]
validation = ["b"]
test = ["c"]
[scene]
image = {{ files = "{{id}}.tif", bbox_px = [10, 20, 100, 200] }}
labels = {{ coco = "all.json", image = "x.jpg", class_map = {{ 1 = "road" }}, unknown = "drop" }}
[scenes.by_id.b]
image = "b.tif"
labels = {{ voc = "b.xml", class = "road" }}
[scenes.by_id.c]
labels = {{ vector = "c.geojson", class = "road" }}
[chip]
size_px = 64
stride_px = [32, 16]
padding_px = [8, 4]
pad_direction = "both"
neg_ratio = 1
clip = true
[eval]
iou_thresh = 0.6
"""

OWN_CHIPS = f"""
[project]
task = "chip_classification"
{CLASSES}
[scenes]
train = []
test = ["a"]
[scene]
image = "{{id}}.tif"
[chip]
size_px = 16
[train]
chips = {{ folder = "chips", channels = [0], palette = true }}
"""

PROJECTS = {
    **{f"golden {task}": golden.project(task) for task in golden.TASKS},
    "segmentation": SEGMENTATION,
    "cells": CELLS,
    "boxes": BOXES,
    "own chips": OWN_CHIPS,
}


def validator(kind: Any) -> Callable[[object], object]:
    """Return a function that raises a ValidationError for a value that is not exactly of a type, without conversion."""
    config = ConfigDict(strict=True, extra="forbid")
    adapter: TypeAdapter[tuple[Any]] = TypeAdapter(tuple[kind], config=config)
    return lambda value: adapter.validate_python((value,))


def declared(function: str) -> Any:
    """Return the type that a stage declares for its settings."""
    module = importlib.import_module(function.partition(":")[0])
    run = getattr(module, function.partition(":")[2])
    return eval(run.__annotations__["settings"], vars(module))


def of_task(stage: Any, task: str) -> Any:
    """Return the type of the settings of a stage with those in it that only the task knows."""
    if not is_typeddict(stage):  # a choice of types, which tasks add nothing to
        return stage
    hints = get_type_hints(stage, include_extras=True)
    module = tasks.get(task)
    if stage is InferStageSettings:
        hints["predict"] = get_type_hints(declared(f"{module.__name__}:merger"))["predict"]
        hints["classes"] = list[ClassId] | list[ClassName]  # the names if scores are written
    elif stage is DeriveSettings:
        hints["predict"] = get_type_hints(declared(f"{module.__name__}:derive"))["predict"]
    elif stage is EvalStageSettings:
        hints["eval"] = declared(f"{module.__name__}:score")
    elif stage is PictureSettings:
        hints["eval"] = NotRequired[declared(f"{module.__name__}:score")]
    elif stage is BundleStageSettings:
        hints["predict"] = module.PREDICT_SETTINGS
    else:
        return stage
    return TypedDict(stage.__name__, hints)  # type: ignore[operator]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for split, name in (("train", "road"), ("valid", "field")):
        (tmp_path / "chips" / split / name).mkdir(parents=True)
        (tmp_path / "chips" / split / name / "1.png").write_bytes(b"")
    return tmp_path


@pytest.mark.slow  # imports all stages
@pytest.mark.filterwarnings("ignore:.* using the `ReadOnly` qualifier:UserWarning")  # nothing is modified here
@pytest.mark.parametrize("project", PROJECTS)
def test_rules_give_stages_the_settings_that_they_declare(project: str, workspace: Path) -> None:
    path = workspace / "p.toml"
    path.write_text(PROJECTS[project])
    loaded = load(path, environ={})
    artifacts = [
        *rules.artifacts(loaded, requested=ON_REQUEST),
        *(a for rule in rules.ASIDE.values() for a in rule.artifacts(loaded, "")),
    ]
    assert len(artifacts) > 8
    for artifact in artifacts:
        validator(of_task(declared(artifact.run), loaded.task))(settings_of(artifact))
    for request in check.requests(loaded, runs_code=True):
        validator(CheckSettings)(request.settings)


@pytest.mark.parametrize("project", PROJECTS)
def test_bundles_of_projects_have_settings_that_are_accepted(project: str, workspace: Path) -> None:
    path = workspace / "p.toml"
    path.write_text(PROJECTS[project])
    content = json.loads(json.dumps(rules.bundle.settings(load(path, environ={}))))
    assert checked_settings(content, "bundle") == content


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ({"nodata": None, "bbox": {"px": [0, 0, 9, 9]}}, None),
        ({"nodata": None, "box": 1}, "Extra inputs are not permitted"),
        ({"nodata": None, "bbox": {"px": [0, 0, 9, 9], "unit": "m"}}, "Extra inputs are not permitted"),
        ({"alpha": True}, "Field required"),
        ({"nodata": "0"}, "Input should be a valid number"),
        ({"nodata": None, "alpha": 1}, "Input should be a valid boolean"),
    ],
)
def test_what_is_not_declared_is_found(image: dict[str, object], problem: str | None) -> None:
    validate = validator(SceneImageSettings)
    with nullcontext() if problem is None else pytest.raises(ValidationError, match=problem):
        validate({"image": image, "channels": (0, 1)})


# -- tables and types --------------------------------------------------------------------------------------------------

#: Keys of settings that are not fields by the same name, or fields that are settings of some tasks only.
ADDED: Mapping[type[Table], set[str]] = {
    ImageTable: {"layers", "primary", "reduce", "bbox", "transform", "code"},
    ChipTable: {"store", "ioa_thresh", "clip", "neg_ratio", "neg_ioa_thresh"},
    BoxEvalTable: {"iou_thresh"},
    CellPredictTable: {"cells"},
    BoxPredictTable: {"boxes", "score_thresh", "merge_thresh"},
    TrainTable: {"processes", "weights_member"},
}

#: Fields whose settings have another form, or are missing under conditions of their own.
CHANGED: Mapping[type[Table], set[str]] = {
    ExpressionTable: {"bands"},
    RasterLabelsTable: {"nodata"},
    VectorLabelsTable: {"class_where"},
    ChipTable: {"stride_px"},
    VectorOutputTable: {"format", "split", "side_px"},
    PredictTable: {"stride_px"},
    TrainTable: {"model", "select_metric", "pretrained", "workers"},
}

#: Fields that are settings of another type.
ELSEWHERE: Mapping[type[Table], set[str]] = {TrainTable: {"backend", "backend_args"}}


def tables(base: type[Table] = Table) -> Iterator[type[Table]]:
    for table in base.__subclasses__():
        if table.__module__.startswith("rvbuild."):
            yield table
            yield from tables(table)


def listed(exceptions: Mapping[type[Table], set[str]], table: type[Table]) -> set[str]:
    """Return the exceptions for a table, with those for the tables that it extends."""
    return set().union(*(keys for base, keys in exceptions.items() if issubclass(table, base)))


def settings_type(table: type[Table]) -> Any:
    """Return the type of the settings of a table, or None if it declares none of its own."""
    method = table.stage_settings
    kind = eval(method.__annotations__["return"], vars(sys.modules[method.__module__]))
    return kind if is_typeddict(kind) else None


def form(kind: Any) -> object:
    """Return the form that values of a type have as JSON data; limits, and how they are written, do not count."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated or origin is NotRequired:
        return form(arguments[0])
    if origin is Union or origin is types.UnionType:
        return frozenset().union(*(each if isinstance(each := form(a), frozenset) else {each} for a in arguments))
    if origin is Literal:
        return frozenset((type(value).__name__, value) for value in arguments)
    if origin in (tuple, list, Sequence):
        items = {form(argument) for argument in arguments if argument is not Ellipsis}
        return ("list", *items)
    if origin in (dict, Mapping):
        return ("table", form(arguments[1]))
    if isinstance(kind, type) and issubclass(kind, Table):
        return form(settings_type(kind)) if settings_type(kind) else kind.__name__
    if kind is bool:
        return form(Literal[False, True])
    return "anything" if kind in (Any, object) else getattr(kind, "__name__", kind)


WITH_SETTINGS = [table for table in tables() if settings_type(table) is not None]


def test_there_are_tables_with_settings() -> None:
    assert len(WITH_SETTINGS) > 20
    others = {table.__name__ for table in tables() if table not in WITH_SETTINGS}
    assert others == {
        *("ProjectFile", "ProjectTable", "ClassTable", "BundleTable"),
        *(
            "ScenesTable",
            "PatternTable",
            "SplitTable",
            "SceneTable",
            "LayerTable",
            "DraftTable",
            "ReviewTable",
            "SuggestTable",
        ),
        *("BoxFileTable", "CocoTable", "VocTable", "CsvTable"),
    }, "a table of stage settings declares their type as what `stage_settings` returns"


def test_the_fields_of_box_files_are_keys_of_their_settings() -> None:
    fields = {info.alias or name for name, info in BoxFileTable.model_fields.items()}
    assert fields | {"kind", "image", "scene_image", "origin_px"} == set(get_type_hints(BoxFileSettings))


@pytest.mark.parametrize("table", WITH_SETTINGS, ids=lambda table: table.__name__)
def test_the_fields_of_a_table_are_the_keys_of_its_settings(table: type[Table]) -> None:
    kind = settings_type(table)
    fields = {
        info.alias or name: (name, info) for name, info in table.model_fields.items() if name not in table.not_settings
    }
    keys = get_type_hints(kind, include_extras=True)
    assert set(keys) - set(fields) == listed(ADDED, table)
    assert set(fields) - set(keys) == listed(ELSEWHERE, table)
    for key in set(fields) & set(keys) - listed(CHANGED, table):
        name, info = fields[key]
        may_be_missing = get_origin(keys[key]) is NotRequired or not kind.__total__
        assert may_be_missing == (name in table.omitted_defaults), key
        expected = form(info.annotation)
        if may_be_missing and info.default is None:  # which is then not there
            assert isinstance(expected, frozenset)
            expected = expected - {"NoneType"}
        assert any_of(form(keys[key])) == any_of(expected), key


def any_of(kind: object) -> frozenset[object]:
    return kind if isinstance(kind, frozenset) else frozenset({kind})
