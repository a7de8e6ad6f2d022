"""Decides whether an artifact is up to date: a pure function that status, why, dry runs and builds share."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rvbuild.engine.keys.artifact import plain
from rvbuild.engine.store.state import Record


class State(enum.Enum):
    """What a run would do with an artifact."""

    FRESH = "fresh"
    """The workspace holds the result of the key: nothing to do."""
    RESTORABLE = "restorable"
    """The store has the result of the key: it is restored without running the stage."""
    STALE = "stale"
    """Its inputs or settings changed since it was built: the stage runs."""
    WAITING = "waiting"
    """A dependency is to be built first; if its content does not change, the artifact is fresh."""
    MISSING = "missing"
    """It was never built here, or was cleaned: the stage runs."""
    FAILED = "failed"
    """The stage failed with exactly these inputs; a run tries again."""


class Cause(enum.Enum):
    """The kind of a reason."""

    NEVER_BUILT = "never built"
    CLEANED = "cleaned"
    FORCED = "forced"
    SOURCE = "source"
    SETTING = "setting"
    VERSION = "version"
    CODE = "code"
    PACKAGE = "package"
    VARIABLE = "variable"
    UPSTREAM = "upstream"
    OUTPUT = "output"
    FAILURE = "failure"
    SCHEMA = "schema"


@dataclass(frozen=True, slots=True)
class Reason:
    """A cause in words; `subject` is the role, the dotted key or the name of the artifact that it concerns."""

    cause: Cause
    text: str
    subject: str = ""

    def __str__(self) -> str:
        return self.text


_NONE: Mapping[str, Any] = {}


class Facts(NamedTuple):
    """Everything that a decision depends on.

    Attributes
    ----------
    key : str or None
        The current key of the artifact; None until the content of every input is known.
    components : mapping
        The components of the key, without inputs that are not known yet.
    sources : mapping
        role -> [[path, digest or None], ...] of the user's files, for explanations; omitted for fresh artifacts.
    products : mapping
        role -> name of the artifact that produces this input.
    waiting : sequence of str
        Labels of the artifacts whose content is not known yet.
    record : Record or None
        The record of the workspace's outputs; without explanations for a fresh artifact.
    damaged : sequence of str
        A phrase for each output that is missing or was edited.
    stored : bool
        Whether the store has the complete result of the key.
    failure : str or None
        The message of the last failure of this key.
    forced : bool
        Whether the user requested to build it in any case.
    notes : mapping
        Path -> how the state of a remote source was determined, or why it could not be.
    """

    key: str | None
    components: Mapping[str, Any]
    sources: Mapping[str, Any] = _NONE
    products: Mapping[str, str] = _NONE
    waiting: Sequence[str] = ()
    record: Record | None = None
    damaged: Sequence[str] = ()
    stored: bool = False
    failure: str | None = None
    forced: bool = False
    notes: Mapping[str, str] = _NONE


class Decision(NamedTuple):
    """A state and the reasons for it; a fresh artifact has none."""

    state: State
    reasons: tuple[Reason, ...] = ()


_NEVER_BUILT = Reason(Cause.NEVER_BUILT, "never built here")


def decide(facts: Facts) -> Decision:
    """Decide what a run does with an artifact. Depends only on `facts`."""
    record = facts.record if facts.record is not None and not facts.record.cleaned else None
    if facts.forced:
        return Decision(State.STALE, (Reason(Cause.FORCED, "requested by --always-make"),))
    if facts.key is not None and record is not None and record.key == facts.key and not facts.damaged:
        return Decision(State.FRESH)
    reasons = [Reason(Cause.OUTPUT, phrase) for phrase in facts.damaged]
    if record is not None:
        reasons = differences(record, facts) + reasons
    elif facts.record is not None:
        reasons = [Reason(Cause.CLEANED, "removed by `rvbuild clean`")]
    else:
        reasons = [_NEVER_BUILT]
    if record is None and facts.key is None:  # a key is known if no source is missing
        for role in sorted(facts.sources):
            reasons += _missing_sources(role, facts.sources[role], facts.notes)
    waits = [Reason(Cause.UPSTREAM, f"waits for {label}", label) for label in facts.waiting]
    if facts.key is None:
        if record is None:
            return Decision(State.MISSING, (*reasons, *waits))
        return Decision(State.STALE if reasons else State.WAITING, (*reasons, *waits))
    if facts.stored:
        return Decision(State.RESTORABLE, tuple(reasons))
    if facts.failure is not None:
        return Decision(State.FAILED, (Reason(Cause.FAILURE, f"failed: {facts.failure}"), *reasons))
    return Decision(State.MISSING if record is None else State.STALE, tuple(reasons))


def differences(record: Record, facts: Facts) -> list[Reason]:
    """Return the differences between the current components and those of `record`; unknown inputs are not compared."""
    old, new = record.components, facts.components
    reasons = _scalar_differences(old, new)
    reasons += _setting_differences(old.get("settings", {}), new["settings"], new["stage"])
    reasons += _input_differences(record, facts)
    return reasons


def _scalar_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Reason]:
    reasons = []
    if old.get("schema") != new["schema"]:
        reasons.append(
            Reason(Cause.SCHEMA, f"this version of rvbuild computes keys in a new way (schema {new['schema']})")
        )
    if old.get("version") != new["version"]:
        text = f"the stage {new['stage']} changed: version {old.get('version')} → {new['version']}"
        reasons.append(Reason(Cause.VERSION, text))
    if old.get("code", "") != new.get("code", ""):
        reasons.append(
            Reason(Cause.CODE, f"the code of the stage {new['stage']} was edited in this checkout of rvbuild")
        )
    before, after = old.get("packages", {}), new.get("packages", {})
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            old_version, new_version = (versions.get(name, "not in the key") for versions in (before, after))
            text = f"{name} {old_version} → {new_version} (version in the key)"
            reasons.append(Reason(Cause.PACKAGE, text, name))
    before, after = old.get("variables", {}), new.get("variables", {})
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            known = name in before and name in after
            text = f"environment variable {name}, which your code reads, {'changed' if known else 'is new in the key'}"
            if name not in after:
                text = f"environment variable {name} is no longer read by your code"
            reasons.append(Reason(Cause.VARIABLE, text, name))
    return reasons


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        flat: dict[str, Any] = {}
        for name, inner in value.items():
            flat |= _flatten(inner, f"{prefix}.{name}" if prefix else str(name))
        return flat
    return {prefix: value}


_ABSENT = object()


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "(not set)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _setting_differences(old: Mapping[str, Any], new: Mapping[str, Any], stage: str) -> list[Reason]:
    before, after = _flatten(dict(old)), _flatten(plain(new))
    reasons = []
    for name in [*after, *(n for n in before if n not in after)]:
        was, now = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if was is _ABSENT or now is _ABSENT or was != now or type(was) is not type(now):
            text = _named_differences(name, was, now) or f"{name}: {_show(was)} → {_show(now)}"
            reasons.append(Reason(Cause.SETTING, text, name))
    return reasons


def _named_differences(name: str, was: Any, now: Any) -> str:
    """Describe the differences of two lists of items with names or ids; empty for other kinds of lists."""
    named = [_has_names(value) for value in (was, now)]
    field = "name" if all(named) else "id"
    before, after = _by(field, was), _by(field, now)
    if before is None or after is None:
        return ""
    singular = name.removesuffix("es") if name.endswith("sses") else name.removesuffix("s")
    phrases = []
    if named[0] != named[1]:
        phrases.append(f"the names of {name} are {'now' if named[1] else 'no longer'} in the key")
    phrases += [f"{singular} added: {key}" for key in after if key not in before]
    phrases += [f"{singular} removed: {key}" for key in before if key not in after]
    common = [key for key in after if key in before]
    for key in common:
        for inner in [*after[key], *(n for n in before[key] if n not in after[key])]:
            old, new = before[key].get(inner, _ABSENT), after[key].get(inner, _ABSENT)
            # Items that moved because of additions or removals have new numbers, which are not reported.
            if old != new and inner != "id" and (inner != "name" or named[0] == named[1]):
                phrases.append(f"{inner} of {singular} {key}: {_show(old)} → {_show(new)}")
    if common != [key for key in before if key in after]:
        phrases.append(f"order of {name}: {', '.join(before)} → {', '.join(after)}")
    return "; ".join(phrases)


def _has_names(value: Any) -> bool:
    """Tell whether a value is a list of items that all have names."""
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)


def _by(field: str, value: Any) -> dict[str, Mapping[str, Any]] | None:
    """Return the items of a list by a field; None if it is not such a list, or has duplicates."""
    if not isinstance(value, list) or not all(isinstance(item, dict) and field in item for item in value):
        return None
    items = {str(item[field]): item for item in value}
    return items if value and len(items) == len(value) else None


def _input_differences(record: Record, facts: Facts) -> list[Reason]:
    before = dict(record.components.get("inputs", []))
    after = dict(facts.components["inputs"])
    unknown = set(facts.products) - set(after)
    reasons = []
    for role in sorted({*before, *after}):
        if role in unknown or before.get(role) == after.get(role):
            continue
        if role in facts.products or role not in {*facts.sources, *record.sources}:
            label = facts.products.get(role, "")
            text = f"{role} changed" if role in before and role in after else f"{role} {_added(role, before)}"
            reasons.append(Reason(Cause.UPSTREAM, f"{text} ({label})" if label else text, label))
        else:
            reasons += _source_differences(role, record.sources.get(role, []), facts.sources.get(role, []), facts.notes)
    return reasons


def _added(role: str, before: Mapping[str, str]) -> str:
    return "is no longer needed" if role in before else "was added"


def _missing_sources(role: str, sources: Sequence[Any], notes: Mapping[str, str]) -> list[Reason]:
    missing = [path for path, value in sources if value is None]
    return [Reason(Cause.SOURCE, f"{role} is missing: {_noted(path, notes)}", role) for path in missing]


def _noted(path: str, notes: Mapping[str, str]) -> str:
    return f"{path} ({notes[path]})" if path in notes else path


def _source_differences(
    role: str, before: Sequence[Any], after: Sequence[Any], notes: Mapping[str, str]
) -> list[Reason]:
    was, now = {p: d for p, d in before}, {p: d for p, d in after}
    removed = [p for p in was if p not in now]
    added = [p for p in now if p not in was]
    changed = [p for p in now if p in was and was[p] != now[p]]
    reasons = [
        Reason(Cause.SOURCE, f"{role} changed: {_noted(path, notes)}", role)
        for path in changed
        if now[path] is not None
    ]
    reasons += _missing_sources(role, after, notes)
    if len(removed) == len(added) == 1:
        return [*reasons, Reason(Cause.SOURCE, f"{role} is a different file: {removed[0]} → {added[0]}", role)]
    reasons += [Reason(Cause.SOURCE, f"{role} no longer read: {path}", role) for path in removed]
    reasons += [Reason(Cause.SOURCE, f"{role} added: {path}", role) for path in added]
    return reasons or [Reason(Cause.SOURCE, f"{role} is read in a different order or way", role)]
