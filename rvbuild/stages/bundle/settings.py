"""The schema of the JSON files in a bundle: bundles are not trusted, but stages trust their settings."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rvbuild import tasks
from rvbuild.errors import DataError, UsageError, either
from rvbuild.files.formats import FORMATS, SUFFIXES
from rvbuild.geo.raster.resampled import METHODS
from rvbuild.language.expressions import ExpressionError, parse

MAX_PX = 1 << 16
"""A window's side at most: far beyond any model, and small enough to be no attack on the memory."""

MAX_ITEMS = 1 << 16
"""Maximum length of a list: the number of bands of an image."""

Check = Callable[[Any], bool]


def read_json(path: Path, where: str) -> dict[str, Any]:
    """Read an object from a JSON file of a bundle; `where` names bundle and member in errors."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected an object, found {type(content).__name__}")
    return content


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Raise a DataError unless settings are complete and of the right types; `where` names them in errors."""
    _check(settings, _SETTINGS, where, "")
    try:
        task = tasks.get(settings["task"])
    except UsageError as error:
        raise DataError(f"{where}: {error}") from error
    classes = settings["classes"]
    for position, item in enumerate(classes):
        _check(item, _CLASS, where, f"classes[{position}].")
        if item["id"] != position:
            raise DataError(f"{where}: classes[{position}].id: expected {position}, found {item['id']}")
    class_names = {item["name"] for item in classes}
    if len(class_names) != len(classes) or not settings["null_id"] < len(classes) <= 255:
        raise DataError(
            f"{where}: classes: expected 2 to 255 classes with different names, one of them with the id null_id"
        )
    _check(settings["image"], _IMAGE, where, "image.")
    _check_image(settings["image"], where)
    _check(settings["predict"], _PREDICT, where, "predict.")
    _check(settings["predict"], {name: _PREDICT_OF_SOME[name] for name in task.PREDICT_SETTINGS}, where, "predict.")
    for position, vector in enumerate(settings["predict"]["vectors"]):
        prefix = f"predict.vectors[{position}]."
        _check(vector, _VECTOR, where, prefix)
        _check(vector, {"file": _VECTOR_FILE} if "file" in vector else _FORMAT, where, prefix)
        if "kind" in vector:
            _check(vector, _KIND, where, prefix)
            _check(vector, _BUILDINGS if vector["kind"] == "buildings" else {}, where, prefix)
        if vector["class"] not in class_names:
            raise DataError(f"{where}: predict.vectors[{position}].class: there is no class {vector['class']!r}")


def _check_image(image: Mapping[str, Any], where: str) -> None:
    """Raise a DataError unless a stack and transformers are such as project files declare."""
    _check(image, {key: _TAGS[key] for key in _TAGS if key in image}, where, "image.")
    if "layers" in image:
        _check(image, _STACK, where, "image.")
        _check_layers(image, where, "image.")
    _check({"transform": [], "code": {}, **image}, _TRANSFORMS, where, "image.")
    for position, step in enumerate(image.get("transform", ())):
        prefix = f"image.transform[{position}]."
        _check(step, {"kind": _one_of(*_STEPS)}, where, prefix)
        _check(step, _STEPS[step["kind"]], where, prefix)


def _check_layers(stack: Mapping[str, Any], where: str, prefix: str, times: bool = True) -> None:
    """Check the layers of a stack, which may be times that are stacks of bands."""
    if stack["primary"] >= len(stack["layers"]):
        raise DataError(f"{where}: {prefix}primary: there is no layer {stack['primary']}")
    for position, layer in enumerate(stack["layers"]):
        here = f"{prefix}layers[{position}]."
        _check({"name": "", **layer}, _LAYER, where, here)
        if "layers" in layer and times:
            _check({"reduce": None, **layer}, _STACK, where, here)
            _check_layers(layer, where, here, times=False)
        if layer["files"] != (len(layer["layers"]) if "layers" in layer else 1):
            raise DataError(f"{where}: {here}files: expected one file for each layer, found {layer['files']}")


