"""Files elsewhere: what tells one state of them from another."""

from __future__ import annotations

import pytest

from rvbuild.files.address import url_problem
from rvbuild.files.identity import Identity
from rvbuild.files.urls import Url

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


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("x", "does not begin with one of https://, http://, s3://, gs://"),
        ("https://", "has no server"),
        ("https:///a.tif", "has no server"),
        ("https://user@:80/a.tif", "has no server"),
        ("https://[x/a.tif", "Invalid IPv6 URL"),
        ("https://x.org:99999/a.tif", "Port out of range"),
        ("https://x.org:y/a.tif", "Port could not be cast"),
        ("https://..x/a.tif", "idna"),
        ("https://\u2100/a.tif", "NFKC"),
        ("https://x.org/a\n.tif", "an invalid character"),
        ("https://x.org/\ud800.tif", "an invalid character"),
        ("S3:///a.tif", "has no bucket"),
        ("gs://", "has no bucket"),
    ],
)
def test_addresses_that_nobody_can_be_asked_by(address: str, problem: str) -> None:
    assert problem in str(url_problem(address))
    assert isinstance(Url(address).name, str)


@pytest.mark.parametrize("address", ["https://bücher.example/ä b.tif?x=/1", "http://[::1]:80/a.tif", "s3://b/a.tif"])
def test_addresses_that_can_be_right(address: str) -> None:
    assert url_problem(address) is None
