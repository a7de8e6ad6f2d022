"""Events reach every page that listens, from any thread."""

from __future__ import annotations

import asyncio
import threading

from rvbuild.view.web.events import WAITING, Events


def test_pages_are_told_and_streams_end_with_the_server() -> None:
    events = Events()

    def happen() -> None:
        events.tell("build", {"ok": True})
        events.close()

    async def listen() -> list[str]:
        return [text async for text in events.listen()]

    async def all_pages() -> list[list[str]]:
        pages = [asyncio.create_task(listen()) for _ in range(2)]
        await asyncio.sleep(0.05)  # both have begun
        thread = threading.Thread(target=happen)
        thread.start()
        events = await asyncio.wait_for(asyncio.gather(*pages), 10)
        thread.join()
        return events

    assert asyncio.run(all_pages()) == [[": hello\n\n", 'event: build\ndata: {"ok": true}\n\n']] * 2
    assert asyncio.run(listen()) == [], "the server has ended"


def test_a_page_that_does_not_read_loses_the_oldest() -> None:
    events = Events()

    async def listen() -> list[str]:
        stream = events.listen()
        await anext(stream)
        for number in range(WAITING + 50):
            events.tell("n", number)
        await asyncio.sleep(0)
        first = await anext(stream)
        await stream.aclose()
        return first.split()

    assert asyncio.run(listen())[-1] == "50"