def check_normalize(normalize: Mapping[str, Any], bands: int, where: str) -> None:
    """Raise a DataError unless `normalize` of a model.json can normalise images of `bands` bands."""
    one_each = _list_of(_is_number, f"a list of {bands} numbers", least=bands)
    deviations = {"mean": one_each, "std": one_each, "max_stds": _POSITIVE}
    kinds = {
        "scale": {"max": _POSITIVE},
        "zscore": deviations,
        "stats": deviations,
        "linear": {"low": one_each, "high": one_each},
    }
    _check(normalize, {"kind": _one_of(*kinds)}, where, "normalize.")
    _check(normalize, kinds[normalize["kind"]], where, "normalize.")
    tables = [("normalize.", normalize)]
    if "standard" in normalize:
        _check(normalize["standard"], {"mean": one_each, "std": one_each}, where, "normalize.standard.")
        tables.append(("normalize.standard.", normalize["standard"]))
    for prefix, table in tables:
        for name in ("mean", "std", "low", "high"):
            if name in table and len(table[name]) != bands:
                raise DataError(f"{where}: {prefix}{name}: expected one number for each of {bands} bands")


def _check(content: Any, checks: Mapping[str, tuple[Check, str]], where: str, prefix: str) -> None:
    if not isinstance(content, dict):
        raise DataError(f"{where}: {prefix.rstrip('.')}: expected an object, found {content!r:.80}")
    for key, (accepts, expected) in checks.items():
        if key not in content:
            raise DataError(f"{where}: {prefix}{key} is missing; expected {expected}")
        if not accepts(content[key]):
            raise DataError(f"{where}: {prefix}{key}: expected {expected}, found {content[key]!r:.80}")


def _one_of(*values: Any) -> tuple[Check, str]:
    # 0 == False in Python, so types count too.
    accepts = lambda value: any(value == v and type(value) is type(v) for v in values)  # noqa: E731
    return accepts, "one of " + ", ".join(json.dumps(v) for v in values)


def _integer(low: int, high: int) -> tuple[Check, str]:
    accepts = lambda value: type(value) is int and low <= value <= high  # noqa: E731
    return accepts, f"a whole number from {low} to {high}"


def _list_of(accepts: Check, expected: str, least: int = 0) -> tuple[Check, str]:
    def check(value: Any) -> bool:
        return isinstance(value, list) and least <= len(value) <= MAX_ITEMS and all(map(accepts, value))

    return check, expected


def _is_number(value: Any) -> bool:
    """Not infinite, nor a whole number that no float can hold."""
    return type(value) in (int, float) and abs(value) < 1e300


def _is_class_name(value: Any) -> bool:
    """All class names that a project file allows, see `rvbuild.project.toml.names`, which only planning imports."""
    if not isinstance(value, str) or not value or len(value.encode("utf-8", "surrogatepass")) > 200:
        return False
    odd = any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in value)
    return not odd and not re.search(r'[/\\*?"<>|]|^[.-]|^\s|\s$|\.$', value)


def _is_file_name(value: Any) -> bool:
    """Class names become names of files."""
    return isinstance(value, str) and 0 < len(value) <= 200 and not re.search(r'[/\\:*?"<>|\x00-\x1f]|^\.|^-', value)


def _is_nodata(value: Any) -> bool:
    if isinstance(value, list):
        return all(v is None or _is_number(v) for v in value)
    return value is None or _is_number(value)


def _is_named_expression(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)):
        return False
    try:
        parse(value[1])
    except ExpressionError:
        return False
    return True


