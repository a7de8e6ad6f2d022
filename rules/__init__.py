"""The rules: which artifacts a project has, from what and with which settings. One module per stage.

A rule names its stage by dotted path and holds the stage's version, so that planning imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping

from rvbuild.rules import analyze, bundle, chip, data, evaluate, infer, mosaic, predict, report, train
from rvbuild.rules.common import Artifact, Project, places, prepare
from rvbuild.rules.protocol import Rule

__all__ = ["Artifact", "Project", "artifacts", "places", "prepare"]

#: The stages of `rvbuild.stages.names`, each with its rule.
RULES: Mapping[str, Rule] = {
    "analyze": analyze,
    "chip": chip,
    "train": train,
    "infer": infer,
    "predict": predict,
    "mosaic": mosaic,
    "eval": evaluate,
    "bundle": bundle,
    "report": report,
}

#: What is made when it is asked for by its own command, and by no build.
ASIDE: Mapping[str, Rule] = {"data": data}

#: What most stages and checks need, and takes a while to import; nothing of torch.
PRELOAD = ("numpy", "rasterio", "shapely", "fiona", "rvbuild.checks.scene", "rvbuild.stages.chip.stage")

#: What the `where` lines at the end of a run show first: the outputs that a person opens.
SHOWN = ("index.html", "labels.tif", "eval.md", "eval.json", "curves.svg", "contact.png", "stats.json")


def artifacts(project: Project, code: Mapping[str, str] | None = None) -> list[Artifact]:
    """Return all artifacts of `project`, each after those that it needs.

    Parameters
    ----------
    project : Project
    code : mapping, optional
        Stage -> digest of its code, for stages whose code differs from the released one; see `lock`.
    """
    tags = code or {}
    return [artifact for stage, rule in RULES.items() for artifact in rule.artifacts(project, tags.get(stage, ""))]
