"""The link of a session to the scheduler: calls that end in any case, what the scheduler knows, and its loss."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from rvbuild.engine.cluster.asking import asked
from rvbuild.engine.run.workers import Interrupted
from rvbuild.errors import StageError

LOST = "the connection to the scheduler of the cluster was lost"
_SILENT = "the scheduler of the cluster, or a worker, does not answer"
#: How long they may be silent. Dask gives up a silent worker after 5 minutes.
_SILENT_S = 330.0
#: How long a call may take that nothing depends on.
_END_S = 5.0
_PLACED_FOR_S = 2.5
_ATTEMPTS = 4


class Link:
    """The link of the session `name` to the scheduler at `address`, through a client of Dask.

    When the scheduler is lost, or another one answers at its address, the session is over: `fell` is called.
    """

    def __init__(
        self, address: str, name: str, note: Callable[[str], None], stopped: threading.Event, fell: Callable[[], None]
    ) -> None:
        self.client: Any = None
        self._address, self._name, self._note = address, name, note
        self._stopped, self._fell = stopped, fell
        self._scheduler = ""
        self._is_down = False
        self._falling = threading.Lock()
        self._looking = threading.Lock()
        self._offers: tuple[float, dict[str, Mapping[str, float]]] = (0.0, {})
        self._placed: tuple[float, set[str]] = (0.0, set())

    def is_over(self) -> bool:
        """Tell whether the session was stopped, or its scheduler lost."""
        return self._stopped.is_set() or self._is_down

    def down(self, what: str = LOST, *, again: bool = False) -> BaseException:
        """End the session, and return the error to raise: one that tells `what`, but only once unless `again`."""
        if self._stopped.is_set():
            return Interrupted()
        with self._falling:
            is_first, self._is_down = not self._is_down, True
        if is_first:
            self._fell()
        return StageError(f"{self._address}: {what}; run again") if is_first or again else Interrupted()

    def ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Return what a call to the cluster returns.

        Raises
        ------
        StageError
            There is no answer.
        Interrupted
            The session is over.
        """
        noted = f"{_SILENT}: waiting …"
        try:
            return asked(
                call,
                *arguments,
                stopped=self.is_over,
                within_s=_SILENT_S,
                slow=lambda: self._note(noted),
                **more,
            )
        except TimeoutError:
            raise self.down(_SILENT) from None

    def ask_scheduler(self, call: Callable[..., Any]) -> Any:
        """Return what a call returns that only needs the scheduler; see `ask`."""
        try:
            return self.ask(call)
        except (OSError, RuntimeError, ValueError):  # what Dask raises without a connection
            raise self.down() from None

    def at_last(self, name: str, *arguments: Any, **more: Any) -> None:
        """Call a method of the client on which nothing depends, if there is a connection."""
        client = self.client
        if client is not None and not self._is_down:
            with contextlib.suppress(Exception):
                asked(getattr(client, name), *arguments, stopped=lambda: False, within_s=_END_S, **more)

    def wait_for_workers(self) -> None:
        """Wait until at least one worker has joined."""
        noted = False
        while True:
            if (scheduler := self.ask_scheduler(self._identity)) is not None:
                self._scheduler = scheduler["id"]
                if scheduler["workers"]:
                    return
            if not noted:
                noted = True
                self._note("the cluster has no worker yet: waiting for the first one …")
            if self._stopped.wait(0.5):
                raise Interrupted

    def register(self, node: Any) -> None:
        """Start a node on all workers, now and later."""
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(OSError):  # a worker was lost before it answered
                self.ask(self.client.register_plugin, node, name=self._name)
                return
        raise self.down()

    def pause(self, seconds: float) -> None:
        """Wait for a while.

        Raises
        ------
        Interrupted
            The session is over.
        """
        if self._stopped.wait(seconds) or self._is_down:
            raise Interrupted

    def offers(self, since_s: float) -> dict[str, Mapping[str, float]]:
        """Return what each accepted worker offers, by its address, as known since so many seconds at most."""
        with self._looking:
            at, offers = self._offers
            is_old = self.client is not None and time.monotonic() - at > since_s
            scheduler = self.ask_scheduler(self._identity) if is_old else None
            if scheduler is not None:
                if scheduler["id"] != self._scheduler:  # another one was started at the same address
                    raise self.down()
                every = {address: worker["resources"] for address, worker in scheduler["workers"].items()}
                offers = {address: offer for address, offer in every.items() if offer.get(self._name)}
                self._offers = time.monotonic(), offers
        return offers

    def _identity(self) -> dict[str, Any] | None:
        """Return what the scheduler tells of itself and its workers; None if it cannot be reached now.

        `Client.scheduler_info` returns no workers at times: what the client asks in the background replaces its answer.
        """
        client = self.client
        if client.status not in ("running", "connecting") or client.scheduler is None:
            return None
        try:
            return cast("dict[str, Any]", client.sync(client.scheduler.identity, n_workers=-1))
        except OSError:
            return None

    def has(self, key: str) -> bool:
        """Tell whether a worker has a task, as known since a few seconds at most."""
        with self._looking:
            at, placed = self._placed
            if time.monotonic() - at > _PLACED_FOR_S:
                processing = self.ask_scheduler(self.client.processing)
                placed = {key for keys in processing.values() for key in keys}
                self._placed = time.monotonic(), placed
        return key in placed
