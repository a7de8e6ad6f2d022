"""The headline of an evaluation: its main metric in a few words."""

from __future__ import annotations

import json
from pathlib import Path

from rvbuild.project.model import Project
from rvbuild.project.tasks import SPECS


def headline(project: Project, evaluation: Path) -> str | None:
    """Return for example `mean IoU 0.669 of the validation scenes`, several splits with commas.

    Parameters
    ----------
    project
        The project that was evaluated.
    evaluation
        Its `eval.json`.

    Returns
    -------
    str or None
        None if the file cannot be read, or nothing was labelled.
    """
    spec = SPECS[project.task]
    splits = {scene.id: scene.split for scene in project.scenes}
    try:
        by_split = spec.headlines(json.loads(evaluation.read_bytes()), splits)
        parts = [f"{value:.3f} of the {split} scenes" for split, value in by_split.items() if value is not None]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return f"{spec.headline} {', '.join(parts)}" if parts else None
