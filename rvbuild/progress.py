"""The protocol by which stages report their progress, so that they do not print; and its way to another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


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


class Sent:
    """A progress that is sent to another process, where `receive` reports it.

    Parameters
    ----------
    send
        Sends a kind and a value.
    """

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        self._send = send

    def start(self, step: str, total: int, unit: str) -> None:
        """Send a new step."""
        self._send("start", (step, total, unit))

    def advance(self, n: int = 1) -> None:
        """Send an advance."""
        self._send("advance", n)

    def note(self, message: str) -> None:
        """Send a line."""
        self._send("note", message)


def receive(progress: Progress, kind: str, value: Any) -> bool:
    """Report to `progress` what a `Sent` has sent; return False if it is something else."""
    if kind == "start":
        progress.start(*value)
    elif kind == "advance":
        progress.advance(value)
    elif kind == "note":
        progress.note(value)
    else:
        return False
    return True
