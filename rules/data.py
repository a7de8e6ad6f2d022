"""data: a survey of the content of a project, scene by scene, and a page that shows it.

Only built by `rvbuild data` and `rvbuild check --deep`, not by `rvbuild build`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    aoi,
    area,
    chip_settings,
    classes,
    folder,
    image,
    image_code,
    image_settings,
    label_settings,
    labels,
    name,
    packages,
    present,
    without_code,
)

if TYPE_CHECKING:
    from rvbuild.stages.data.settings import SurveyPageSettings, SurveySettings

VERSION = 2
RUN = "rvbuild.stages.data.scene:run"
RUN_MERGE = "rvbuild.stages.data.page:run"
CODE = (
    "rvbuild.stages.data.scene",
    "rvbuild.stages.data.page",
    "rvbuild/stages/data/survey.html",
    "{task}",
)
WRITES = ("survey.json", "picture.jpg")
WRITES_MERGE = ("data.json", "index.html")


def artifacts(project: Project, code: str, runs_code: bool = True, outlines: bool = False) -> Iterator[Artifact]:
    """Yield the survey of every scene, then the page.

    Unless `runs_code`, pixels are surveyed in their state before the user's own transforms. With `outlines`, pictures
    show the outlines of labels instead of areas.
    """
    for scene in project.scenes:
        settings: SurveySettings = {
            "task": project.task,
            "image": image_settings(project, scene) if runs_code else without_code(image_settings(project, scene)),
            "channels": scene.channels,
            "labels": None if scene.labels is None else label_settings(project, scene),
            "classes": classes(project),
            "null_id": project.null_id,
            "chip": chip_settings(project, scene),
            "outlines": True,
            **area(project, scene),
        }
        if not outlines:
            del settings["outlines"]
        yield Artifact(
            name=name("data", project.name, scene.id),
            project=project.name,
            stage="data",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings=settings,
            inputs=present(
                image(project, scene),
                labels(project, scene),
                aoi(project, scene),
                *(image_code(project, scene) if runs_code else ()),
            ),
            folder=folder(project, "data"),
            rename={"survey.json": f"{scene.id}.json", "picture.jpg": f"{scene.id}.jpg"},
            code=code,
            packages=packages(project),
            writes=WRITES,
        )
    of_page: SurveyPageSettings = {
        "task": project.task,
        "classes": classes(project),
        "null_id": project.null_id,
        "scenes": [(scene.id, scene.split) for scene in project.scenes],
    }
    yield Artifact(
        name=name("data", project.name),
        project=project.name,
        stage="data",
        scene=None,
        run=RUN_MERGE,
        version=VERSION,
        settings=of_page,
        inputs=tuple(Product(f"scenes/{s.id}", name("data", project.name, s.id)) for s in project.scenes),
        folder=folder(project, "data"),
        code=code,
        packages=packages(project),
        writes=WRITES_MERGE,
    )
