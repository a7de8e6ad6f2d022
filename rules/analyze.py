"""analyze: statistics of the bands, of each training scene and merged.

A scene that is larger than `analyze.strip_px` is measured in strips of rows, artifacts of their own. They are merged to
what the scene would have without them, of the same key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    Scene,
    aoi,
    area,
    folder,
    image,
    image_code,
    image_settings,
    name,
    once,
    packages,
    present,
    seed,
)
from rvbuild.rules.predictions.layout import cut, in_strips

if TYPE_CHECKING:
    from rvbuild.settings.area import OfArea
    from rvbuild.stages.analyze.settings import SceneStatsSettings, StripStatsSettings

VERSION = 3
BLOCK_PX = 256
"""The rows of a strip are a multiple of it: `rvbuild.stages.analyze.scene.BLOCK_PX`."""
RUN = "rvbuild.stages.analyze.scene:run"
RUN_MERGE = "rvbuild.stages.analyze.merge:run"
RUN_STRIP = "rvbuild.stages.analyze.strips:run"
RUN_JOIN = "rvbuild.stages.analyze.strips:run_join"
RUN_CHIPS = "rvbuild.stages.analyze.chips:run"
CODE = (
    *("rvbuild.stages.analyze.scene", "rvbuild.stages.analyze.strips"),
    *("rvbuild.stages.analyze.merge", "rvbuild.stages.analyze.chips"),
)
WRITES = ("stats.json",)
WRITES_STRIP = ("strip.json",)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the statistics of every training scene, then the merged statistics."""
    if project.train.chips is not None:
        yield Artifact(
            name=name("analyze", project.name),
            project=project.name,
            stage="analyze",
            scene=None,
            run=RUN_CHIPS,
            version=VERSION,
            settings={},
            inputs=(Product("chips", name("chip", project.name, "train"), ("images-*",)),),
            folder=folder(project, "analyze"),
            code=code,
            packages=packages(project),
            writes=WRITES,
        )
        return
    scenes = sorted((s for s in project.scenes if s.split == "train"), key=lambda s: s.id)
    for scene in scenes:
        yield from _of_scene(project, scene, code)
    yield Artifact(
        name=name("analyze", project.name),
        project=project.name,
        stage="analyze",
        scene=None,
        run=RUN_MERGE,
        version=VERSION,
        settings={},
        inputs=tuple(Product(f"stats/{s.id}", name("analyze", project.name, s.id)) for s in scenes),
        folder=folder(project, "analyze"),
        code=code,
        packages=packages(project),
        writes=WRITES,
    )


def _settings(project: Project, scene: Scene) -> SceneStatsSettings:
    """Return the settings of the statistics of a scene; most scenes share them."""
    image, analyze = image_settings(project, scene), once(project, "analyze", project.file.analyze.stage_settings)

    def make() -> SceneStatsSettings:
        of_area: OfArea = area(project, scene) if scene.blocks else {}
        number = seed(project, f"analyze:{scene.id}") if analyze["sample"] < 1 else 0
        return {"image": image, "channels": scene.channels, "seed": number, **analyze, **of_area}

    if scene.blocks or analyze["sample"] < 1:
        return make()
    return once(project, ("analyze", id(image), scene.channels), make)


def _of_scene(project: Project, scene: Scene, code: str) -> Iterator[Artifact]:
    """Yield the statistics of the strips of a scene, if it is cut, and of the scene."""
    settings = _settings(project, scene)
    inputs = present(image(project, scene), aoi(project, scene) if scene.blocks else None, *image_code(project, scene))
    strips = cut(project, scene, project.file.analyze.strip_px, lambda _: BLOCK_PX)

    def of_strip(rows: list[int]) -> StripStatsSettings:
        return {**settings, "rows": rows}

    whole = Artifact(
        name=name("analyze", project.name, scene.id),
        project=project.name,
        stage="analyze",
        scene=scene.id,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=inputs,
        folder=folder(project, "analyze"),
        rename={"stats.json": f"{scene.id}.json"},
        code=code,
        packages=packages(project),
        writes=WRITES,
    )
    yield from in_strips(whole, project, scene, strips, of_strip, (RUN_STRIP, RUN_JOIN), WRITES_STRIP)
