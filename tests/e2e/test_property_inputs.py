"""Whatever is edited of inputs in any format, a build gives byte for byte what its stages make of the files as they
are.

`RVBUILD_PROPERTY=1000 pytest tests/e2e/test_property_inputs.py` tries that many histories of each task.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rvbuild import rules
from rvbuild.engine.keys.artifact import Artifact, Source
from rvbuild.progress import Silent
from rvbuild.project.load import load

from .conftest import Space
from .input_files import IMAGES, LABELS, ROOT, coco, image, labels

WISHED = int(os.environ.get("RVBUILD_PROPERTY", "0"))

SCENES = ("a", "b")

PROJECT = """\
[project]
task = "{task}"
[classes]
red = "#ff0000"
green = "#00ff00"
{ground}
[scenes]
train = ["a"]
validation = ["b"]
[scene]
image = "unused/{{id}}.tif"
channels = [0, 1]
[chip]
size_px = 16
within_aoi = false
{scenes}
"""

#: What an edit changes of a scene, each with the number of values.
IMAGE = {"seed": 4, "shift": 2, "mask": 3, "nodata": 4, "statistics": 2}
LABEL = {"boxes": 3, "flip": 2, "state": 3}
FORMS = {"image": [*IMAGES], "labels": [*LABELS], "area": ["none", "GeoJSON", "shapefile", "GeoPackage", "geodatabase"]}

EDITS = st.lists(
    st.tuples(
        st.sampled_from([*IMAGE, "seed", "seed", *LABEL, "flip", *FORMS, "touch", "lose", "aside", "forget", "move"]),
        st.sampled_from(SCENES),
        st.integers(0, 11),
        st.sampled_from(["over", "rename", "quietly"]),
    ),
    min_size=3,
    max_size=10,
)

State = dict[str, int]


def files_of(scene: State, task: str) -> dict[str, bytes]:
    """Return the files of a scene by their path in its directory."""
    form = FORMS["image"][scene["image"]]
    files = {f"img/{n}": data for n, data in image(form, *(scene[key] for key in IMAGE)).items()}
    boxes = [scene[key] for key in LABEL]
    if task == "object_detection" and FORMS["labels"][scene["labels"]] == "raster":
        pass  # detection is labelled by the COCO file then
    else:
        files |= {f"lab/{n}": data for n, data in labels(FORMS["labels"][scene["labels"]], *boxes).items()}
    if scene["area"]:
        area = labels(FORMS["area"][scene["area"]], 1 + scene["boxes"] % 2, 0, 0)
        files |= {f"area/{n}": data for n, data in area.items()}
    return files


class Workspace:
    """A workspace that is kept as its state says."""

    def __init__(self, root: Path, task: str) -> None:
        self.space = Space(root)
        self.task = task

    def write(self, state: Mapping[str, State], way: str) -> None:
        """Change those files that differ; `way` says in which way."""
        data = self.space.root / "data"
        wanted: dict[Path, bytes] = {}
        for name, scene in state.items():
            for path, content in files_of(scene, self.task).items():
                place = data / name
                folder = place / path.partition("/")[0]
                wanted[place / path] = content.replace(ROOT, str(folder).encode())
        names = {name: f"{name}.tif" for name in state}
        boxes = {name: (scene["boxes"], scene["flip"]) for name, scene in state.items()}
        wanted[data / "boxes.json"] = coco(names, boxes)
        wanted[self.space.project] = self.project(state).encode()
        for path in sorted(data.rglob("*"), reverse=True):
            if path.is_file() and path not in wanted:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        for path, content in wanted.items():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            elif path.read_bytes() != content:
                put(path, content, way)

    def project(self, state: Mapping[str, State]) -> str:
        """Return the project file."""
        segments = self.task == "semantic_segmentation"
        scenes = ""
        for name, scene in state.items():
            form = FORMS["labels"][scene["labels"]]
            file = f"data/{name}/lab/{LABELS[form][0]}"
            if form != "raster":
                table = f'vector = "{file}", class_attribute = "kind"' + (', background = "ground"' if segments else "")
            elif segments:
                table = f'raster = "{file}", resample = "nearest"'
            else:
                table = f'coco = "data/boxes.json", image = "{name}.tif"'
            area = FORMS["area"][scene["area"]]
            aoi = f'aoi = "data/{name}/area/{LABELS[area][0]}"\n' if scene["area"] else ""
            image = f"data/{name}/img/{IMAGES[FORMS['image'][scene['image']]][0]}"
            scenes += f'[scenes.by_id.{name}]\nimage = "{image}"\nlabels = {{ {table} }}\n{aoi}'
        ground = 'ground = "#000000"' if segments else ""
        return PROJECT.format(task=self.task, ground=ground, scenes=scenes)

    def build(self, stage: str = "chip") -> None:
        """Bring a stage up to date, and compare what is shown with what the stage makes of the files alone."""
        result = self.space.rvbuild(stage, "-q")
        assert result.status == 0, result.out + result.err
        before = Path.cwd()
        os.chdir(self.space.root)
        try:
            for artifact in rules.artifacts(load(self.space.project)):
                if artifact.stage == stage and artifact.scene is not None:
                    self.compare(artifact)
        finally:
            os.chdir(before)

    def compare(self, artifact: Artifact) -> None:
        module, _, name = artifact.run.partition(":")
        with tempfile.TemporaryDirectory() as place:
            outputs = Path(place)
            inputs = {source.role: source.files for source in artifact.inputs if isinstance(source, Source)}
            run = getattr(importlib.import_module(module), name)
            run(inputs=inputs, settings=dict(artifact.settings), outputs=outputs, progress=Silent())
            clean = {artifact.shown(path.name): path.read_bytes() for path in outputs.iterdir()}
        shown = {name: (self.space.root / name).read_bytes() for name in clean}
        assert shown == clean, artifact.name


def put(path: Path, content: bytes, way: str) -> None:
    """Change a file: in place, by another one in its place, or so that its time stays."""
    before = path.stat()
    if way == "rename":
        other = path.with_name("new")
        other.write_bytes(content)
        other.replace(path)
    else:
        path.write_bytes(content)
    if way == "quietly":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.timeout(600 + 60 * WISHED)
@pytest.mark.parametrize("task", ["semantic_segmentation", "object_detection"])
@settings(max_examples=WISHED or 6, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(
    forms=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 11), st.integers(0, 4)), min_size=2, max_size=2),
    edits=EDITS,
)
def test_incremental_equals_clean(task: str, forms: list[tuple[int, int, int]], edits: list[Any]) -> None:
    base = Path(tempfile.mkdtemp(prefix="rvbuild-inputs-"))
    try:
        work = Workspace(base / "ws", task)
        state = {
            name: {**dict.fromkeys([*IMAGE, *LABEL], 0), **dict(zip(FORMS, chosen_forms, strict=True))}
            for name, chosen_forms in zip(SCENES, forms, strict=True)
        }
        work.write(state, "over")
        work.build()
        for edit, name, value, way in edits:
            scene, folder = state[name], work.space.root / "data" / name
            there = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            chosen = there[value % len(there)]
            if edit == "touch":
                chosen.touch()
            elif edit == "lose":
                # A build without one of the files, whatever it says, and with it again.
                content = chosen.read_bytes()
                chosen.unlink()
                lost = work.space.rvbuild("chip", "-q", "-k")
                assert "Traceback" not in lost.out + lost.err
                chosen.write_bytes(content)
            elif edit == "aside":
                (chosen.parent / f"notes {value}.txt").write_text("of no meaning")
            elif edit == "forget":
                for path in (work.space.root / "cache").glob("state.db*"):
                    path.unlink()
            elif edit == "move":
                work.space = Space(work.space.root.rename(base / f"moved {len(list(base.iterdir()))}"))
                work.write(state, way)
            else:
                count = len(FORMS[edit]) if edit in FORMS else {**IMAGE, **LABEL}[edit]
                scene[edit] = value % count
                work.write(state, way)
            work.build()
        work.build("analyze")
    finally:
        shutil.rmtree(base)
