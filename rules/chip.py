"""chip: windows of imagery with labels, of each training and validation scene."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules.common import (
    Artifact,
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
    seed,
    stores_images,
)
from rvbuild.rules.inputs import own_chips

if TYPE_CHECKING:
    from rvbuild.stages.chip.settings import SceneChipSettings

VERSION = 4
RUN = "rvbuild.stages.chip.stage:run"
CODE = ("rvbuild.stages.chip.stage", "rvbuild.stages.chip.folder", "{task}")
WRITES = own_chips.WRITES


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the chips of every training and validation scene."""
    if project.train.chips is not None:
        yield from own_chips.artifacts(project, code, VERSION)
        return
    for scene in sorted((s for s in project.scenes if s.split != "test"), key=lambda s: s.id):
        if scene.labels is None:
            continue
        chip = chip_settings(project, scene)
        keep = chip["keep"]
        random = chip["method"] == "random" or chip.get("neg_ratio") is not None
        random = random or (keep is not None and 0 < keep["otherwise"] < 1)
        settings: SceneChipSettings = {
            "task": project.task,
            "scene": scene.id,
            "image": image_settings(project, scene),
            "channels": scene.channels,
            "labels": label_settings(project, scene),
            "classes": classes(project),
            "null_id": project.null_id,
            "chip": chip if stores_images(project, scene) else {**chip, "store": False},
            "seed": seed(project, f"chip:{scene.id}") if random else 0,
            **area(project, scene),
        }
        yield Artifact(
            name=name("chip", project.name, scene.id),
            project=project.name,
            stage="chip",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings=settings,
            inputs=present(
                image(project, scene), labels(project, scene), aoi(project, scene), *image_code(project, scene)
            ),
            folder=folder(project, "chip", scene.id),
            code=code,
            previous_ignores=("labels",),
            packages=packages(project),
            writes=WRITES,
        )
