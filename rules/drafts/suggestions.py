"""suggestions: windows to label next, of all images that are not labelled everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rvbuild.engine.keys.artifact import canonical
from rvbuild.project.tasks import SPECS
from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    Scene,
    Source,
    aoi,
    area,
    class_names,
    folder,
    image_settings,
    label_classes,
    label_settings,
    labels,
    name,
    packages,
    present,
)
from rvbuild.rules.drafts.features import WRITES as FEATURES
from rvbuild.rules.drafts.sums import summed, totals

if TYPE_CHECKING:
    from rvbuild.stages.suggest.settings import AreaOfScene, GroundSettings, LabelledScene, SuggestSettings

VERSION = 2
RUN = "rvbuild.stages.suggest.stage:run"
CODE = ("rvbuild.stages.suggest.stage", "{task}")
WRITES = ("suggestions.json", "windows*.gpkg", "windows*.geojson", "windows*.qml")


class _Ground(NamedTuple):
    """An image, and the scenes that it is the image of, by id."""

    training: list[Scene]
    evaluated: list[Scene]
    unlabelled: list[Scene]

    @property
    def scene(self) -> Scene:
        """The scene that suggestions name."""
        return (self.training or self.unlabelled)[0]

    @property
    def matters(self) -> bool:
        """Whether it has labels to learn from, or may get some: no scene of the evaluation is the whole image."""
        free = all(scene.aoi or scene.blocks is not None for scene in self.evaluated)
        return bool(self.training) or (bool(self.unlabelled) and free)

    def areas(self) -> list[Scene]:
        """Return the scenes whose areas matter."""
        return [*self.training, *self.evaluated, *(() if self.training else self.unlabelled)]


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the suggestions of a project; none without scenes to learn from."""
    learnt = summed(project)
    if not learnt:
        return
    grounds = [ground for ground in _grounds(project) if ground.matters]
    suggest, draft = project.file.suggest, project.draft
    settings: SuggestSettings = {
        "task": project.task,
        "classes": class_names(project),
        "null_id": project.null_id,
        "background": SPECS[project.task].one_class_is_enough,
        "count": suggest.count,
        "window_px": suggest.window_px or draft.block_px // 2,
        "grounds": [_settings(project, ground) for ground in grounds],
    }
    features = (
        Product(f"features/{ground.scene.base}", name("features", project.name, ground.scene.base), FEATURES)
        for ground in grounds
    )
    yield Artifact(
        name=name("suggestions", project.name),
        project=project.name,
        stage="suggestions",
        scene=None,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=(
            *features,
            *(totals(project, scene) for scene in learnt),
            *present(*(_named(labels(project, scene), scene) for ground in grounds for scene in ground.training)),
            *present(*(_named(aoi(project, scene), scene) for ground in grounds for scene in ground.areas())),
        ),
        folder=folder(project, "suggestions"),
        code=code,
        packages=packages(project),
        writes=WRITES,
    )


def _grounds(project: Project) -> list[_Ground]:
    """Return the images of a project, in the order of their first scenes."""
    grounds: dict[object, _Ground] = {}
    for scene in sorted(project.scenes, key=lambda scene: scene.id):
        image = (scene.image.files, canonical(image_settings(project, scene)), scene.channels)
        ground = grounds.setdefault(image, _Ground([], [], []))
        if scene.labels is None:
            ground.unlabelled.append(scene)
        else:
            (ground.training if scene.split == "train" else ground.evaluated).append(scene)
    return list(grounds.values())


def _settings(project: Project, ground: _Ground) -> GroundSettings:
    return {
        "scene": ground.scene.base,
        "training": [_labelled(project, scene) for scene in ground.training],
        "evaluated": [_area(project, scene) for scene in ground.evaluated],
        "unlabelled": [] if ground.training else [_area(project, scene) for scene in ground.unlabelled],
    }


def _labelled(project: Project, scene: Scene) -> LabelledScene:
    return {
        "scene": scene.id,
        "labels": label_settings(project, scene),
        "classes": label_classes(project, scene),
        **area(project, scene),
    }


def _area(project: Project, scene: Scene) -> AreaOfScene:
    return {"scene": scene.id, **area(project, scene)}


def _named(source: Source | None, scene: Scene) -> Source | None:
    """Return an input of a scene under a role that names the scene."""
    return None if source is None else dataclasses.replace(source, role=f"{source.role}/{scene.id}")
