"""Warnings about classes that new chips lack, in builds without a training, which would report them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rvbuild.checks.findings import Finding, Level
from rvbuild.engine.keys.artifact import Product
from rvbuild.engine.run.outcome import Did, Outcome
from rvbuild.errors import classes_that
from rvbuild.project.model import Project
from rvbuild.session.checking.messages import format_findings
from rvbuild.session.session import Session

_INDEX = "/index.json"


def warnings(session: Session, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield a warning for classes that no chip of a split shows, if its chips are complete and some are new."""
    done = {o.artifact.name: o for o in outcomes if o.did in (Did.BUILT, Did.RESTORED, Did.FRESH)}
    for project in session.projects:
        train = next((a for a in session.artifacts if a.project == project.name and a.stage == "train"), None)
        if train is None or any(o.artifact.name == train.name for o in outcomes):
            continue
        chips = [item for item in train.inputs if isinstance(item, Product) and item.role.startswith("chips/")]
        for split in ("train", "validation"):
            names = [item.artifact for item in chips if item.role.startswith(f"chips/{split}/")]
            chip_outcomes = [done[name] for name in names if name in done]
            if len(chip_outcomes) < len(names) or all(outcome.did is Did.FRESH for outcome in chip_outcomes):
                continue
            if not all(outcome.outputs for outcome in chip_outcomes):
                continue  # they are only in a remote store
            if (counts := _counts(session, chip_outcomes)) is not None:
                yield from format_findings(project, _never_shown(project, split, counts))


def _counts(session: Session, outcomes: Iterable[Outcome]) -> Mapping[str, int] | None:
    """Return class → number of pixels, cells or boxes in chips; None if an index is damaged."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        for path in outcome.outputs:
            if not path.endswith(_INDEX):
                continue
            try:
                index = json.loads((session.workspace.root / path).read_text(encoding="utf-8"))
                counts.update(dict(zip(index["classes"], index["class_counts"], strict=True)))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                return None  # the training reports the problem
    return counts


def _never_shown(project: Project, split: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    """Yield a warning that names the classes without any occurrence."""
    never = [item.name for item in project.classes if item.id != project.null_id and not counts.get(item.name)]
    if never:
        consequence = "not learnt" if split == "train" else "not in the scores of epochs"
        text = f"no {split} chip shows {classes_that(never, f'is {consequence}', f'are {consequence}')}"
        key = ("classes", *(never if len(never) == 1 else ()))
        yield Finding(Level.WARNING, f"never shown in {split}", text, key=key)
