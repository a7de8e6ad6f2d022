"""What the workers of a cluster offer, and what jobs need of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from rvbuild.engine.keys.artifact import Artifact, Demand, Resource

_SHOWN = 4
"""Artifacts that a message names at most."""
_KNOWN_FOR_S = 2.0

Offer = Mapping[str, float]
"""The amount of each resource, in all and not what is free."""


class Offers:
    """What the workers that take jobs of a session offer.

    Parameters
    ----------
    look
        Returns the offer of each worker by its address, as known since so many seconds at most.
    session
        The name of the session, which is a resource of these workers as well.
    """

    def __init__(self, look: Callable[[float], Mapping[str, Offer]], session: str) -> None:
        self.now, self._session = look, session

    def jobs(self) -> int:
        """Return how many jobs all workers together take at once."""
        return int(sum(offer[self._session] for offer in self.now(_KNOWN_FOR_S).values()))

    def needs(self, resource: Resource, demand: Demand) -> dict[str, float]:
        """Return the amounts of what a worker must have free for a process of a job.

        It is not more memory than the largest of the workers that have all else.
        """
        from rvbuild.engine.cluster.node import COMPUTE, GPU, MEMORY, TORCH

        needs: dict[str, float] = {self._session: 1}
        if demand.cores != 0 or demand.device != "cpu":
            needs[COMPUTE] = 1
        if resource == Resource.TORCH:
            needs[TORCH] = 1
        offers = self.having(needs)
        asks = demand.device.startswith("cuda")
        if asks or (demand.device != "cpu" and any(offer.get(GPU, 0) for offer in offers)):
            needs[GPU] = 1
            offers = self.having(needs)
        if demand.memory and offers:
            needs[MEMORY] = min(demand.memory, max(offer.get(MEMORY, 0) for offer in offers))
        return needs

    def having(self, needs: Mapping[str, float]) -> list[Offer]:
        """Return the offers of the workers that have what is needed."""
        offers = self.now(_KNOWN_FOR_S).values()
        return [offer for offer in offers if all(offer.get(name, 0) >= amount for name, amount in needs.items())]

    def slots(self, needs: Mapping[str, float]) -> dict[str, int]:
        """Return how many jobs with these needs each worker could have at once, by its address."""
        return {
            address: min(int(offer.get(name, 0) // amount) for name, amount in needs.items())
            for address, offer in self.now(0).items()
        }

    def lacking(self, artifacts: Iterable[Artifact]) -> list[str]:
        """Return what no worker has, each with the artifacts that need it."""
        if not self.now(0):
            return []  # nobody has joined
        labels: dict[tuple[Resource, Demand], list[str]] = {}
        for artifact in artifacts:
            labels.setdefault((artifact.resource, artifact.demand), []).append(artifact.label())
        texts = []
        for (resource, demand), those in labels.items():
            needs = self.needs(resource, demand)
            if not self.having(needs):
                more = f" and {len(those) - _SHOWN} more" if len(those) > _SHOWN else ""
                texts.append(f"{', '.join(those[:_SHOWN])}{more} (needs {self.text(needs)})")
        return texts

    def text(self, needs: Mapping[str, float]) -> str:
        """Return what a worker must have, for messages."""
        names = [name.removeprefix("rvbuild.") for name in needs if name != self._session]
        return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or "a slot"
