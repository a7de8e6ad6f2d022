"""Signatures of bundles: required where there is a key, and of this very bundle."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import xxhash

from rvbuild.errors import DataError, UsageError
from rvbuild.stages.bundle.predict import open_bundle
from rvbuild.stages.bundle.signature import VARIABLE, sign, signature_file
from rvbuild.stages.bundle.write import MEMBERS
from tests.stages.sample_bundles import contents, refuse, rewrite
from tests.stages.sample_scenes import empty

KEY = "a secret that only we have"


@pytest.fixture
def signed(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, KEY)
    assert sign(packed, MEMBERS) == signature_file(packed)
    return packed


def test_a_signed_bundle_opens(signed: Path, tmp_path: Path) -> None:
    open_bundle(signed, empty(tmp_path / "into"))


def test_without_a_key_nothing_is_asked_for(packed: Path, tmp_path: Path) -> None:
    signature_file(packed).write_text("anything")
    open_bundle(packed, empty(tmp_path / "into"))


def test_one_without_a_signature(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    refuse(packed, tmp_path / "into", r"is not signed: RVBUILD_BUNDLE_KEY is set, and there is no bundle\.zip\.sig")


def test_one_of_another_key(signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "the secret of somebody else")
    refuse(signed, tmp_path / "into", "is not signed with the key")


def test_another_bundle_with_the_signature_of_this_one(signed: Path, tmp_path: Path) -> None:
    other = rewrite(signed, {**contents(signed), "stats.json": b'{"bands": [1], "dtype": "uint8"}\n'})
    signature_file(signed).rename(signature_file(other))
    refuse(other, tmp_path / "into", "is not the bundle that")


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "[" * 5000, '{"format": "rvbuild signature 1"}', "{}"])
def test_what_is_no_signature(signed: Path, tmp_path: Path, text: str) -> None:
    signature_file(signed).write_text(text)
    refuse(signed, tmp_path / "into", "signature|signed")


def test_nobody_signs_without_a_key_nor_what_is_damaged(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="RVBUILD_BUNDLE_KEY is not set"):
        sign(packed, MEMBERS)
    monkeypatch.setenv(VARIABLE, KEY)
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be read as a bundle"):
        sign(packed, MEMBERS)


def test_bundles_of_the_first_format_open_but_are_not_signed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {name: content for name, content in contents(packed).items() if name != "manifest.json"}
    claims = {n: {"size": len(c), "xxh3_128": xxhash.xxh3_128_hexdigest(c)} for n, c in members.items()}
    first = tmp_path / "first.zip"
    with zipfile.ZipFile(first, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("manifest.json", json.dumps({"format": "rvbuild bundle 1", "members": claims}))
    open_bundle(first, empty(tmp_path / "into"))
    monkeypatch.setenv(VARIABLE, KEY)
    with pytest.raises(DataError, match="packed by an earlier rvbuild"):
        sign(first, MEMBERS)
