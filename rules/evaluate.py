"""eval: predictions compared with labels, for each scene and in total.

A scene that is larger than `eval.strip_px` is compared in strips of rows, artifacts of their own. Their counts are
added to what the scene would have without them, of the same key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    Scene,
    aoi,
    area,
    classes,
    eval_settings,
    evaluated,
    folder,
    label_classes,
    label_settings,
    labels,
    metrics_code,
    name,
    packages,
    predictions,
    present,
    scores,
)
from rvbuild.rules.predictions.layout import cut, in_strips

if TYPE_CHECKING:
    from rvbuild.stages.evaluate.merge import EvalMergeSettings
    from rvbuild.stages.evaluate.scene import EvalStageSettings
    from rvbuild.stages.evaluate.strips import StripEvalSettings

VERSION = 6
BLOCK_ROWS = 512
"""The rows of a strip are a multiple of it: `rvbuild.tasks.segmentation.score.BLOCK_ROWS`."""
RUN = "rvbuild.stages.evaluate.scene:run"
RUN_STRIP = "rvbuild.stages.evaluate.strips:run"
RUN_JOIN = "rvbuild.stages.evaluate.strips:run_join"
RUN_MERGE = "rvbuild.stages.evaluate.merge:run"
CODE = (
    *("rvbuild.stages.evaluate.scene", "rvbuild.stages.evaluate.strips", "rvbuild.stages.evaluate.merge"),
    "{task}",
)
WRITES = ("eval.json", "places.json")
WRITES_MERGE = ("eval.json", "eval.md", "*.svg", "*.csv")


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the counts of every labelled scene of the evaluated splits, then the evaluation."""
    scenes = evaluated(project)
    for scene in scenes:
        yield from _of_scene(project, scene, code)
    if scenes:
        yield Artifact(
            name=name("eval", project.name),
            project=project.name,
            stage="eval",
            scene=None,
            run=RUN_MERGE,
            version=VERSION,
            settings=settings_of_all(project, scenes),
            inputs=(
                *(Product(f"eval/{s.id}", name("eval", project.name, s.id), ("eval.json",)) for s in scenes),
                *metrics_code(project),
            ),
            folder=folder(project, "eval"),
            code=code,
            packages=packages(project),
            writes=WRITES_MERGE,
        )


def _of_scene(project: Project, scene: Scene, code: str) -> Iterator[Artifact]:
    """Yield the counts of the strips of a scene, if it is cut, and of the scene."""
    settings = settings_of_scene(project, scene)
    inputs = present(
        predictions(project, scene),
        labels(project, scene),
        aoi(project, scene),
        scores(project, scene),
    )
    strips = cut(project, scene, project.eval.strip_px, lambda _: BLOCK_ROWS)

    def of_strip(rows: list[int]) -> StripEvalSettings:
        return {**settings, "rows": rows}

    whole = Artifact(
        name=name("eval", project.name, scene.id),
        project=project.name,
        stage="eval",
        scene=scene.id,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=inputs,
        folder=folder(project, "eval"),
        rename={"eval.json": f"{scene.id}.json", "places.json": f"places/{scene.id}.json"},
        code=code,
        packages=packages(project),
        writes=WRITES,
    )
    yield from in_strips(whole, project, scene, strips, of_strip, (RUN_STRIP, RUN_JOIN), WRITES)


def settings_of_scene(project: Project, scene: Scene) -> EvalStageSettings:
    """Return the settings to count the predictions of `scene`, which must have labels."""
    return {
        "task": project.task,
        "scene": scene.id,
        "labels": label_settings(project, scene),
        "classes": label_classes(project, scene),
        "null_id": project.null_id,
        "eval": eval_settings(project),
        **area(project, scene),
    }


def settings_of_all(project: Project, scenes: Sequence[Scene]) -> EvalMergeSettings:
    """Return the settings to merge the counts of `scenes`."""
    settings: EvalMergeSettings = {
        "task": project.task,
        "classes": classes(project),
        "null_id": project.null_id,
    }
    splits = {scene.id: scene.split for scene in scenes}
    if len(set(splits.values())) > 1:
        settings["splits"] = splits
    if project.eval.metrics:
        settings["metrics"] = list(project.eval.metrics)
    return settings
