"""Earlier builds of a workspace: which one is meant, and how well it did."""

from __future__ import annotations

import json
import re

from rvbuild.engine.history.versions import versions
from rvbuild.engine.store.store import Store
from rvbuild.errors import UsageError
from rvbuild.session.session import Session


def build_of(session: Session, word: str) -> tuple[str, str | None]:
    """Return the artifact and the key that `word` names; the key is None for `STAGE[:SCENE]` without a version.

    Raises
    ------
    UsageError
        There is no such build, or there are several.
    """
    stage, at, number = word.rpartition("@")
    if at and number.isdigit():
        name = _single(session, stage)
        return name, version_of(session, name, int(number))
    if re.fullmatch(r"[0-9a-f]{6,32}", word):
        matches = {key: name for key, name in session.workspace.state.names().items() if key.startswith(word)}
        matches = {key: name for key, name in matches.items() if name in session.plan.artifacts}
        if len(matches) == 1:
            ((key, name),) = matches.items()
            return name, key
        problem = "no build has such a key" if not matches else f"{len(matches)} builds have such keys: add more digits"
        raise UsageError(f"diff {word}: {problem} (`rvbuild log --json` shows them)")
    return _single(session, word), None


def _single(session: Session, word: str) -> str:
    artifacts = session.matching(word)
    if len(artifacts) > 1:
        choices = ", ".join(
            sorted({a.project for a in artifacts})
            if len({a.project for a in artifacts}) > 1
            else [a.label() for a in artifacts[:5]]
        )
        raise UsageError(f"diff {word}: there are several: {choices}; name the project or the scene")
    return artifacts[0].name


def version_of(session: Session, name: str, number: int) -> str:
    """Return the key of an earlier build of an artifact, counted from the last one, 0.

    Raises
    ------
    UsageError
        There is no such build.
    """
    past = versions(session.workspace.state, name)
    if number < len(past):
        return past[number].key
    label = session.plan.artifacts[name].label()
    if not past:
        raise UsageError(f"diff {label}: it was never built here")
    available = f"only {label}@0" if len(past) == 1 else f"{label}@0 to {label}@{len(past) - 1}"
    raise UsageError(f"diff {label}: there is no {label}@{number}; the log has {available}")


def metrics(store: Store, key: str) -> dict[str, float]:
    """Return name → figure of the evaluation with `key`; empty if the key is not of an evaluation.

    The content is read without verification, since it is only displayed.
    """
    action = store.action(key)
    if action is None or "eval.json" not in action.outputs:
        return {}
    try:
        data = json.loads(store.object(action.outputs["eval.json"][0]).read_bytes())
        figures = {name: v for name, v in data["summary"]["overall"].items() if not isinstance(v, dict)}
        for item in data["overall"]:
            figures |= {f"{item['class_name']} {name}": value for name, value in item["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}
