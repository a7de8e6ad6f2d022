"""The plan: the digests of inputs, the key and the decision for every artifact of a graph."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rvbuild.engine.keys.artifact import (
    Artifact,
    ContentDigest,
    KeyDigester,
    Product,
    Source,
    components,
    digest_texts,
)
from rvbuild.engine.plan.decide import Decision, Facts, State, decide
from rvbuild.engine.plan.on_disk import content_of, damage
from rvbuild.engine.plan.products import files_of, product_digest
from rvbuild.engine.remote.read_through import ReadThrough
from rvbuild.engine.store.action import Action
from rvbuild.engine.store.fingerprint import Stamp
from rvbuild.engine.store.state import Record
from rvbuild.engine.workspace import Workspace
from rvbuild.files.address import is_url

_Question = tuple[tuple[Path, ...], ContentDigest]
#: Computes content digests: for each (files, digest) the value, in order; None for a file that cannot be read.
DigestRunner = Callable[[Sequence[_Question]], Sequence[str | None]]
#: Returns the files that have become sidecars of a user's file since the run was planned.
Appeared = Callable[[Path], Sequence[Path]]
#: Attempts to compute the content digest of a file that keeps changing.
_LOOKS = 3


class Planned(NamedTuple):
    """The facts about an artifact before it is built."""

    facts: Facts
    decision: Decision
    outputs: Mapping[str, tuple[str, int]] | None  # name -> (digest, size); None while not known
    action: Action | None = None  # the stored result of the key


class Plan:
    """Decides for every artifact of a graph; decisions are cached until `update` reports that one was built.

    Parameters
    ----------
    workspace : Workspace
    artifacts : iterable of Artifact
        In an order in which every artifact comes after its dependencies.
    digests : callable
        Computes the content digests that are not known yet.
    forced : set of str
        Names of the artifacts to build in any case.
    appeared : callable, optional
        Returns files that have become sidecars of a source since.
    """

    def __init__(
        self,
        workspace: Workspace,
        artifacts: Iterable[Artifact],
        digests: DigestRunner,
        forced: frozenset[str] = frozenset(),
        appeared: Appeared | None = None,
    ) -> None:
        self.workspace = workspace
        self.artifacts = {a.name: a for a in artifacts}
        self._order = {name: i for i, name in enumerate(self.artifacts)}
        self._digests = digests
        self._appeared = appeared
        self._forced = set(forced)
        self._planned: dict[str, Planned] = {}
        self._waiting: set[str] = set()  # artifacts whose key is not known yet
        self._records = workspace.state.records()
        self._readers: dict[str, list[str]] = {}  # artifact -> those that read its outputs, which are not in their keys
        for artifact in self.artifacts.values():
            for item in artifact.inputs:
                if isinstance(item, Product) and not item.in_key:
                    self._readers.setdefault(item.artifact, []).append(artifact.name)
        self._lock = threading.RLock()
        self._digester = KeyDigester()
        self._digested: dict[tuple[str, str], str] = {}  # (content, method) -> content digest, of `examine`
        self._unreadable: set[tuple[str, str]] = set()
        self._assumed: dict[str, Mapping[str, tuple[str, int]] | None] = {}  # outputs found to be lost
        self._asks_at_once = True  # whether a missing key is looked up remotely at once

    def closure(self, names: Iterable[str]) -> list[Artifact]:
        """Return the named artifacts and all of their dependencies, in graph order."""
        wanted: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending += self.artifacts[name].needs()
        return [self.artifacts[name] for name in sorted(wanted, key=self._order.__getitem__)]

    def examine(self, artifacts: Iterable[Artifact]) -> None:
        """Hash all changed sources of `artifacts`, compute unknown content digests, look up results remotely."""
        artifacts = list(artifacts)
        sources = [i for a in artifacts for i in a.inputs if isinstance(i, Source)]
        prints = self.workspace.prints
        prints.prefetch(p for s in sources for p in [*s.files, *(c for cs in s.sidecars for c in cs)])
        needed: dict[str, dict[str, _Question]] = {}  # by name of the method, and content
        for source in sources:
            for i, method in enumerate(source.digests):
                content = self._content(source, i)
                if method is not None and content is not None:
                    needed.setdefault(method.name(), {})[content] = (files_of(source, i), method)
        unknown: dict[tuple[str, str], _Question] = {}
        for name, of_method in needed.items():
            stored = self.workspace.state.content_digests(of_method, name)
            self._digested |= {(content, name): value for content, value in stored.items()}
            unknown |= {(content, name): of_method[content] for content in of_method if content not in stored}
        if unknown:
            stamps = [self._stamps(files) for files, _ in unknown.values()]
            values = self._digests(list(unknown.values()))
            for (content, name), value, before in zip(unknown, values, stamps, strict=True):
                files, _ = unknown[content, name]
                # If the files changed meanwhile, the value may belong to another content.
                if not self._have_changed(before) and not self.appeared(files[0]):
                    self._keep_digest(content, name, value)
        if self.workspace.read_through is not None:
            self._ask_remote(artifacts, self.workspace.read_through)

    def _ask_remote(self, artifacts: Sequence[Artifact], remote: ReadThrough) -> None:
        """Look up missing results in the remote store, many keys at once, level by level down the graph."""
        with self._lock:
            self._asks_at_once = False
            try:
                while True:
                    planned = [self[a.name] for a in artifacts]
                    here = (State.FRESH, State.RESTORABLE)
                    lacking = [p for p in planned if p.decision.state not in here and not p.facts.forced]
                    if not remote.request(p.facts.key for p in lacking if p.facts.key is not None):
                        return
                    for artifact, current in zip(artifacts, planned, strict=True):
                        if current.decision.state not in here:
                            self._planned.pop(artifact.name, None)
            finally:
                self._asks_at_once = True

    def _earlier(self, artifact: Artifact, key: str) -> Action | None:
        """Return the stored result of `key`, local or remote, if its outputs are those that the stage declares."""
        action = self.workspace.store.restorable(key)
        remote = self.workspace.read_through
        if (action is None or artifact.undeclared(action.outputs)) and remote is not None:
            action = remote.action(key) if self._asks_at_once else remote.known(key)
        return None if action is None or artifact.undeclared(action.outputs) else action

    def __getitem__(self, name: str) -> Planned:
        """Return the current plan of the artifact `name`."""
        with self._lock:
            if name not in self._planned:
                self._planned[name] = self._plan(self.artifacts[name])
                if self._planned[name].facts.key is None:
                    self._waiting.add(name)
            return self._planned[name]

    def is_shown(self, name: str) -> bool:
        """Tell whether the workspace holds a result of the artifact `name`, fresh or not."""
        record = self._records.get(name)
        return record is not None and not record.cleaned

    def update(self, name: str, record: Record) -> None:
        """Record that `name` was built or restored."""
        with self._lock:
            self._records[name] = dataclasses.replace(record, components={}, sources={}, packages={})
            self._made(name, {output: (o.digest, o.size) for output, o in record.outputs.items()})

    def keep_elsewhere(self, name: str, action: Action) -> None:
        """Record that `name` was built, and that its result is in the remote store but not here."""
        with self._lock:
            self._made(name, action.outputs)

    def _made(self, name: str, outputs: Mapping[str, tuple[str, int]]) -> None:
        self._forced.discard(name)
        before = self._planned.pop(name, None)
        for waiting in self._waiting:
            self._planned.pop(waiting, None)
        self._waiting.clear()
        assumed = self._assumed.pop(name, None if before is None else before.outputs)
        if assumed is not None and dict(assumed) != dict(outputs):
            self._planned.clear()  # dependent artifacts were planned with other contents

    def renew(self, name: str) -> None:
        """Plan `name` again if a file of its stage has changed: time may have passed since it was planned."""
        facts = self[name].facts
        for source in (i for i in self.artifacts[name].inputs if isinstance(i, Source) and i.passed):
            for i in range(len(source.files)):
                for file in files_of(source, i):
                    self.workspace.prints.stamp(file)
            if self.differing(source, facts) is not None:
                self.invalidate(name)
                return

    def differing(self, source: Source, facts: Facts) -> Path | None:
        """Return a file of `source` whose content differs from that in the key of `facts`, or None."""
        expected = facts.sources.get(source.role, ())
        for (_, before), now, path in zip(expected, self._contents(source), source.files, strict=True):
            if now != before:
                return path
        if not source.in_key:
            return None
        # `facts.sources` is for explanations; the key decides.
        before = dict(facts.components["inputs"]).get(source.role)
        return None if self._look(source)[0] == before else source.files[0]

    def invalidate_all(self) -> None:
        """Plan all artifacts again: the store may have more results than before."""
        with self._lock:
            self._planned.clear()

    def invalidate(self, name: str) -> None:
        """Plan `name` again, because its plan turned out to be wrong, or its result damaged."""
        with self._lock:
            planned = self._planned.pop(name, None)
            self._assumed[name] = None if planned is None else planned.outputs

    # -- one artifact -------------------------------------------------------------------------------------------------

    def _plan(self, artifact: Artifact) -> Planned:
        if not self._is_needed(artifact):
            return Planned(Facts(key=None, components={}), Decision(State.FRESH), None)
        roles: list[tuple[str, str]] = []
        waiting: list[str] = []
        contents: dict[str, list[str | None]] = {}
        complete = True
        for item in artifact.inputs:
            if not item.in_key:
                continue
            if isinstance(item, Source):
                value, contents[item.role] = self._look(item)
            else:
                value = self._product(item)
            if value is not None:
                roles.append((item.role, value))
                continue
            complete = False
            if isinstance(item, Product):
                waiting.append(self.artifacts[item.artifact].label())
        parts = components(artifact, roles)
        key = self._digester.key(parts) if complete else None
        record = self._records.get(artifact.name)
        damaged = self._damaged(artifact, record) if record is not None else ()
        record = self._records.get(artifact.name)  # touched outputs have new signatures
        forced = artifact.name in self._forced
        if record is not None and record.key == key and not damaged and not record.cleaned and not forced:
            outputs = {name: (o.digest, o.size) for name, o in record.outputs.items()}
            facts = Facts(key=key, components=parts, record=record)
            return Planned(facts, decide(facts), outputs)
        return self._plan_work(artifact, parts, key, contents, tuple(dict.fromkeys(waiting)), damaged, forced)

    def _is_needed(self, artifact: Artifact) -> bool:
        """Tell whether a run may build `artifact`; not if its outputs only save work, and all that work is done."""
        readers, done = self._readers.get(artifact.name), (State.FRESH, State.RESTORABLE)
        if not readers or artifact.name in self._forced:
            return True
        return any(self[reader].decision.state not in done for reader in readers)

    def _plan_work(
        self,
        artifact: Artifact,
        parts: Mapping[str, Any],
        key: str | None,
        contents: Mapping[str, list[str | None]],
        waiting: tuple[str, ...],
        damaged: tuple[str, ...],
        forced: bool,
    ) -> Planned:
        """Plan an artifact that is not fresh, with everything that explains it."""
        state, named = self.workspace.state, self.artifacts
        failure = None if key is None else state.failure(artifact.name)
        action = None if key is None or forced else self._earlier(artifact, key)
        products = {i.role: named[i.artifact].label() for i in artifact.inputs if isinstance(i, Product) and i.in_key}
        facts = Facts(
            key=key,
            components=parts,
            sources=self._sources(artifact, contents),
            products=products,
            waiting=waiting,
            record=state.record(artifact.name) if artifact.name in self._records else None,
            damaged=damaged,
            stored=action is not None,
            failure=failure[1] if failure is not None and failure[0] == key else None,
            forced=forced,
            notes=self.notes(artifact),
        )
        decision = decide(facts)
        outputs = action.outputs if decision.state is State.RESTORABLE and action is not None else None
        return Planned(facts, decision, outputs, action)

    def notes(self, artifact: Artifact) -> dict[str, str]:
        """Return path -> how the state of a remote source of `artifact` was determined, or why it could not be."""
        prints = self.workspace.prints
        notes: dict[str, str] = {}
        for item in artifact.inputs if prints.has_remote else ():
            for path in item.files if isinstance(item, Source) else ():
                if note := prints.note(path):
                    notes[self.workspace.show(path)] = note
        return notes

    def _content(self, source: Source, i: int) -> str | None:
        return content_of(self.workspace.prints, source, i)

    def _contents(self, source: Source) -> list[str | None]:
        prints = self.workspace.prints
        return [content_of(prints, source, i) for i in range(len(source.files))]

    def _look(self, source: Source) -> tuple[str | None, list[str | None]]:
        """Return the digest of the files of `source`, or None if one is missing, and the content of each file."""
        contents = self._contents(source)
        values = [content for content in contents if content is not None]
        if len(values) < len(contents):
            return None, contents
        if any(source.digests):
            for i, method in enumerate(source.digests):
                values[i] = values[i] if method is None else self._content_digest(source, i, method, values[i])
            contents = self._contents(source)  # they may have changed meanwhile
        return digest_texts(values), contents

    def _sources(self, artifact: Artifact, contents: Mapping[str, list[str | None]]) -> dict[str, Any]:
        """Return [path, digest] of every file by role, without incomplete sources that are not part of the key."""
        shown = {}
        for source in artifact.inputs:
            if isinstance(source, Source):
                known = contents[source.role] if source.in_key else self._contents(source)
                if source.in_key or None not in known:
                    files = map(self.workspace.show, source.files)
                    shown[source.role] = [[path, content] for path, content in zip(files, known, strict=True)]
        return shown

    def _content_digest(self, source: Source, i: int, method: ContentDigest, content: str) -> str:
        name, files = method.name(), files_of(source, i)
        for _ in range(_LOOKS):
            if (content, name) in self._unreadable:
                return f"unreadable {content}"
            value = self._digested.get((content, name)) or self.workspace.state.content_digest(content, name)
            if value is not None:
                return value
            stamps = self._stamps(files)
            now = self._content(source, i)
            if now == content:
                (value,) = self._digests([(files, method)])
                if self.appeared(source.files[i]):
                    break
                if not self._have_changed(stamps):
                    return self._keep_digest(content, name, value)
                now = self._content(source, i)
            if now is None:
                break
            content = now
        return f"unreadable {content}"  # the files keep changing: the stage runs and notices that

    def appeared(self, file: Path) -> Path | None:
        """Return a file that has become a sidecar of the source file `file` since the run was planned, or None."""
        newcomers = () if self._appeared is None or is_url(str(file)) else self._appeared(file)
        return newcomers[0] if newcomers else None

    def _stamps(self, files: Iterable[Path]) -> dict[str, Stamp]:
        return {str(file): self.workspace.prints.stamp(file) for file in files}

    def _have_changed(self, stamps: Mapping[str, Stamp]) -> bool:
        """Tell whether a file has changed since; changed files are examined again."""
        changed = self.workspace.prints.changed(stamps)
        for path in changed:
            self.workspace.prints.forget(path)
        return bool(changed)

    def _keep_digest(self, content: str, name: str, value: str | None) -> str:
        """Store a content digest; an unreadable file counts by its bytes, so that its stage reports it."""
        if value is None:
            self._unreadable.add((content, name))
            return f"unreadable {content}"
        self.workspace.state.remember_content_digest(content, name, value)
        return value

    def _product(self, item: Product) -> str | None:
        outputs = self[item.artifact].outputs
        if outputs is None:
            return None
        return product_digest(item, outputs)

    def _damaged(self, artifact: Artifact, record: Record) -> tuple[str, ...]:
        """Return a phrase for each output that is missing or was edited; update the signatures of touched outputs."""
        phrases, touched = damage(self.workspace.root, self.workspace.prints, artifact, record)
        if touched:
            renewed = dataclasses.replace(record, outputs={**record.outputs, **touched})
            self._records[artifact.name] = renewed
            self.workspace.state.refresh(artifact.name, renewed)
        return tuple(phrases)
