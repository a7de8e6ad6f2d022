"""Events for the pages that are open: what has changed, and how a build gets on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

WAITING = 200
"""Events that wait for a page; one that reads slower loses the oldest."""

HEARTBEAT_S = 15.0
"""Without an event for so long, a comment shows that the connection lives."""


class Events:
    """Tells each page that listens what happens, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}
        self._closed = False

    def tell(self, kind: str, content: Any) -> None:
        """Send an event to all pages."""
        text = f"event: {kind}\ndata: {json.dumps(content)}\n\n"
        with self._lock:
            pages = list(self._pages.items())
        for queue, loop in pages:
            loop.call_soon_threadsafe(_put, queue, text)

    async def listen(self) -> AsyncIterator[str]:
        """Yield events as server-sent events are written, until the server ends."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        with self._lock:
            if self._closed:
                return
            self._pages[queue] = asyncio.get_running_loop()
        try:
            yield ": hello\n\n"
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    text = ": still here\n\n"
                if text is None:
                    return
                yield text
        finally:
            with self._lock:
                self._pages.pop(queue, None)

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            self._closed = True
            pages = list(self._pages.items())
        for queue, loop in pages:
            loop.call_soon_threadsafe(queue.put_nowait, None)


def _put(queue: asyncio.Queue[str | None], text: str) -> None:
    while queue.qsize() >= WAITING:
        queue.get_nowait()
    queue.put_nowait(text)
