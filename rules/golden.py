"""The golden projects, one for each task: every stage runs on tiny seeded data, and its outputs are digested.

They tell changes of code that change results from those that do not; see `lock`.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from rvbuild.cores import cores
from rvbuild.engine.keys.artifact import digest
from rvbuild.engine.keys.signature import hash_file

_CLASSES = """
[classes]
car = "#ffff00"
building = "#0000ff"
low_vegetation = "#00ffff"
tree = "#00ff00"
impervious = "#ffffff"
clutter = "#ff0000"
[scenes]
train = ["2_10", "2_11"]
validation = ["2_12"]
"""

_SEGMENTATION = """
[scene]
image = "data/4_Ortho_RGBIR/top_potsdam_{id}_RGBIR.tif"
channels = [3, 0, 1]
labels = { raster = "data/5_Labels_for_participants/top_potsdam_{id}_label.tif", encoding = "rgb" }
[chip]
size_px = 32
stride_px = 24
[train]
model = "unet"
model_args = { width = 4, depth = 2 }
pretrained = false
epochs = 2
batch_size = 4
augment = ["flip", "rotate90", "brightness", "contrast"]
class_weights = "balanced"
[predict]
stride_px = 16
blend = "cosine"
scores = "uint8"
rgb = true
mosaic = "cog"
[[predict.vectors]]
class = "building"
format = "gpkg"
simplify_px = 1.0
[[predict.vectors]]
class = "tree"
[[predict.vectors]]
class = "building"
kind = "buildings"
file = "outlines.fgb"
[[predict.vectors]]
class = "car"
kind = "points"
"""

_CELLS = """
[scene]
image = "data/4_Ortho_RGBIR/top_potsdam_{id}_RGBIR.tif"
channels = [3, 0, 1]
[scene.labels]
raster = "data/5_Labels_for_participants/top_potsdam_{id}_label.tif"
encoding = "rgb"
cell_px = 13
[chip]
size_px = 16
stride_px = 7
[train]
model = "cnn"
model_args = { width = 4, depth = 2 }
epochs = 2
batch_size = 4
augment = ["flip", "rotate90", "brightness", "contrast"]
class_weights = "balanced"
[predict]
scores = "float32"
rgb = true
cells = "gpkg"
"""

_BOXES = """
[scene]
image = "data/4_Ortho_RGBIR/top_potsdam_{id}_RGBIR.tif"
channels = [3, 0, 1]
labels = { csv = "boxes.csv", class_map = { Car = "car", House = "building" } }
[chip]
size_px = 48
stride_px = 24
ioa_thresh = 0.6
clip = true
neg_ratio = 0.5
[train]
model = "fasterrcnn_resnet18_fpn"
model_args = { fpn_channels = 8, head_channels = 8, rois = 16, proposals = 20, anchor_px = [6, 12, 24, 48, 96] }
pretrained = false
epochs = 2
batch_size = 4
augment = ["flip", "rotate90", "brightness", "contrast"]
[predict]
score_thresh = 0.2
boxes = "gpkg"
"""

_BOXES_CSV = "image_path,xmin,ymin,xmax,ymax,label\n" + "".join(
    f"top_potsdam_2_{scene}_RGBIR.tif,{x},{y},{x + 11.5},{y + side},{label}\n"
    for scene in (10, 11, 12)
    for x, y, side, label in ((3, 5, 9, "Car"), (30.25, 20, 17, "House"), (60, 71, 12, "Car"), (88, 40, 14, "House"))
)

_PROJECTS = {"semantic_segmentation": _SEGMENTATION, "chip_classification": _CELLS, "object_detection": _BOXES}

TASKS = tuple(_PROJECTS)


def project(task: str) -> str:
    """Return the project file of a task."""
    return f'[project]\ntask = "{task}"\n{_CLASSES}{_PROJECTS[task]}'


def machine() -> str:
    """Return what golden outputs depend on besides code: the processor and the versions of numerical packages."""
    packages = ("numpy", "rasterio", "fiona", "shapely", "torch", "torchvision", "pillow")
    versions = " ".join(f"{name}={metadata.version(name)}" for name in packages)
    return f"{platform.machine()} {_processor()} {cores()} cores {versions}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def outputs() -> dict[str, str]:
    """Build each golden project in a new directory; return "stage/task" -> digest of all outputs of the stage."""
    digest_of: dict[str, str] = {}
    for task in TASKS:
        with tempfile.TemporaryDirectory(prefix="rvbuild-golden-") as directory:
            root = Path(directory)
            run = [sys.executable, "-m"]
            data = [*run, "rvbuild.data.samples", "potsdam", str(root / "data"), "--size-px", "96"]
            subprocess.run([*data, "--scenes", "2_10,2_11,2_12"], check=True, capture_output=True)
            (root / "boxes.csv").write_text(_BOXES_CSV)
            path = root / "golden.toml"
            path.write_text(project(task))
            digests: dict[str, list[list[str]]] = {}
            for word in ("build", "draft"):
                done = subprocess.run(
                    [*run, "rvbuild", word, str(path), "--json", "-j", "1"], capture_output=True, text=True
                )
                if done.returncode:
                    raise SystemExit(
                        f"`rvbuild {word}` of the golden project of {task} fails:\n{done.stdout}\n{done.stderr}"
                    )
                for artifact in json.loads(done.stdout)["artifacts"]:
                    for shown in artifact["outputs"]:
                        digests.setdefault(artifact["stage"], []).append([shown, hash_file(root / shown)])
            subprocess.run([*run, "rvbuild", "data", str(path), "-q"], check=True, capture_output=True)
            for file in (root / "cache/golden/data").iterdir():
                digests.setdefault("data", []).append([file.relative_to(root).as_posix(), hash_file(file)])
            digest_of |= {f"{stage}/{task}": digest(sorted(pairs)) for stage, pairs in digests.items()}
    return digest_of
