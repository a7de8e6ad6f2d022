"""analyze: statistics of the bands, of each training scene and merged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    aoi,
    area,
    folder,
    image,
    image_code,
    image_settings,
    name,
    packages,
    present,
    seed,
)

if TYPE_CHECKING:
    from rvbuild.settings.area import OfArea
    from rvbuild.stages.analyze.settings import SceneStatsSettings

VERSION = 3
RUN = "rvbuild.stages.analyze.scene:run"
RUN_MERGE = "rvbuild.stages.analyze.merge:run"
RUN_CHIPS = "rvbuild.stages.analyze.chips:run"
CODE = ("rvbuild.stages.analyze.scene", "rvbuild.stages.analyze.merge", "rvbuild.stages.analyze.chips")
WRITES = ("stats.json",)


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
    analyze = project.file.analyze.stage_settings()
    for scene in scenes:
        of_area: OfArea = area(project, scene) if scene.blocks else {}
        settings: SceneStatsSettings = {
            "image": image_settings(project, scene),
            "channels": scene.channels,
            "seed": seed(project, f"analyze:{scene.id}") if analyze["sample"] < 1 else 0,
            **analyze,
            **of_area,
        }
        yield Artifact(
            name=name("analyze", project.name, scene.id),
            project=project.name,
            stage="analyze",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings=settings,
            inputs=present(
                image(project, scene), aoi(project, scene) if scene.blocks else None, *image_code(project, scene)
            ),
            folder=folder(project, "analyze"),
            rename={"stats.json": f"{scene.id}.json"},
            code=code,
            packages=packages(project),
            writes=WRITES,
        )
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
