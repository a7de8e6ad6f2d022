"""What rvbuild installs: floors that are tested, pins with hashes, and no floor that is known to have holes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
INSTALLED = [
    Requirement(text)
    for text in [*PROJECT["dependencies"], *EXTRAS["s3"], *EXTRAS["timm"], *EXTRAS["view"], *EXTRAS["watch"]]
]
TESTED = [*INSTALLED, *(Requirement(text) for text in EXTRAS["test"])]

#: Versions before these have known holes, or were withdrawn.
SAFE_FROM = {
    "jinja2": "3.1.6",
    "pillow": "12.1.1",
    "starlette": "0.49.1",
    "torch": "2.6",
    "xxhash": "3.4.1",
}


def floor(requirement: Requirement) -> Version:
    (version,) = [Version(s.version) for s in requirement.specifier if s.operator == ">="]
    return version


def pins(name: str) -> dict[str, Version]:
    text = (ROOT / "constraints" / name).read_text()
    matches = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(package): Version(version) for package, version in matches}


def test_the_floors_are_the_lowest_versions_that_are_tested() -> None:
    lowest = pins("lowest.txt")
    floors = {canonicalize_name(requirement.name): floor(requirement) for requirement in TESTED}
    assert lowest == floors


def test_the_locked_versions_are_allowed_and_have_hashes() -> None:
    locked = pins("locked.txt")
    for requirement in INSTALLED:
        version = locked[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, requirement
    text = (ROOT / "constraints" / "locked.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)


@pytest.mark.parametrize(("package", "version"), SAFE_FROM.items())
def test_no_floor_is_known_to_have_holes(package: str, version: str) -> None:
    (requirement,) = [r for r in INSTALLED if canonicalize_name(r.name) == package]
    assert floor(requirement) >= Version(version)
