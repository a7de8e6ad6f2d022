from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stages.sample_bundles import contents, refuse, rewrite


def change_settings(packed: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    members = contents(packed)
    content = json.loads(members["project.json"])
    change(content)
    return rewrite(packed, {**members, "project.json": json.dumps(content).encode()})


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("chip_px", "16", "chip_px: expected a whole number"),
        ("chip_px", 10**9, "chip_px: expected a whole number"),
        ("chip_px", True, "chip_px: expected a whole number"),
        ("task", "drive_car", "unknown task 'drive_car'"),
        ("channels", [], "channels: expected null or a list"),
        ("channels", [-1], "channels: expected null or a list"),
        ("image", [], "image: expected an object"),
        ("image.nodata", "0", r"image\.nodata: expected null"),
        ("predict.stride_px", 0, r"predict\.stride_px: expected a whole number"),
        ("predict.blend", "max", r"predict\.blend: expected one of"),
        ("predict.scores", 0, r"predict\.scores: expected one of"),
        ("predict.vectors", [{"class": "car"}], r"predict\.vectors\[0\]\.min_area_units is missing"),
        ("predict.device", None, r"predict\.device: expected a text"),
        ("null_id", 9, "one of them with the id null_id"),
        ("classes", [], "at least two classes"),
        ("classes", [1, 2], "at least two classes"),
    ],
)
def test_settings_of_another_form(packed: Path, tmp_path: Path, keys: str, value: Any, message: str) -> None:
    def change(content: dict[str, Any]) -> None:
        *outer, last = keys.split(".")
        for key in outer:
            content = content[key]
        content[last] = value

    refuse(change_settings(packed, change), tmp_path / "into", rf"project\.json: .*{message}")


@pytest.mark.parametrize("name", ["../../car", "a/b", "", ".hidden", "a\\b", "x" * 300, "a\x00b"])
def test_class_names_that_are_paths(packed: Path, tmp_path: Path, name: str) -> None:
    """Polygons are written to a file with the name of the class."""

    def change(content: dict[str, Any]) -> None:
        content["classes"][0]["name"] = name

    refuse(
        change_settings(packed, change),
        tmp_path / "into",
        r"classes\[0\]\.name: expected a name without characters that file names cannot have",
    )


@pytest.mark.parametrize(
    "normalize",
    [
        {},
        {"kind": "minmax"},
        {"kind": "scale", "max": 0},
        {"kind": "zscore", "mean": [1.0], "std": [1.0], "max_stds": 3.0},
        {"kind": "zscore", "mean": [1.0] * 4, "std": [1.0] * 4, "max_stds": 3.0},
        {"kind": "zscore", "mean": ["1"] * 3, "std": [1.0] * 3, "max_stds": 3.0},
        {"kind": "zscore", "mean": [1.0] * 3, "std": [1.0] * 3},
    ],
)
def test_a_normalisation_of_another_form(packed: Path, tmp_path: Path, normalize: dict[str, Any]) -> None:
    members = contents(packed)
    description = {**json.loads(members["model.json"]), "normalize": normalize}
    path = rewrite(packed, {**members, "model.json": json.dumps(description).encode()})
    refuse(path, tmp_path / "into", r"model\.json: normalize")


def test_settings_and_model_of_two_trainings(packed: Path, tmp_path: Path) -> None:
    refuse(change_settings(packed, lambda s: s.update(chip_px=32)), tmp_path / "into", "chip_px differs between")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(
            (name, content)
            for name in ("model.json", "project.json", "stats.json")
            for content in (b"[]", b"{", b"\xff")
        ),
        ("model.json", b"{}"),
        ("project.json", b"{}"),
    ],
)
def test_members_that_are_not_their_json(packed: Path, tmp_path: Path, name: str, content: bytes) -> None:
    refuse(rewrite(packed, {**contents(packed), name: content}), tmp_path / "into", name)
