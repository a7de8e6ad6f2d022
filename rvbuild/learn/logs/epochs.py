"""Follows the epochs of a training, whatever becomes of the places where they are written."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rvbuild.learn.device import kept_random_state
from rvbuild.learn.selection import Epoch

_SHOWN = 200
"""Characters of a reason: libraries of servers have long ones."""


class Sink(Protocol):
    """A place where the epochs of a training are written as they end. Any of its methods may fail."""

    name: str
    """For messages."""

    def begin(self, lines: Sequence[Epoch]) -> None:
        """Start, or continue after these epochs: it holds each of them once then, and no other."""

    def add(self, line: Epoch) -> None:
        """Write an epoch."""

    def close(self, finished: bool) -> None:
        """End; `finished` tells whether the training has come to its end."""


class EpochLog:
    """Writes epochs to sinks. A sink that fails is left out from then on, with one note; the training goes on.

    Parameters
    ----------
    sinks
        Where to write.
    note
        Receives the warning about a sink that fails.
    """

    def __init__(self, sinks: Sequence[Sink], note: Callable[[str], None]) -> None:
        self._sinks = list(sinks)
        self._note = note

    def begin(self, lines: Sequence[Epoch]) -> None:
        """Start, or continue after these epochs."""
        self._each(lambda sink: sink.begin(lines))

    def add(self, line: Epoch) -> None:
        """Write an epoch that has ended."""
        self._each(lambda sink: sink.add(line))

    def __enter__(self) -> EpochLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._each(lambda sink: sink.close(kind is None))

    def _each(self, action: Callable[[Sink], None]) -> None:
        for sink in tuple(self._sinks):
            try:
                # Libraries draw random names, and warn of their own future.
                with kept_random_state(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    action(sink)
            except Exception as error:  # of a disk, a server, a library: none of it concerns the training
                self._sinks.remove(sink)
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                self._note(
                    f"warning: {sink.name} cannot be written ({reason[:_SHOWN]}); the training goes on without it, "
                    "and its result is the same"
                )


def figures(line: Epoch) -> dict[str, float]:
    """Return the figures of an epoch by name; those of classes and of parts of the loss have names with a slash.

    >>> figures({"epoch": 1, "lr": 0.1, "train_loss": 2.0, "val_loss": None, "metrics": {"iou": {"tree": 0.5}}})
    {'lr': 0.1, 'train_loss': 2.0, 'iou/tree': 0.5}
    """
    values: dict[str, object] = {"lr": line["lr"], "train_loss": line["train_loss"], "val_loss": line["val_loss"]}
    tables: list[tuple[str, object]] = [
        ("train_losses", line.get("train_losses", {})),
        ("val_losses", line.get("val_losses", {})),
    ]
    for name, value in (line["metrics"] or {}).items():
        if isinstance(value, Mapping):
            tables.append((name, value))
        else:
            values[name] = value
    for name, table in tables:
        if isinstance(table, Mapping):
            values |= {f"{name}/{key}": value for key, value in table.items()}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
