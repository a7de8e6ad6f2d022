"""The starter project that `rvbuild new` writes: commented, and valid as it is."""

from __future__ import annotations

from rvbuild.errors import UsageError
from rvbuild.project.tables.general import task_problem
from rvbuild.project.toml.names import RESERVED_PROJECTS, name_problem

_SEGMENTATION = """\
# {name}: a project of rvbuild. Check it with `rvbuild check`, build it with `rvbuild build`.
# Paths are relative to the directory that holds projects/, or else to the directory of this file.
# {{id}} is replaced by the scene's id; ${{NAME}} and ${{NAME:-default}} read the environment.
# A key that is commented out shows its default, unless it says otherwise.

[project]
task = "{task}"
# name = "{name}"                   # default: the name of this file
# seed = 0                          # same seed and inputs, same bytes
# data_hint = "make data"           # no default; shown when files are missing

[classes]                           # order gives the class ids; a pixel without a label is "null", which is added
background = "#808080"
building   = "#ff0000"

[scenes]
train      = ["a", "b"]             # ids of your scenes
validation = ["c"]
test       = []                     # predicted, and evaluated if they have labels
# validation = {{ fraction = 0.2, by = "block", block_px = 1200 }}       # instead: a fifth of each scene to train on

# [scenes.by_id."c"]                # any key of [scene], for one scene
# image = "elsewhere/c.tif"

[scene]                             # what every scene has
image = "data/{{id}}.tif"             # a path, a list of paths (one mosaic), or {{ files = [...], nodata = 0 }}
# channels = [0, 1, 2]              # default: every band that is not alpha

# Labels: a raster of class ids (encoding = "id") or of class colours (encoding = "rgb") on the grid of the image …
labels = {{ raster = "data/{{id}}_label.tif", encoding = "id" }}
# … or a vector file, in any format and CRS:
# labels = {{ vector = "data/{{id}}.geojson", class = "building", background = "background", where = "height > 3" }}

# aoi = "data/{{id}}_aoi.geojson"     # polygons; chips, predictions and scores keep to them

[chip]
size_px = 300
# stride_px = 300                   # default: size_px
# method = "sliding"                # or "random", with per_scene = 100 and size_limits_px = [200, 400]
# max_nodata = 1.0                  # drop a chip whose share of pixels without data reaches this
# store = true                      # false: no pixel is copied, training reads the scenes; the model is the same
# keep = {{ classes = ["building"], min_px = 1000, otherwise = 0.1 }}    # default: keep all chips

[train]
model      = "deeplabv3_resnet50"   # "unet" (with pretrained = false) trains from scratch in minutes
epochs     = 10
batch_size = 8
lr         = 1e-4
# pretrained = true                 # or false, or a path to weights
# optimizer = "adam"                # or "adamw", "sgd"
# schedule = "one_cycle"            # or "cosine", "step" (with step_epochs = [6, 9]), "constant"
# class_weights = "none"            # or "balanced", or {{ building = 2.0 }}
# augment = ["flip", "rotate90"]    # and "brightness", "contrast"
# select = "last"                   # or "best", on the validation scenes
# patience = 0                      # stop after so many epochs without a better score; 0 never stops early

[predict]
# stride_px = 150                   # overlaps the windows; default: chip.size_px
# blend = "mean"                    # or "none", "cosine"
# scores = false                    # or "float32", "uint8"
vectors = [{{ class = "building" }}]  # polygons; format = "geojson" or "gpkg"

# [eval]
# splits = ["validation", "test"]
"""

_CLASSIFICATION = """\
# {name}: a project of rvbuild. Check it with `rvbuild check`, build it with `rvbuild build`.
# Paths are relative to the directory that holds projects/, or else to the directory of this file.
# {{id}} is replaced by the scene's id; ${{NAME}} and ${{NAME:-default}} read the environment.
# A key that is commented out shows its default, unless it says otherwise.

[project]
task = "{task}"      # a class for every cell of a grid
# name = "{name}"                   # default: the name of this file
# seed = 0                          # same seed and inputs, same bytes
# data_hint = "make data"           # no default; shown when files are missing

[classes]                           # order gives the class ids; a cell without a label is "null", which is added
background = "#808080"
building   = "#ff0000"

[scenes]
train      = ["a", "b"]             # ids of your scenes
validation = ["c"]
test       = []                     # predicted, and evaluated if they have labels
# validation = {{ fraction = 0.2, by = "block", block_px = 1200 }}       # instead: a fifth of each scene to train on

# [scenes.by_id."c"]                # any key of [scene], for one scene
# image = "elsewhere/c.tif"

[scene]                             # what every scene has
image = "data/{{id}}.tif"             # a path, a list of paths (one mosaic), or {{ files = [...], nodata = 0 }}
# channels = [0, 1, 2]              # default: every band that is not alpha

# Labels: a vector file, in any format and CRS. A cell has the class that covers most of it …
labels = {{ vector = "data/{{id}}.geojson", class = "building", background = "background", cell_px = 200 }}
# … or, with rule = "ioa" and ioa_thresh = 0.5, that of a feature of which enough lies in it. With cells = "polygons",
# the bounds of each feature are a cell. Or a raster of class ids or colours; a cell has the class of most pixels:
# labels = {{ raster = "data/{{id}}_label.tif", encoding = "id", cell_px = 200 }}

# aoi = "data/{{id}}_aoi.geojson"     # polygons; training cells lie in them, others have their centre in them

[chip]                              # size_px: what cells are resampled to; default: cell_px, as they are
# stride_px = 200                   # less than cell_px overlaps the cells to train on; default: cell_px
# method = "sliding"                # or "random", with per_scene = 100 and size_limits_px = [150, 250]
# max_nodata = 1.0                  # drop a chip whose share of pixels without data reaches this
# store = true                      # false: no pixel is copied, training reads the scenes; the model is the same
# keep = {{ classes = ["building"], otherwise = 0.1 }}    # default: keep all chips

[train]
model      = "resnet18"             # any classifier of torchvision; "cnn" (with pretrained = false) trains in minutes
epochs     = 10
batch_size = 8
lr         = 1e-4
# pretrained = true                 # or false, or a path to weights
# optimizer = "adam"                # or "adamw", "sgd"
# schedule = "one_cycle"            # or "cosine", "step" (with step_epochs = [6, 9]), "constant"
# class_weights = "none"            # or "balanced", or {{ building = 2.0 }}
# augment = ["flip", "rotate90"]    # and "brightness", "contrast"
# select = "last"                   # or "best", on the validation scenes, by select_metric = "accuracy" or "mean_f1"
# patience = 0                      # stop after so many epochs without a better score; 0 never stops early

[predict]
# cells = "geojson"                 # or "gpkg": the cells with their classes and scores
# scores = false                    # or "float32", "uint8": a raster too, a pixel for each cell
# rgb = false

# [eval]
# splits = ["validation", "test"]
"""

