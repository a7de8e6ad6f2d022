"""report: one page about a project, with a picture of each predicted scene."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    Scene,
    Source,
    aoi,
    area,
    classes,
    eval_settings,
    evaluated,
    folder,
    image,
    image_code,
    image_settings,
    label_settings,
    labels,
    name,
    packages,
    predictions,
    present,
)
from rvbuild.rules.inputs import own_chips
from rvbuild.stages.report.pictures import MOST_PLACES, QUICKLOOK, place_picture

if TYPE_CHECKING:
    from rvbuild.stages.report.page import PageSettings
    from rvbuild.stages.report.scene import PictureSettings

VERSION = 5
RUN = "rvbuild.stages.report.scene:run"
RUN_MERGE = "rvbuild.stages.report.page:run"
CODE = (
    "rvbuild.stages.report.scene",
    "rvbuild.stages.report.page",
    "rvbuild/stages/report/report.html",
    "{task}",
)
PLACES = tuple(map(place_picture, range(MOST_PLACES)))
WRITES = (QUICKLOOK, *PLACES)
WRITES_MERGE = ("index.html",)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the picture of every predicted scene, then the page."""
    predicted = sorted((s for s in project.scenes if s.split != "train"), key=lambda s: s.id)
    cut = sorted((s for s in project.scenes if s.split != "test" and s.labels is not None), key=lambda s: s.id)
    judged = {scene.id for scene in evaluated(project)}
    for scene in predicted:
        yield Artifact(
            name=name("report", project.name, scene.id),
            project=project.name,
            stage="report",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings=_picture_settings(project, scene, scene.id in judged),
            inputs=(
                image(project, scene),
                predictions(project, scene),
                *(_evaluation_inputs(project, scene) if scene.id in judged else ()),
                *image_code(project, scene),
            ),
            folder=folder(project, "report"),
            rename={QUICKLOOK: f"{scene.id}.jpg", **{place: f"places/{scene.id}/{place}" for place in PLACES}},
            code=code,
            packages=packages(project),
            writes=WRITES,
        )
    figures = [Product("stats", name("analyze", project.name))]
    figures += [
        Product(f"chips/{s.split}/{s.id}", name("chip", project.name, s.id), ("index.json", "contact.png")) for s in cut
    ]
    if project.train.chips is not None:
        figures = [figures[0], *own_chips.products(project, "index.json", "contact.png")]
    epochs = () if project.train.backend is not None else ("log.jsonl", "curves.svg")
    figures.append(Product("training", name("train", project.name), (*epochs, "model.json")))
    figures += [Product(f"scenes/{s.id}", name("report", project.name, s.id), (QUICKLOOK,)) for s in predicted]
    if judged:
        figures.append(Product("evaluation", name("eval", project.name), ("eval.json", "eval.md", "*.svg")))
    for id_ in sorted(judged):
        counts, pictures = name("eval", project.name, id_), name("report", project.name, id_)
        figures.append(Product(f"counts/{id_}", counts, ("eval.json",)))
        figures.append(Product(f"places/{id_}", counts, ("places.json",)))
        figures.append(Product(f"pictures/{id_}", pictures, ("place_*.jpg",)))
    settings: PageSettings = {
        "task": project.task,
        "classes": classes(project),
        "null_id": project.null_id,
        "splits": {scene.id: scene.split for scene in evaluated(project)},
    }
    yield Artifact(
        name=name("report", project.name),
        project=project.name,
        stage="report",
        scene=None,
        run=RUN_MERGE,
        version=VERSION,
        settings=settings,
        inputs=tuple(figures),
        folder=folder(project, "report"),
        code=code,
        packages=packages(project),
        writes=WRITES_MERGE,
    )


def _picture_settings(project: Project, scene: Scene, judged: bool) -> PictureSettings:
    """Return the settings of the pictures of a scene; those of the worst places only if it is evaluated."""
    settings: PictureSettings = {
        "task": project.task,
        "image": image_settings(project, scene),
        "channels": scene.channels,
        "classes": classes(project),
    }
    if judged:
        settings["labels"] = label_settings(project, scene)
        settings["null_id"] = project.null_id
        settings["eval"] = eval_settings(project)
        if limits := area(project, scene).get("area"):
            settings["area"] = limits
    return settings


def _evaluation_inputs(project: Project, scene: Scene) -> tuple[Source | Product, ...]:
    places = Product("places", name("eval", project.name, scene.id), ("places.json",))
    return present(labels(project, scene), aoi(project, scene), places)
