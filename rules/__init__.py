"""The rules: which artifacts a project has, their inputs and their settings. One module per stage.

A rule names its stage by dotted path and holds the version of the stage, so planning imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rvbuild.rules import analyze, bundle, chip, data, evaluate, infer, mosaic, predict, report, train
from rvbuild.rules.common import Artifact, Project, places, prepare
from rvbuild.rules.drafts import draft, draft_eval, features, head, suggestions, sums, suspects
from rvbuild.rules.predictions import export, strips
from rvbuild.rules.protocol import Rule
from rvbuild.stages.names import SHARED, asked_for, on_request

__all__ = ["Artifact", "Project", "artifacts", "places", "prepare"]

#: The stages of `rvbuild.stages.names`, each with its rule.
RULES: Mapping[str, Rule] = {
    "analyze": analyze,
    "chip": chip,
    "train": train,
    "export": export,
    "strips": strips,
    "infer": infer,
    "predict": predict,
    "mosaic": mosaic,
    "eval": evaluate,
    "bundle": bundle,
    "report": report,
    "features": features,
    "sums": sums,
    "head": head,
    "draft": draft,
    "draft_eval": draft_eval,
    "suspects": suspects,
    "suggestions": suggestions,
}

#: Stages that only run by their own command, never as part of a build.
ASIDE: Mapping[str, Rule] = {"data": data}

#: Modules that most stages and checks need and that take a while to import; none of them imports torch.
PRELOAD = ("numpy", "rasterio", "shapely", "fiona", "rvbuild.checks.scene", "rvbuild.stages.chip.stage")

#: The outputs that the `where` lines at the end of a run list first: those that a person opens.
SHOWN = ("index.html", "labels.tif", "eval.md", "eval.json", "curves.svg", "contact.png", "stats.json")


def artifacts(
    project: Project, code: Mapping[str, str] | None = None, requested: Collection[str] = ()
) -> list[Artifact]:
    """Return all artifacts of `project`, each after its dependencies.

    Parameters
    ----------
    project : Project
    code : mapping, optional
        Stage -> digest of its code, for stages whose code differs from the released one; see `lock`.
    requested : collection of str
        The commands that are no part of `build` whose artifacts are wanted, too, with all that these need.
    """
    tags = code or {}
    every = [
        artifact
        for stage, rule in RULES.items()
        if requested or not on_request(stage)
        for artifact in rule.artifacts(project, tags.get(stage, ""))
    ]
    if not requested:
        return every
    needed: set[str] = set()
    for artifact in reversed(every):
        stage = artifact.stage
        asked = asked_for(stage, requested) and stage not in SHARED
        if artifact.name in needed or not on_request(stage) or asked:
            needed |= {artifact.name, *artifact.needs()}
    return [artifact for artifact in every if artifact.name in needed]
