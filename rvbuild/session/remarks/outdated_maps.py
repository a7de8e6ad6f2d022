"""Maps by folds that a review reads although labels have changed since: a review does not make them again."""

from __future__ import annotations

from rvbuild.engine.keys.artifact import Source
from rvbuild.project.model import Project
from rvbuild.rules.common import name
from rvbuild.rules.experiments.folds import STAGE as FOLDS
from rvbuild.session.session import Session


def outdated_maps(session: Session, project: Project) -> list[str]:
    """Return a sentence if labels have changed since `rvbuild folds` made maps that the review of a project reads.

    Parameters
    ----------
    session
        With the plan of the review.
    project
        One of its projects.
    """
    artifact = session.plan.artifacts.get(name("suspects", project.name))
    if artifact is None:
        return []
    digests = dict(session.plan[artifact.name].facts.components["inputs"])
    folds = sorted((session.workspace.cache / project.name / FOLDS).glob("*-*"))
    changed = []
    for scene in project.scenes:
        role = f"scores/{scene.id}"
        # Only maps by folds are files to a review; other scores are products.
        if not any(item.role == role and isinstance(item, Source) for item in artifact.inputs):
            continue
        learned = _learned(session, [f"{project.name}/{FOLDS}/{fold.name}" for fold in folds], scene.base)
        if learned and digests.get(f"labels/{scene.id}") not in learned:
            changed.append(scene.base)
    if not changed:
        return []
    return [
        f"the labels of {', '.join(dict.fromkeys(changed))} have changed since `rvbuild folds` mapped the scenes; "
        "their maps count as they are until it is run again"
    ]


def _learned(session: Session, variants: list[str], scene: str) -> set[str]:
    """Return the digests of the labels of a scene with which folds were evaluated."""
    records = (
        session.workspace.state.record(name("eval", variant, id_))
        for variant in variants
        for id_ in (scene, f"{scene}.validation")
    )
    inputs = [dict(record.components.get("inputs", ())) for record in records if record is not None]
    return {each["labels"] for each in inputs if "labels" in each}
