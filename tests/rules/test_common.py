from __future__ import annotations

import importlib

import pytest


@pytest.fixture
def common():
    return importlib.import_module("rvbuild.rules.common")


def test_names_are_safe_for_doit(common):
    assert common.name("chip", "potsdam", "2_10") == "chip:potsdam:2_10"
    assert common.name("chip", "p", "a=b*:c ü") == "chip:p:a%3Db%2A%3Ac %C3%BC"


def test_seeds_differ_by_artifact_and_project_seed(common):
    class Project:
        seed = 0

    class Other:
        seed = 1

    seeds = {common.seed(p, a) for p in (Project, Other) for a in ("chip:a", "chip:b", "train")}
    assert len(seeds) == 6
    assert all(0 <= s < 2**31 for s in seeds)
