"""predict: all files of a predicted scene that are derived from the raw result, without the network.

Those of a large scene may be derived in strips of rows, which are joined here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.files.formats import SUFFIXES
from rvbuild.project.tasks import SPECS
from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    Scene,
    classes,
    folder,
    name,
    packages,
    present,
    raw_files,
    scores,
)
from rvbuild.rules.predictions.layout import cut, in_strips

if TYPE_CHECKING:
    from rvbuild.stages.predict import StripDeriveSettings
    from rvbuild.tasks.settings import DeriveSettings

VERSION = 7
BLOCK_ROWS = 4096
"""The rows of a strip are a multiple of it: `rvbuild.geo.write.pyramid.BLOCK_PX`."""
RUN = "rvbuild.stages.predict:run"
RUN_STRIP = "rvbuild.stages.predict:run_strip"
RUN_JOIN = "rvbuild.stages.predict:run_join"
CODE = ("rvbuild.stages.predict", "{task}")
WRITES = ("*.tif", "*.json", *(f"*{suffix}" for suffix in SUFFIXES.values()), "*.qml")
WRITES_STRIP = ("*.tif", "*.txt", "*.json")


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the predictions of every validation and test scene, each after its strips if it is cut."""
    settings: DeriveSettings = {
        "task": project.task,
        "classes": classes(project),
        "null_id": project.null_id,
        "predict": project.predict.derive_settings(),
    }
    for scene in sorted((s for s in project.scenes if s.split != "train"), key=lambda s: s.id):
        yield from _of_scene(project, scene, settings, code)


def _of_scene(project: Project, scene: Scene, settings: DeriveSettings, code: str) -> Iterator[Artifact]:
    def of_strip(rows: list[int]) -> StripDeriveSettings:
        return {**settings, "rows": rows}

    whole = Artifact(
        name=name("predict", project.name, scene.id),
        project=project.name,
        stage="predict",
        scene=scene.id,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=present(
            Product("raw", name("infer", project.name, scene.id), raw_files(project)),
            scores(project, scene) if settings["predict"].get("vectors") else None,
        ),
        folder=folder(project, "predict", scene.id),
        code=code,
        packages=packages(project),
        writes=WRITES,
    )
    most_px = project.predict.strip_px if SPECS[project.task].gives_pixels else None
    strips = cut(project, scene, most_px, lambda _: BLOCK_ROWS)
    # One strip alone would be the scene, made twice.
    yield from in_strips(
        whole, project, scene, strips if len(strips) > 1 else (), of_strip, (RUN_STRIP, RUN_JOIN), WRITES_STRIP
    )
