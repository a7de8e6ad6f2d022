"""Progress on its way to another process."""

from __future__ import annotations

from typing import Any

from rvbuild.progress import Sent, receive


class Heard:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, step: str, total: int, unit: str) -> None:
        self.calls.append((step, total, unit))

    def advance(self, n: int = 1) -> None:
        self.calls.append((n,))

    def note(self, message: str) -> None:
        self.calls.append((message,))


def test_what_is_sent_is_received_as_it_was() -> None:
    heard = Heard()
    events: list[tuple[str, Any]] = []
    sent = Sent(lambda kind, value: events.append((kind, value)))
    sent.start("epoch 1/2", 8, "chips")
    sent.advance()
    sent.advance(3)
    sent.note("a line")
    assert all(receive(heard, kind, value) for kind, value in events)
    assert heard.calls == [("epoch 1/2", 8, "chips"), (1,), (3,), ("a line",)]


def test_anything_else_is_left_to_the_receiver() -> None:
    heard = Heard()
    assert not receive(heard, "done", None) and not heard.calls
