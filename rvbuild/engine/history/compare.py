"""Comparison of two builds: the inputs and settings that differ, down to the original files and keys.

The origins of each build come from the store's actions and from the state database. If an input is the output of
another artifact, the comparison continues with the two builds of that artifact, as long as the store has their records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rvbuild.engine.keys.artifact import Artifact, Product
from rvbuild.engine.plan.decide import Facts, Reason, differences
from rvbuild.engine.plan.products import product_digest
from rvbuild.engine.store.action import Action
from rvbuild.engine.store.state import Record, State
from rvbuild.engine.store.store import Store


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two builds of an artifact; `known` is false if the store no longer has one of them."""

    artifact: Artifact
    keys: tuple[str, str]
    reasons: tuple[Reason, ...]
    below: tuple[Comparison, ...]
    known: bool = True
    seen: bool = False  # already compared above


class Comparer:
    """Compares builds of `artifacts` in a workspace."""

    def __init__(self, state: State, store: Store, artifacts: Mapping[str, Artifact]) -> None:
        self._state = state
        self._store = store
        self._artifacts = artifacts
        self._actions: dict[str, Action | None] = {}
        self._done: set[tuple[str, str, str]] = set()

    def compare(self, name: str, old: str, new: str) -> Comparison:
        """Return the differences of the builds of artifact `name` under the keys `old` and `new`."""
        artifact = self._artifacts[name]
        seen = (name, old, new) in self._done
        self._done.add((name, old, new))
        before, after = self._action(old), self._action(new)
        if before is None or after is None:
            return Comparison(artifact, (old, new), (), (), known=False, seen=seen)
        if seen or old == new:
            return Comparison(artifact, (old, new), (), (), seen=seen)
        new_inputs = dict(after.components["inputs"])
        products = {i.role: i for i in artifact.inputs if isinstance(i, Product) and i.role in new_inputs}
        record = Record(old, before.components, self._state.sources(name, old), {}, before.seconds, before.at)
        facts = Facts(
            key=new,
            components=after.components,
            sources=self._state.sources(name, new),
            products={role: self._artifacts[item.artifact].label() for role, item in products.items()},
        )
        old_inputs = dict(before.components["inputs"])
        below = []
        for role, item in products.items():
            if role in old_inputs and old_inputs[role] != new_inputs[role]:
                old_key, new_key = (
                    self._key_of_input(item, old_inputs[role]),
                    self._key_of_input(item, new_inputs[role]),
                )
                if old_key is not None and new_key is not None:
                    below.append(self.compare(item.artifact, old_key, new_key))
        return Comparison(artifact, (old, new), tuple(differences(record, facts)), tuple(below))

    def _action(self, key: str) -> Action | None:
        if key not in self._actions:
            self._actions[key] = self._store.action(key)
        return self._actions[key]

    def _key_of_input(self, item: Product, digest: str) -> str | None:
        """Return the key of the build of `item`'s artifact that produced the input `digest`."""
        for key in self._state.keys(item.artifact):
            action = self._action(key)
            if action is not None and product_digest(item, action.outputs) == digest:
                return key
        return None
