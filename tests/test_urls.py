"""Files elsewhere: what tells one state of them from another."""

from __future__ import annotations

import pytest

from rvbuild.urls import Identity

EARLY, NOON, LATE = (f"Mon, 02 Nov 2026 {hour}:00:00 GMT" for hour in ("10", "12", "14"))


@pytest.mark.parametrize(
    ("changed", "asked", "now", "other"),
    [
        (EARLY, NOON, EARLY, False),
        (EARLY, NOON, LATE, True),  # written again, with the same content
        (EARLY, NOON, NOON, True),
        (LATE, NOON, EARLY, False),  # another copy behind the same address
        (EARLY, NOON, "", False),
        ("", "", LATE, True),
        ("2026-11-02 10:00:00+00:00", "", "2026-11-02 14:00:00+00:00", True),
        ("2026-11-02 10:00:00+00:00", "", "2026-11-02 10:00:00+00:00", False),
    ],
)
def test_a_file_that_was_put_back_is_another(changed: str, asked: str, now: str, other: bool) -> None:
    before = Identity("ETag", "1", changed, asked)
    assert Identity("ETag", "1", now, LATE).is_other_than(before) is other
    assert Identity("ETag", "2", now, LATE).is_other_than(before)
    assert Identity("ETag", "1", now, LATE) == before  # it has the same key
