"""The protocol by which stages report their progress, so that they do not print."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one artifact. Calls are cheap: the receiver limits the rate of updates."""

    def start(self, step: str, total: int, unit: str) -> None:
        """Start a step, for example `start("epoch 3/10", 1200, "chips")`; it ends when the next one starts."""

    def advance(self, n: int = 1) -> None:
        """Report `n` more units of the current step."""

    def note(self, message: str) -> None:
        """Report a line for the user, for example the validation scores of an epoch."""


class Silent:
    """A progress that does nothing: for tests and for calls from Python."""

    def start(self, step: str, total: int, unit: str) -> None:
        """Ignore a new step."""

    def advance(self, n: int = 1) -> None:
        """Ignore an advance."""

    def note(self, message: str) -> None:
        """Ignore a message."""
