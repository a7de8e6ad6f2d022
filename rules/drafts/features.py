"""features: what a frozen encoder says of the cells of each scene. It does not depend on labels.

Parts of a scene in several splits share its features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.project.networks import RANDOM
from rvbuild.rules.common import (
    Artifact,
    Demand,
    Product,
    Project,
    Resource,
    Scene,
    Source,
    folder,
    image,
    image_code,
    image_settings,
    name,
    once,
    packages,
    present,
    resolve,
)

if TYPE_CHECKING:
    from rvbuild.learn.encoders.encoder import EncoderSettings
    from rvbuild.stages.draft.settings import FeaturesSettings

VERSION = 2
RUN = "rvbuild.stages.draft.features:run"
CODE = ("rvbuild.stages.draft.features", "rvbuild.learn.encoders.*")
WRITES = ("features.npy", "features.json", "valid.npy")


def scenes(project: Project) -> list[Scene]:
    """Return the scenes as they are in the project file, one part of each, by id; none without any to learn from."""
    return once(project, "draft scenes", lambda: _scenes(project))


def _scenes(project: Project) -> list[Scene]:
    if not any(scene.split == "train" and scene.labels is not None for scene in project.scenes):
        return []
    return sorted({scene.base: scene for scene in project.scenes}.values(), key=lambda scene: scene.base)


def features(project: Project, scene: Scene) -> Product:
    """Return the features of a scene as an input."""
    return Product("features", name("features", project.name, scene.base), WRITES)


def encoder_settings(project: Project) -> EncoderSettings:
    """Return which encoder a project has."""
    encoder: EncoderSettings = {"encoder": project.draft.encoder, "stride_px": project.draft.stride_px}
    if project.draft.bands is not None:
        encoder["bands"] = list(project.draft.bands)
    return encoder


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the features of every scene; of none without scenes to learn from."""
    draft, encoder = project.draft, encoder_settings(project)
    weights = None if draft.weights is None else Source("weights", (resolve(project, draft.weights),))
    for scene in scenes(project):
        settings: FeaturesSettings = {
            "image": image_settings(project, scene),
            "channels": scene.channels,
            "encoder": encoder,
            "block_px": draft.block_px,
        }
        yield Artifact(
            name=name("features", project.name, scene.base),
            project=project.name,
            stage="features",
            scene=scene.base,
            run=RUN,
            version=VERSION,
            settings=settings,
            inputs=present(image(project, scene), weights, *image_code(project, scene)),
            folder=folder(project, "features", scene.base),
            code=code,
            packages=packages(project),
            writes=WRITES,
            resource=Resource.CPU if draft.encoder == RANDOM else Resource.TORCH,
            demand=Demand(cores=None),
        )
