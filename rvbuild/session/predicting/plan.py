"""Which predictions are up to date, and why the others are not: decided as for artifacts of a project."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact, Demand, Resource, Source, components, digest, digest_texts
from rvbuild.engine.plan.decide import Decision, Facts, decide
from rvbuild.engine.plan.on_disk import content_of, damage
from rvbuild.engine.store.state import Record
from rvbuild.rules import infer, predict
from rvbuild.rules.inputs.companions import Companions
from rvbuild.rules.inputs.rasters import rasters
from rvbuild.session.predicting.folder import Folder
from rvbuild.stages.bundle.results import Scene
from rvbuild.stages.names import AnyTestTime

STAGE = "predict"
RUN = "rvbuild.stages.bundle.jobs:predict_files"


@dataclass(frozen=True)
class Settings:
    """What a prediction depends on besides its bundle and its image.

    Attributes
    ----------
    bundle : Path
        The zip.
    named : Path
        The bundle as the user named it, for records.
    engine : str
        What computes the network.
    tta : AnyTestTime, optional
        The test-time augmentation; None: that of the bundle.
    code : str
        The digest of rvbuild's code, if it differs from the released one.
    demand : Demand
        The resources of one prediction. In no key.
    resource : Resource
        What a worker imports. In no key.
    """

    bundle: Path
    named: Path
    engine: str
    tta: AnyTestTime | None
    code: str
    demand: Demand
    resource: Resource


@dataclass(frozen=True)
class Planned:
    """A prediction before it is made.

    Attributes
    ----------
    scene : Scene
    artifact : Artifact
    facts : Facts
    decision : Decision
    """

    scene: Scene
    artifact: Artifact
    facts: Facts
    decision: Decision

    @property
    def files(self) -> list[Path]:
        """Every file that the prediction rests on."""
        sources = [item for item in self.artifact.inputs if isinstance(item, Source)]
        files = [path for source in sources for path in source.files]
        return files + [path for source in sources for beside in source.sidecars for path in beside]


def plan(
    folder: Folder, scenes: Sequence[Scene], settings: Settings, companions: Companions, forced: bool = False
) -> list[Planned]:
    """Return the state of the prediction of each scene.

    Parameters
    ----------
    folder
        The directory of predictions.
    scenes
        The scenes.
    settings
        What all predictions depend on.
    companions
        Finds the files that belong to an image.
    forced
        Whether all are to be made again.
    """
    artifacts = [_artifact(scene, settings, companions) for scene in scenes]
    folder.prints.prefetch(
        path
        for artifact in artifacts
        for item in artifact.inputs
        if isinstance(item, Source)
        for path in (*item.files, *(beside for files in item.sidecars for beside in files))
    )
    records = folder.state.records()
    return [
        _planned(folder, scene, artifact, settings.named, records.get(artifact.name), forced)
        for scene, artifact in zip(scenes, artifacts, strict=True)
    ]


def _artifact(scene: Scene, settings: Settings, companions: Companions) -> Artifact:
    return Artifact(
        name=f"{STAGE}:{scene.name}",
        project=settings.named.stem,
        stage=STAGE,
        scene=scene.name,
        run=RUN,
        version=predict.VERSION,
        settings={
            "engine": settings.engine,
            "infer_version": infer.VERSION,
            **({} if settings.tta is None else {"tta": settings.tta}),
        },
        inputs=(Source("bundle", (settings.bundle,), passed=False), rasters("image", scene.files, companions)),
        folder=scene.name,
        code=settings.code,
        resource=settings.resource,
        demand=settings.demand,
    )


def _planned(
    folder: Folder, scene: Scene, artifact: Artifact, bundle: Path, record: Record | None, forced: bool
) -> Planned:
    prints = folder.prints
    sources = {item.role: item for item in artifact.inputs if isinstance(item, Source)}
    contents = {
        role: [content_of(prints, source, i) for i in range(len(source.files))] for role, source in sources.items()
    }
    complete = {role: [value for value in values if value is not None] for role, values in contents.items()}
    known = all(len(complete[role]) == len(values) for role, values in contents.items())
    parts = components(artifact, [(role, digest_texts(values)) for role, values in complete.items() if values])
    key = digest(parts) if known else None
    damaged: Sequence[str] = ()
    if record is not None:
        damaged, touched = damage(folder.root, prints, artifact, record)
        if touched:
            folder.state.refresh(artifact.name, dataclasses.replace(record, outputs={**record.outputs, **touched}))
    if record is None or record.key != key or damaged or forced:
        record = folder.state.record(artifact.name)  # with what explains the difference
    failure = folder.state.failure(artifact.name)
    paths = [path for source in sources.values() for path in source.files]
    shown = {role: source.files for role, source in sources.items()} | {"bundle": (bundle,)}
    facts = Facts(
        key=key,
        components=parts,
        sources={
            role: [[folder.show(path), value] for path, value in zip(shown[role], values, strict=True)]
            for role, values in contents.items()
        },
        record=record,
        damaged=damaged,
        failure=failure[1] if failure is not None and failure[0] == key else None,
        forced=forced,
        notes={folder.show(path): note for path in paths if (note := prints.note(path))},
    )
    return Planned(scene, artifact, facts, decide(facts))