_DETECTION = """\
# {name}: a project of rvbuild. Check it with `rvbuild check`, build it with `rvbuild build`.
# Paths are relative to the directory that holds projects/, or else to the directory of this file.
# {{id}} is replaced by the scene's id; ${{NAME}} and ${{NAME:-default}} read the environment.
# A key that is commented out shows its default, unless it says otherwise.

[project]
task = "{task}"         # a box around every object
# name = "{name}"                   # default: the name of this file
# seed = 0                          # same seed and inputs, same bytes
# data_hint = "make data"           # no default; shown when files are missing

[classes]                           # order gives the class ids; one class is enough
building = "#ff0000"
car      = "#ffff00"

[scenes]
train      = ["a", "b"]             # ids of your scenes
validation = ["c"]
test       = []                     # predicted, and evaluated if they have labels

# [scenes.by_id."c"]                # any key of [scene], for one scene
# image = "elsewhere/c.tif"

[scene]                             # what every scene has
image = "data/{{id}}.tif"             # a path, a list of paths (one mosaic), or {{ files = [...], nodata = 0 }}
# channels = [0, 1, 2]              # default: every band that is not alpha

# Labels: a vector file, in any format and CRS. The bounds of a feature are the box of an object …
labels = {{ vector = "data/{{id}}.geojson", class_attribute = "kind" }}
# … or boxes in pixels: COCO JSON, Pascal VOC XML, or CSV with image_path, xmin, ymin, xmax, ymax, label:
# labels = {{ coco = "data/boxes.json" }}
# labels = {{ voc = "data/{{id}}.xml" }}
# labels = {{ csv = "data/boxes.csv", class = "building" }}

# aoi = "data/{{id}}_aoi.geojson"     # polygons; training chips lie in them, boxes have their centre in them

[chip]
size_px = 300                       # at least twice the size of an object
# stride_px = 300                   # default: size_px; 150 shows each object whole in some chip
# method = "sliding"                # or "random", with per_scene = 100 and size_limits_px = [200, 400]
# ioa_thresh = 0.8                  # a box is learnt in the chips that show this share of it
# clip = false                      # whether boxes end at the edge of their chip
# neg_ratio = 1.0                   # chips without a box for each one with; default: all chips
# max_nodata = 1.0                  # drop a chip whose share of pixels without data reaches this
# store = true                      # false: no pixel is copied, training reads the scenes; the model is the same

[train]
model      = "fasterrcnn_resnet50_fpn"  # or with resnet18, or retinanet_…, fcos_…, ssdlite_mobilenet_v3_large
epochs     = 10
batch_size = 8
lr         = 1e-4
# model_args = {{ anchor_px = [16, 32, 64, 128, 256] }}    # default: twice as large; smaller ones find smaller objects
# pretrained = true                 # or false, or a path to weights
# optimizer = "adam"                # or "adamw", "sgd"
# schedule = "one_cycle"            # or "cosine", "step" (with step_epochs = [6, 9]), "constant"
# augment = ["flip", "rotate90"]    # and "brightness", "contrast"
# select = "last"                   # or "best", on the validation scenes, by select_metric = "mean_ap50" or "mean_ap"
# patience = 0                      # stop after so many epochs without a better score; 0 never stops early

[predict]
# stride_px = 150                   # default: half of chip.size_px, so that each object is seen whole
# score_thresh = 0.5                # boxes below are left out; changing it runs no model
# merge_thresh = 0.5                # of boxes that overlap by more, the best stays; changing it runs no model
# boxes = "geojson"                 # or "gpkg"

# [eval]
# iou_thresh = 0.5                  # a box is right that overlaps a label by more
# splits = ["validation", "test"]
"""

_STARTERS = {
    "semantic_segmentation": _SEGMENTATION,
    "chip_classification": _CLASSIFICATION,
    "object_detection": _DETECTION,
}


def starter(name: str, task: str) -> str:
    """Return the text of a new project file.

    Parameters
    ----------
    name
        The project's name.
    task
        Its task.

    Raises
    ------
    UsageError
        If the name cannot be a file name, or the task is not supported.
    """
    problem = name_problem(name, RESERVED_PROJECTS)
    if problem:
        raise UsageError(f"project name: {problem}")
    problem = task_problem(task)
    if problem:
        raise UsageError(f"task: {problem}")
    return _STARTERS[task].format(name=name, task=task)
