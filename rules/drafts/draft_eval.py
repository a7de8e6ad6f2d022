"""draft_eval: drafts compared with labels, for each evaluated scene and in total, as predictions are."""

from __future__ import annotations

from collections.abc import Iterator

from rvbuild.project.tasks import SPECS
from rvbuild.rules import evaluate
from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    aoi,
    evaluated,
    folder,
    labels,
    metrics_code,
    name,
    packages,
    present,
)
from rvbuild.rules.drafts.draft import drafted
from rvbuild.rules.drafts.sums import summed

VERSION = 4
RUN, RUN_MERGE, CODE = evaluate.RUN, evaluate.RUN_MERGE, evaluate.CODE
WRITES, WRITES_MERGE = evaluate.WRITES, evaluate.WRITES_MERGE


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the counts of every labelled scene of the evaluated splits, then the evaluation; none of boxes."""
    scenes = evaluated(project) if SPECS[project.task].drafted and summed(project) else []
    for scene in scenes:
        yield Artifact(
            name=name("draft_eval", project.name, scene.id),
            project=project.name,
            stage="draft_eval",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings=evaluate.settings_of_scene(project, scene),
            inputs=present(drafted(project, scene), labels(project, scene), aoi(project, scene)),
            folder=folder(project, "draft", scene.id),
            code=code,
            packages=packages(project),
            writes=WRITES,
        )
    if scenes:
        yield Artifact(
            name=name("draft_eval", project.name),
            project=project.name,
            stage="draft_eval",
            scene=None,
            run=RUN_MERGE,
            version=VERSION,
            settings=evaluate.settings_of_all(project, scenes),
            inputs=(
                *(
                    Product(f"eval/{scene.id}", name("draft_eval", project.name, scene.id), ("eval.json",))
                    for scene in scenes
                ),
                *metrics_code(project),
            ),
            folder=folder(project, "draft"),
            code=code,
            packages=packages(project),
            writes=WRITES_MERGE,
        )
