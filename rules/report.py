"""report: one page about a project, with a picture of each predicted scene."""

from __future__ import annotations

from collections.abc import Iterator

from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    classes,
    evaluated,
    folder,
    image,
    image_code,
    image_settings,
    name,
    packages,
    predictions,
)
from rvbuild.rules.inputs import own_chips

VERSION = 4
RUN = "rvbuild.stages.report.quicklook:run"
RUN_MERGE = "rvbuild.stages.report.page:run"
CODE = (
    "rvbuild.stages.report.quicklook",
    "rvbuild.stages.report.page",
    "rvbuild/stages/report/report.html",
    "{task}",
)
WRITES = ("quicklook.jpg",)
WRITES_MERGE = ("index.html",)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the picture of every predicted scene, then the page."""
    predicted = sorted((s for s in project.scenes if s.split != "train"), key=lambda s: s.id)
    cut = sorted((s for s in project.scenes if s.split != "test" and s.labels is not None), key=lambda s: s.id)
    for scene in predicted:
        yield Artifact(
            name=name("report", project.name, scene.id),
            project=project.name,
            stage="report",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings={
                "task": project.task,
                "image": image_settings(project, scene),
                "channels": scene.channels,
                "classes": classes(project),
            },
            inputs=(image(project, scene), predictions(project, scene), *image_code(project, scene)),
            folder=folder(project, "report"),
            rename={"quicklook.jpg": f"{scene.id}.jpg"},
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
    figures += [Product(f"scenes/{s.id}", name("report", project.name, s.id)) for s in predicted]
    if evaluated(project):
        figures.append(Product("evaluation", name("eval", project.name), ("eval.md", "*.svg")))
    yield Artifact(
        name=name("report", project.name),
        project=project.name,
        stage="report",
        scene=None,
        run=RUN_MERGE,
        version=VERSION,
        settings={"task": project.task, "classes": classes(project)},
        inputs=tuple(figures),
        folder=folder(project, "report"),
        code=code,
        packages=packages(project),
        writes=WRITES_MERGE,
    )
