from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stages.sample_bundles import contents, refuse, rewrite

LAYER = {"files": 1, "channels": None, "nodata": None, "resample": "nearest"}
STACK = {"nodata": None, "layers": [LAYER], "primary": 0, "reduce": None}
TIME = {**LAYER, "layers": [LAYER], "primary": 0}
TIMES = {**LAYER, "layers": [TIME], "primary": 0}
VECTOR = {"class": "car", "format": "gpkg", "min_area_units": 0.0, "simplify_px": 0.0, "denoise_px": 0}


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
        ("channels", [], "channels: expected a list of at least 1"),
        ("channels", [-1], r"channels\[0\]: expected a whole number of at least 0, found -1"),
        ("channels", {"0": 0}, "channels: expected a list"),
        ("image", [], "image: expected an object"),
        ("image.nodata", "0", r"image\.nodata: expected a number or a list, found '0'"),
        ("image.nodata", True, r"image\.nodata: expected a number or a list, found True"),
        ("image.nodata", float("nan"), r"image\.nodata: expected a number above"),
        ("image.nodata", [0, 10**400], r"image\.nodata\[1\]: expected a number, found"),
        ("image.bbox", {"px": [0, 0, 1, 1]}, r"image\.bbox: unknown key"),
        ("image.alfa", True, r"image\.alfa: unknown key"),
        (
            "image.transform",
            [{"kind": "cast", "dtype": "int64"}],
            r"image\.transform\[0\]\.dtype: expected \"uint8\", ",
        ),
        ("image.transform", [{"kind": "zoom"}], r"image\.transform\[0\]\.kind: expected \"cast\", .* found 'zoom'"),
        ("image.transform", [{"dtype": "int8"}], r"image\.transform\[0\]\.kind is missing"),
        ("image.transform", [{"kind": "nan", "value": 0, "x": 1}], r"image\.transform\[0\]\.x: unknown key"),
        ("image.transform", [7], r"image\.transform\[0\]: expected an object, found 7"),
        ("image.transform", [{"kind": "reclass", "map": {"a": 1}}], r"image\.transform\[0\]\.map: expected whole"),
        ("image.transform", [{"kind": "function", "function": "os", "args": {}}], r"\[0\]\.function: expected package"),
        ("image.layers", [], r"image\.layers: expected a list of at least 1"),
        ("image.layers", [LAYER], r"image\.primary is missing"),
        ("image", {**STACK, "primary": 1}, r"image\.primary: there is no layer 1"),
        (
            "image",
            {**STACK, "layers": [{**LAYER, "files": 2}]},
            r"image\.layers\[0\]\.files: expected one file for each",
        ),
        ("image", {**STACK, "layers": [TIMES]}, r"image\.layers\[0\]\.layers\[0\]\.layers: unknown key"),
        ("area", {}, "area: unknown key"),
        ("trained", {"model": "os:system", "model_args": {}}, "trained: unknown key"),
        ("predict.cell_px", 4, r"predict\.cell_px: unknown key"),
        ("predict.stride_px", 0, r"predict\.stride_px: expected a whole number of at least 1, found 0"),
        ("predict.blend", "max", r"predict\.blend: expected \"none\", \"mean\" or \"cosine\", found 'max'"),
        ("predict.scores", 0, r"predict\.scores: expected false, \"float32\" or \"uint8\", found 0"),
        ("predict.vectors", [{"class": "car"}], r"predict\.vectors\[0\]\.min_area_units is missing"),
        ("predict.device", None, r"predict\.device: expected a text"),
        ("predict.vectors", [{**VECTOR, "class": "boat"}], r"predict\.vectors\[0\]\.class: there is no class 'boat'"),
        ("predict.vectors", [{**VECTOR, "file": "../a.gpkg"}], r"predict\.vectors\[0\]\.file: expected the name of a"),
        ("predict.vectors", [{**VECTOR, "kind": "buildings"}], r"predict\.vectors\[0\]\.split is missing"),
        ("null_id", 9, "null_id: expected the id of one of the 3 classes"),
        ("classes", [], "classes: expected a list of at least 2"),
        ("classes", [1, 2], r"classes\[0\]: expected an object, found 1"),
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
