"""What a good project file becomes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.errors import ProjectError
from rvbuild.project.load import load
from rvbuild.project.missing import missing_files
from rvbuild.project.model import Project, RasterLabels, Scene, VectorLabels

Loader = Callable[..., Project]

POTSDAM = """\
[project]
task = "semantic_segmentation"      # chip_classification | object_detection | semantic_segmentation
# name defaults to the file's stem: potsdam

[classes]                           # order gives the class ids
car            = "#ffff00"
building       = "#0000ff"
low_vegetation = "#00ffff"
tree           = "#00ff00"
impervious     = "#ffffff"
clutter        = "#ff0000"

[scenes]
train      = ["2_10", "2_11"]
validation = ["2_12"]
test       = []

[scene]                             # what every scene has; [scenes.by_id."2_12"] overrides one
image    = "${POTSDAM:-data/potsdam}/4_Ortho_RGBIR/top_potsdam_{id}_RGBIR.tif"
channels = [3, 0, 1]
labels   = { raster = "${POTSDAM:-data/potsdam}/5_Labels/top_potsdam_{id}_label.tif", encoding = "rgb" }

[chip]
size_px = 300

[train]
model      = "deeplabv3_resnet50"
epochs     = 10
batch_size = 8
lr         = 1e-4

[predict]
stride_px = 150
vectors   = [{ class = "car" }]
"""


def test_the_example(workspace: Path) -> None:
    path = Path("projects/potsdam.toml")
    path.write_text(POTSDAM)
    project = load(path, environ={"POTSDAM": "/big", "HOME": "/root"})
    assert project.path == workspace / "projects" / "potsdam.toml"
    assert project.workspace == workspace
    assert (project.name, project.task, project.seed, project.strict) == ("potsdam", "semantic_segmentation", 0, ())
    assert [(c.id, c.name, c.color) for c in project.classes] == [
        (0, "car", "#ffff00"),
        (1, "building", "#0000ff"),
        (2, "low_vegetation", "#00ffff"),
        (3, "tree", "#00ff00"),
        (4, "impervious", "#ffffff"),
        (5, "clutter", "#ff0000"),
        (6, "null", "#000000"),
    ]
    assert (project.null_class, project.null_id) == ("null", 6)
    assert [(s.id, s.split) for s in project.scenes] == [("2_10", "train"), ("2_11", "train"), ("2_12", "validation")]
    scene = project.scenes[0]
    assert scene.image.files == ("/big/4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif",)
    assert scene.channels == (3, 0, 1)
    assert isinstance(scene.labels, RasterLabels)
    assert scene.labels.files == ("/big/5_Labels/top_potsdam_2_10_label.tif",)
    assert scene.aoi == ()
    assert project.env == {"POTSDAM": "/big"}
    assert load(path, environ={}).env == {"POTSDAM": None}


def test_slices_hold_all_defaults(loaded: Loader, base: str) -> None:
    project = loaded(base)
    scene = project.scenes[0]
    assert scene.labels is not None
    assert scene.image.stage_settings() == {"nodata": None}
    assert scene.labels.stage_settings() == {
        "kind": "raster",
        "encoding": "id",
        "map": None,
        "other": "error",
        "nodata": None,
        "resample": "error",
    }
    assert project.file.analyze.stage_settings() == {"sample": 1.0}
    assert project.chip.stage_settings() == {
        "size_px": 300,
        "stride_px": 300,
        "method": "sliding",
        "per_scene": 100,
        "size_limits_px": None,
        "within_aoi": True,
        "max_nodata": 1.0,
        "keep": None,
    }
    assert project.train.stage_settings() == {
        "model": "deeplabv3_resnet50",
        "model_args": {},
        "pretrained": True,
        "epochs": 10,
        "batch_size": 8,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "momentum": 0.9,
        "lr": 1e-4,
        "schedule": "one_cycle",
        "step_epochs": [],
        "class_weights": "none",
        "loss": "cross_entropy",
        "loss_args": {},
        "augment": ["flip", "rotate90"],
        "select": "last",
        "select_metric": "mean_iou",
        "patience": 0,
        "max_stds": 3.0,
        "device": "auto",
        "amp": "auto",
        "workers": 0,
    }
    assert project.predict.stage_settings() == {
        "stride_px": 300,
        "batch_size": 8,
        "blend": "mean",
        "scores": False,
        "rgb": False,
        "vectors": [],
        "device": "auto",
    }
    assert project.eval.stage_settings() == {}
    assert project.eval.splits == ("validation", "test")
    assert project.file.bundle.stage_settings() == {}


def test_the_card_is_in_no_key_and_threads_are_where_they_are_given(loaded: Loader, base: str) -> None:
    project = loaded(base + '[train]\ndevice = "cuda:1"\nthreads = 2\n[predict]\ndevice = "cuda:0"\n')
    assert project.train.device == "cuda:1" and project.train.stage_settings()["device"] == "cuda"
    assert project.predict.device == "cuda:0" and project.predict.infer_settings()["device"] == "cuda"
    assert project.train.stage_settings()["threads"] == 2
    assert "threads" not in loaded(base).train.stage_settings()


def test_slices_of_what_is_given(loaded: Loader, base: str) -> None:
    labels = (
        '{ vector = ["a.gpkg", "{id}.gpkg"], class_attribute = "kind", class_map = { x = "car" }, unknown = "null", '
        "buffer_px = { Point = 3 } }"
    )
    text = base.replace('{ raster = "data/{id}_label.tif" }', labels)
    project = loaded(
        text + '[chip]\nkeep = { classes = ["car"] }\n'
        '[predict]\nscores = "uint8"\nvectors = [{ class = "car", format = "gpkg", denoise_px = 8 }]\n'
        '[train]\nclass_weights = { tree = 2 }\nmodel = "my.models:make"\nmodel_args = { width = [1, 2] }\nlr = 1\n'
        "[bundle]\nonnx = false\n"
    )
    scene = project.scenes[0]
    assert isinstance(scene.labels, VectorLabels)
    assert scene.labels.files == ("a.gpkg", "a.gpkg")
    assert scene.labels.stage_settings() == {
        "kind": "vector",
        "layer": None,
        "class": None,
        "class_attribute": "kind",
        "class_map": {"x": "car"},
        "background": None,
        "all_touched": False,
        "buffer_px": {"Point": 3.0, "LineString": 1.0},
        "unknown": "null",
    }
    assert project.chip.stage_settings()["keep"] == {"classes": ["car"], "min_px": 1000, "otherwise": 0.1}
    assert project.predict.stage_settings()["vectors"] == [
        {
            "class": "car",
            "format": "gpkg",
            "min_area_units": 0.0,
            "simplify_px": 0.0,
            "denoise_px": 8,
        }
    ]
    train = project.train.stage_settings()
    assert train["class_weights"] == {"car": 1.0, "tree": 2.0}
    assert train["model_args"] == {"width": [1, 2]}
    assert train["pretrained"] is False
    assert isinstance(train["lr"], float)
    for table in (project.chip, project.train, project.predict, scene.labels, scene.image):
        json.dumps(table.stage_settings(), allow_nan=False)


def test_map_keys_have_one_spelling(loaded: Loader, base: str) -> None:
    text = base.replace('"data/{id}_label.tif"', '"x{id}", map = { 01 = "car", +2 = "tree", -9999 = "null" }')
    with pytest.raises(ProjectError):
        loaded(text)  # "+2" is no bare key
    labels = loaded(text.replace("+2", '"+2"')).scenes[0].labels
    assert labels is not None
    assert labels.stage_settings()["map"] == {"1": "car", "2": "tree", "-9999": "null"}


def test_key_order_does_not_matter(loaded: Loader, base: str) -> None:
    first = loaded(
        base + "[train]\nlr = 1e-3\nepochs = 3\n[chip]\nsize_px = 64\nkeep = { min_px = 3, classes = ['car'] }\n"
    )
    second = loaded(
        base + "[chip]\nkeep = { classes = ['car'], min_px = 3 }\nsize_px = 64\n[train]\nepochs = 3\nlr = 1e-3\n"
    )
    for name in ("train", "chip", "predict"):
        assert json.dumps(getattr(first, name).stage_settings()) == json.dumps(getattr(second, name).stage_settings())


def test_null_class(loaded: Loader, base: str) -> None:
    named = loaded(base.replace('car = "#ffff00"', 'car = "#ffff00"\nvoid = "#123456"'), ["project.null_class=void"])
    assert [c.name for c in named.classes] == ["car", "void", "tree"]
    assert named.null_id == 1
    own = loaded(base.replace('car = "#ffff00"', 'null = "#FFF"\ncar = "#ffff00"'))
    assert [(c.name, c.color) for c in own.classes] == [("null", "#ffffff"), ("car", "#ffff00"), ("tree", "#00ff00")]
    assert own.null_id == 0
    black = loaded(base.replace("#ffff00", "#000000"))
    assert (black.classes[2].name, black.classes[2].color) == ("null", "#000001")


def test_most_classes(loaded: Loader, problems: Callable[..., list[str]], base: str) -> None:
    def text(count: int) -> str:
        listed = "\n".join(f'c{n} = "#{n + 1:06x}"' for n in range(count))
        return base.replace('car = "#ffff00"\ntree = "#00ff00"', listed)

    assert len(loaded(text(254)).classes) == 255
    assert problems(text(255)) == [
        'projects/p.toml:4: classes: 255 classes; an 8-bit label raster has room for at most 254 besides "null"'
    ]


def test_overrides_of_one_scene(loaded: Loader, base: str) -> None:
    project = loaded(
        base.replace('["c"]', '["c"]\ntest = ["d"]')
        + 'aoi = "data/{id}_aoi.geojson"\n'
        + '[scenes.by_id.b]\nimage = { files = ["x.tif", "y_{id}.tif"], nodata = [0, 255] }\naoi = []\n'
        + '[scenes.by_id.c]\nlabels = { vector = "{id}.shp", class = "car", background = "tree" }\n'
        + "[scenes.by_id.d]\nlabels = false\nimage.files = 'z.tif'\nimage.nodata = 0\n"
    )
    a, b, c, d = project.scenes
    assert (a.image.files, a.aoi) == (("data/a.tif",), ("data/a_aoi.geojson",))
    assert b.image.files == ("x.tif", "y_b.tif")
    assert b.image.stage_settings() == {"nodata": [0.0, 255.0]}
    assert b.aoi == ()
    assert isinstance(a.labels, RasterLabels)
    assert b.labels == RasterLabels(("data/b_label.tif",), a.labels.table)
    assert isinstance(c.labels, VectorLabels)
    assert (d.split, d.labels, d.image.stage_settings()) == ("test", None, {"nodata": 0.0})


def test_chips_of_one_scene_are_cut_in_their_own_way(loaded: Loader, base: str) -> None:
    project = loaded(
        base
        + '[chip]\nsize_px = 40\nkeep = { classes = ["car"], otherwise = 0.5 }\n'
        + '[scenes.by_id.b]\nchip = { method = "random", per_scene = 7, padding_px = [3, 0] }\n'
        + "[scenes.by_id.c]\nchip.stride_px = [20, 10]\nchip.pad_direction = 'both'\n"
    )
    a, b, c = project.scenes
    assert a.chip is None
    assert b.chip is not None
    assert c.chip is not None
    plain = project.chip.stage_settings()
    assert b.chip.stage_settings() == {**plain, "method": "random", "per_scene": 7, "padding_px": [3, 0]}
    assert c.chip.stage_settings() == {**plain, "stride_px": [20, 10], "pad_direction": "both"}


def test_a_default_written_out_is_no_other_setting(loaded: Loader, base: str) -> None:
    text = "[chip]\npad_direction = 'end'\nstride_px = 300\nwithin_aoi = true\n"
    assert loaded(base + text).chip.stage_settings() == loaded(base).chip.stage_settings()


def test_no_value_may_be_nodata(loaded: Loader, base: str) -> None:
    project = loaded(base.replace('"data/{id}.tif"', '{ files = "{id}.tif", nodata = [] }'))
    assert project.scenes[0].image.stage_settings() == {"nodata": []}


def test_labels_without_a_class_use_the_usual_attributes(loaded: Loader, base: str) -> None:
    labels = loaded(base.replace('raster = "data/{id}_label.tif"', 'vector = "{id}.geojson"')).scenes[0].labels
    assert labels is not None
    assert (labels.stage_settings()["class"], labels.stage_settings()["class_attribute"]) == (None, None)


def test_one_image_can_be_split_by_area(loaded: Loader, base: str) -> None:
    text = base.replace('"data/{id}.tif"', '"all.tif"\naoi = "{id}.geojson"').replace(
        "data/{id}_label.tif", "labels.tif"
    )
    assert {scene.image.files for scene in loaded(text).scenes} == {("all.tif",)}


def test_weights(loaded: Loader, base: str) -> None:
    project = loaded(base + '[train]\nmodel = "unet"\npretrained = "${W:-weights}/x.pth"\n', environ={"W": "/w"})
    assert project.train.weights == project.train.stage_settings()["pretrained"] == "/w/x.pth"
    assert project.env == {"W": "/w"}
    assert loaded(base + '[train]\nmodel = "unet"\n').train.stage_settings()["pretrained"] is False


def test_a_project_is_frozen(loaded: Loader, base: str) -> None:
    project = loaded(base)
    with pytest.raises(AttributeError):
        project.name = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        project.train.lr = 3


def test_the_process_environment_is_the_default(workspace: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    path = Path("projects/p.toml")
    path.write_text(base.replace("data/{id}.tif", "${RVBUILD_TEST}/{id}.tif"))
    monkeypatch.setenv("RVBUILD_TEST", "/x")
    assert load(path).scenes[0].image.files == ("/x/a.tif",)


def test_the_name_comes_from_the_file(workspace: Path, base: str) -> None:
    for name in ("a b.c.toml", "Potsdam.toml"):
        Path(name).write_text(base)
        assert load(Path(name)).name == name.removesuffix(".toml")
    path = Path("projects/store.toml")
    path.write_text(base)
    with pytest.raises(ProjectError) as caught:
        load(path)
    assert caught.value.problems == (
        'projects/store.toml:1: project.name: the file\'s name is not usable: "store" is reserved: rvbuild keeps '
        "its own files in cache/store; choose another name; set project.name",
    )


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("projects/*.toml")), ids=lambda path: path.stem)
def test_projects_that_come_with_rvbuild(path: Path) -> None:
    try:
        project = load(path, environ={})
    except ProjectError as error:  # its scenes are found by files that are not there
        (problem,) = error.problems
        assert "scenes.train.files: no file matches" in problem and "offers it at" in problem
    else:
        assert project.data_hint or not missing_files(project)


def test_nothing_heavy_is_imported() -> None:
    heavy = ("numpy", "torch", "torchvision", "rasterio", "fiona", "shapely", "doit")
    code = f"import sys, rvbuild.project; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_many_scenes_are_quick(loaded: Loader, base: str) -> None:
    ids = [f"s{number}" for number in range(5000)]
    project = loaded(base.replace('["a", "b"]', json.dumps(ids)))
    assert len(project.scenes) == 5001


# Whatever is wrong, it is said in messages.

WORDS = st.text(min_size=1, max_size=4) | st.sampled_from(
    [
        *(
            "project",
            "task",
            "name",
            "null_class",
            "classes",
            "car",
            "scenes",
            "train",
            "validation",
            "fraction",
            "folds",
            "where",
            "class_where",
            "shift_m",
            "by_id",
            "a",
            "b",
        ),
        *("scene", "image", "files", "nodata", "channels", "labels", "raster", "vector", "class", "map", "buffer_px"),
        *("Point", "aoi", "analyze", "chip", "size_px", "stride_px", "keep", "model", "lr", "class_weights", "augment"),
        *("pretrained", "step_epochs", "select", "patience", "predict", "scores", "vectors", "eval", "bundle"),
        *("<raster>", "<paths>"),
    ]
)
ANY = st.recursive(
    st.one_of(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.dates(),
        st.text(max_size=5),
        st.sampled_from(["a", "car", "{id}", "${X}", "#ff0000", "unet", "best", "random", "rgb"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)


def toml(value: object) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=4), ANY), min_size=1, max_size=4), st.booleans())
def test_whatever_is_written_no_traceback(
    workspace: Path, base: str, edits: list[tuple[list[str], object]], override: bool
) -> None:
    path = Path("projects/p.toml")
    assignments = [f"{'.'.join(map(toml, key))}={toml(value)}" for key, value in edits]
    overrides = assignments if override else []
    path.write_text(base if override else "\n".join(assignments), encoding="utf-8")
    try:
        load(path, overrides, {})
    except ProjectError as error:
        assert error.problems
        assert all(line.startswith(("projects/p.toml:", "--set ")) for line in error.problems)
        assert len(set(error.problems)) == len(error.problems)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["chip", "train", "predict", "eval", "scene", "scenes", "project"]), st.text(min_size=1, max_size=6)
)
def test_every_unknown_key_is_named(workspace: Path, base: str, table: str, key: str) -> None:
    path = Path("projects/p.toml")
    path.write_text(f"{table}.{toml(key)} = 3\n", encoding="utf-8")
    with pytest.raises(ProjectError) as caught:
        load(path, environ={})
    assert any(line.startswith(f"projects/p.toml:1: {table}.") for line in caught.value.problems)


RASTER = '{ raster = "data/{id}_label.tif" }'


def test_filters_have_one_form_and_their_order_counts(loaded: Loader, base: str) -> None:
    def slice_of(where: str, class_where: str) -> dict[str, Any]:
        text = base.replace(RASTER, f'{{ vector = "x", where = {where}, class_where = {class_where} }}')
        labels = loaded(text).scenes[0].labels
        assert labels is not None
        return labels.stage_settings()

    first = slice_of('"height > 3"', """{ tree = "kind = 'a'", car = ["has", "kind"] }""")
    assert first["where"] == [">", "height", 3]
    assert first["class_where"] == [("tree", ["==", "kind", "a"]), ("car", ["has", "kind"])]
    assert slice_of('[">", "height", 3]', """{ tree = ["==", "kind", "a"], car = "kind IS NOT NULL" }""") == first
    assert slice_of('"height > 3"', """{ car = "kind IS NOT NULL", tree = "kind = 'a'" }""") != first


def test_widths_by_class_are_filled_in(loaded: Loader, base: str) -> None:
    buffers = "{ LineString = { car = 4 }, Polygon = { tree = -1 } }"
    labels = loaded(base.replace(RASTER, f'{{ vector = "x", buffer_px = {buffers} }}')).scenes[0].labels
    assert labels is not None
    assert labels.stage_settings()["buffer_px"] == {
        "Point": 1.0,
        "LineString": {"car": 4.0, "tree": 1.0, "null": 1.0},
        "Polygon": {"car": 0.0, "tree": -1.0, "null": 0.0},
    }


def test_labels_of_several_tables(loaded: Loader, base: str) -> None:
    first = '{ vector = ["{id}_a.gpkg", "{id}_b.gpkg"], layer = "roads", class = "car" }'
    second = '{ vector = "{id}_c.geojson", shift_m = [1, 0.5], background = "tree" }'
    project = loaded(base.replace(RASTER, f"[{first}, {second}]"))
    scene = project.scenes[0]
    assert isinstance(scene.labels, VectorLabels)
    assert scene.labels.files == ("a_a.gpkg", "a_b.gpkg", "a_c.geojson")
    settings = scene.labels.stage_settings()
    assert (settings["kind"], settings["background"]) == ("vector", "tree")
    assert [(part["files"], part["layer"], part["class"]) for part in settings["parts"]] == [
        (2, "roads", "car"),
        (1, None, None),
    ]
    assert settings["parts"][1]["shift_m"] == [1, 0.5]
    assert [written.where for written in project.written["a", "labels"]] == [
        "projects/p.toml:14: scene.labels[0].vector[0]",
        "projects/p.toml:14: scene.labels[0].vector[1]",
        "projects/p.toml:14: scene.labels[1].vector",
    ]


def test_an_area_of_interest_of_several_tables(loaded: Loader, base: str) -> None:
    def scene(aoi: str) -> Scene:
        return loaded(base + f"aoi = {aoi}\n").scenes[0]

    assert (scene('["{id}.json", "b.json"]').aoi, scene('"{id}.json"').aoi) == (("a.json", "b.json"), ("a.json",))
    assert scene('["{id}.json", "b.json"]').aoi_parts == ()
    assert scene('{ vector = "{id}.json" }').aoi_parts == ()
    several = scene("""["{id}.json", { vector = "b.gpkg", layer = "areas", where = "use = 'train'" }]""")
    assert several.aoi == ("a.json", "b.gpkg")
    assert several.aoi_parts == ({"files": 1}, {"files": 1, "layer": "areas", "where": ["==", "use", "train"]})


def test_arguments_of_losses_have_one_spelling_and_no_defaults(loaded: Loader, base: str) -> None:
    def train_settings(text: str) -> dict[str, Any]:
        return loaded(base + f"[train]\n{text}\n").train.stage_settings()

    plain = train_settings('loss = "focal"')
    assert plain["loss_args"] == {}
    assert train_settings('loss = "focal"\nloss_args = { gamma = 2 }') == plain
    assert train_settings('loss = "focal"\nloss_args = { gamma = 3 }')["loss_args"] == {"gamma": 3.0}
    own = train_settings('loss = "mine.losses:make"\nloss_args = { gamma = 2, classes = ["car"] }')
    assert own["loss_args"] == {"gamma": 2, "classes": ["car"]}, "what a factory of the user's takes is left alone"