_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_INDEX = _integer(0, MAX_PX)
_NOT_NEGATIVE: tuple[Check, str] = (lambda value: _is_number(value) and value >= 0, "a number of at least 0")
_SHARE: tuple[Check, str] = (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
_POSITIVE: tuple[Check, str] = (lambda value: _is_number(value) and value > 0, "a number above 0")
_TEXT: tuple[Check, str] = (lambda value: isinstance(value, str), "a text")
_NAME: tuple[Check, str] = (_is_class_name, "a name without characters that file names cannot have, such as /")
_CHANNELS = _list_of(_INDEX[0], "null or a list of band indices from 0", least=1)
_OBJECT: tuple[Check, str] = (lambda value: isinstance(value, dict), "an object")

_SETTINGS: Mapping[str, tuple[Check, str]] = {
    "task": _TEXT,
    "image": _OBJECT,
    "channels": (lambda value: value is None or _CHANNELS[0](value), _CHANNELS[1]),
    "classes": _list_of(lambda value: isinstance(value, dict), "a list of at least two classes", least=2),
    "null_id": _integer(0, 254),
    "chip_px": _integer(1, MAX_PX),
    "predict": _OBJECT,
}
_CLASS: Mapping[str, tuple[Check, str]] = {
    "id": _integer(0, 254),
    "name": _NAME,
    "color": (lambda value: isinstance(value, str) and bool(re.fullmatch("#[0-9a-f]{6}", value)), "a colour, #rrggbb"),
}
_IMAGE: Mapping[str, tuple[Check, str]] = {"nodata": (_is_nodata, "null, a number, or a list of them, one per band")}
_TAGS: Mapping[str, tuple[Check, str]] = {key: _one_of(False, True) for key in ("alpha", "palette", "scale")}
"""Treatment of the tags of images; each is optional."""
_STACK: Mapping[str, tuple[Check, str]] = {
    "layers": _list_of(lambda value: isinstance(value, dict), "a list of at least one layer", least=1),
    "primary": _INDEX,
    "reduce": _one_of(None, "mean", "median", "bands"),
}
_LAYER: Mapping[str, tuple[Check, str]] = {
    "files": _integer(1, MAX_PX),
    "name": _TEXT,
    "channels": (lambda value: value is None or _CHANNELS[0](value), _CHANNELS[1]),
    "resample": _one_of(*METHODS),
    **_IMAGE,
}
_TRANSFORMS: Mapping[str, tuple[Check, str]] = {
    "transform": _list_of(lambda value: isinstance(value, dict), "a list of transformers"),
    "code": (
        lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in value.values()),
        "source texts by dotted module name",
    ),
}
_NUMBER: tuple[Check, str] = (lambda value: _is_number(value) and abs(value) < 1e300, "a number")
_STEPS: Mapping[str, Mapping[str, tuple[Check, str]]] = {
    "cast": {"dtype": _one_of("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")},
    "reclass": {
        "map": (
            lambda value: (
                isinstance(value, dict) and all(_WHOLE.fullmatch(k) and type(v) is int for k, v in value.items())
            ),
            "whole numbers by whole numbers",
        )
    },
    "nodata": {"value": _NUMBER},
    "nan": {"value": _NUMBER},
    "expression": {
        "bands": _list_of(_is_named_expression, "a list of names with their expressions", least=1),
        "keep": _one_of(False, True),
    },
    "function": {
        "function": (
            lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w.]+:\w+", value)),
            "package.module:function",
        ),
        "args": _OBJECT,
    },
}
_PREDICT: Mapping[str, tuple[Check, str]] = {
    "stride_px": _integer(1, MAX_PX),
    "batch_size": _integer(1, MAX_PX),
    "blend": _one_of("none", "mean", "cosine"),
    "scores": _one_of(False, "float32", "uint8"),
    "rgb": _one_of(False, True),
    "vectors": _list_of(lambda value: isinstance(value, dict), "a list of objects"),
    "device": _TEXT,
}
_PREDICT_OF_SOME: Mapping[str, tuple[Check, str]] = {
    "cell_px": _integer(1, MAX_PX),
    "cells": _one_of(*FORMATS),
    "boxes": _one_of(*FORMATS),
    "score_thresh": _SHARE,
    "merge_thresh": _SHARE,
}
"""The settings that tasks require by `PREDICT_SETTINGS`."""
_VECTOR: Mapping[str, tuple[Check, str]] = {
    "class": _TEXT,
    "min_area_units": _NOT_NEGATIVE,
    "simplify_px": _NOT_NEGATIVE,
    "denoise_px": _integer(0, 1 << 30),
}
_KIND: Mapping[str, tuple[Check, str]] = {"kind": _one_of("polygons", "buildings", "points")}
_FORMAT: Mapping[str, tuple[Check, str]] = {"format": _one_of(*FORMATS)}
_VECTOR_FILE: tuple[Check, str] = (
    lambda value: _is_file_name(value) and value.rpartition(".")[2] in FORMATS,
    f"the name of a {either(SUFFIXES.values())} file",
)
_BUILDINGS: Mapping[str, tuple[Check, str]] = {
    "split": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "side_px": _POSITIVE,
}
