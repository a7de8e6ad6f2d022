"""What chips that were just made lack, where no training follows that would say so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rvbuild.checks.findings import Finding, Level
from rvbuild.engine.keys.artifact import Product
from rvbuild.engine.run.outcome import Did, Outcome
from rvbuild.errors import classes_that
from rvbuild.project.model import Project
from rvbuild.session.checking.told import tell
from rvbuild.session.session import Session

_INDEX = "/index.json"


def doubts(now: Session, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield a warning for the classes that no chip of a split shows, if all of its chips are there and some are new."""
    done = {o.artifact.name: o for o in outcomes if o.did in (Did.BUILT, Did.RESTORED, Did.FRESH)}
    for project in now.projects:
        train = next((a for a in now.artifacts if a.project == project.name and a.stage == "train"), None)
        if train is None or any(o.artifact.name == train.name for o in outcomes):
            continue
        chips = [item for item in train.inputs if isinstance(item, Product) and item.role.startswith("chips/")]
        for split in ("train", "validation"):
            names = [item.artifact for item in chips if item.role.startswith(f"chips/{split}/")]
            made = [done[name] for name in names if name in done]
            if len(made) < len(names) or all(outcome.did is Did.FRESH for outcome in made):
                continue
            if (counts := _counts(now, made)) is not None:
                yield from tell(project, _never_shown(project, split, counts))


def _counts(now: Session, made: Iterable[Outcome]) -> Mapping[str, int] | None:
    """Return how often each class occurs in chips: pixels, cells or boxes; None if a file of them is damaged."""
    counts: Counter[str] = Counter()
    for outcome in made:
        for path in outcome.outputs:
            if not path.endswith(_INDEX):
                continue
            try:
                index = json.loads((now.workspace.root / path).read_text(encoding="utf-8"))
                counts.update(dict(zip(index["classes"], index["class_counts"], strict=True)))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                return None  # the training is going to say what is wrong
    return counts


def _never_shown(project: Project, split: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    """Yield a warning that names the classes without any."""
    never = [item.name for item in project.classes if item.id != project.null_id and not counts.get(item.name)]
    if never:
        what = "not learnt" if split == "train" else "not in the scores of epochs"
        text = f"no {split} chip shows {classes_that(never, f'is {what}', f'are {what}')}"
        key = ("classes", *(never if len(never) == 1 else ()))
        yield Finding(Level.WARNING, f"never shown in {split}", text, key=key)
