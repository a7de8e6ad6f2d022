"""A weighted sum of losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rvbuild.learn.losses.points import Loss


class Total:
    """The weighted sum of several losses.

    Parameters
    ----------
    terms
        The weight of each loss, and the loss, by name, in the order in which they are added up.
    """

    def __init__(self, terms: Mapping[str, tuple[float, Loss]]) -> None:
        self._terms = dict(terms)

    def by_name(
        self, logits: torch.Tensor, target: torch.Tensor, shares: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Return each loss times its weight; the parameters are those of a `Loss`."""
        given = (logits, target) if shares is None else (logits, target, shares)
        return {name: weight * loss(*given) for name, (weight, loss) in self._terms.items()}

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sum; see `rvbuild.learn.losses.points.Loss`."""
        return added(self.by_name(logits, target, shares))


def added(terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the sum of losses by name."""
    return torch.stack(list(terms.values())).sum()
