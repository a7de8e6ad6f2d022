"""The JSON files in a bundle checked: bundles are not trusted, but stages trust their settings.

They must fit the types that stages declare, without any other key (`rvbuild.settings.fitting`), and then what types
cannot say.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from rvbuild import tasks
from rvbuild.errors import DataError, UsageError, either
from rvbuild.files.formats import FORMATS, SUFFIXES
from rvbuild.language.expressions import ExpressionError, parse
from rvbuild.settings.fitting import misfit
from rvbuild.settings.image import ImageSettings, LayerSettings
from rvbuild.settings.normalize import NormalizeSettings
from rvbuild.settings.predict import PredictSettings, VectorSettings
from rvbuild.settings.transforms import TransformStep
from rvbuild.stages.bundle.settings import BundleSettings


def read_json(path: Path, where: str) -> dict[str, Any]:
    """Read an object from a JSON file of a bundle; `where` names bundle and member in errors."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected an object, found {type(content).__name__}")
    return content


def checked_settings(content: Mapping[str, object], where: str) -> BundleSettings[PredictSettings]:
    """Return the content of a `project.json` if it is complete and right; `where` names it in errors.

    Raises
    ------
    DataError
        A key is missing, unknown, or has a value that no project could have.
    """
    task = content.get("task")
    if not isinstance(task, str):
        _refuse(where, "task", "a text", task)
    try:
        kind = tasks.get(task).PREDICT_SETTINGS
    except UsageError as error:
        raise DataError(f"{where}: {error}") from error
    _fitting(content, BundleSettings[kind], where)  # type: ignore[valid-type]
    settings = cast("BundleSettings[PredictSettings]", content)
    _check_classes(settings, where)
    _check_image(settings["image"], where)
    names = [item["name"] for item in settings["classes"]]
    for position, vector in enumerate(settings["predict"]["vectors"]):
        _check_vector(vector, names, where, f"predict.vectors[{position}].")
    return settings


def check_normalize(normalize: object, bands: int, where: str) -> None:
    """Raise a DataError unless `normalize` of a model.json can normalise images of `bands` bands."""
    _fitting(normalize, NormalizeSettings, where, "normalize")
    settings = cast("NormalizeSettings", normalize)
    tables: list[tuple[str, Mapping[str, object]]] = [("normalize.", settings)]
    if "standard" in settings:
        tables.append(("normalize.standard.", settings["standard"]))
    for prefix, table in tables:
        for name in ("mean", "std", "low", "high"):
            values = table.get(name)
            if isinstance(values, list) and len(values) != bands:
                _refuse(where, f"{prefix}{name}", f"one number for each of {bands} bands", values)


def _fitting(content: object, kind: Any, where: str, key: str = "") -> None:
    """Raise a DataError unless data are as the type says."""
    if problem := misfit(content, kind, key):
        raise DataError(f"{where}: {problem}")


def _refuse(where: str, key: str, expected: str, found: object) -> NoReturn:
    raise DataError(f"{where}: {key}: expected {expected}, found {found!r:.80}")


def _check_classes(settings: BundleSettings[PredictSettings], where: str) -> None:
    classes = settings["classes"]
    for position, item in enumerate(classes):
        key = f"classes[{position}]"
        if item["id"] != position:
            _refuse(where, f"{key}.id", str(position), item["id"])
        if not _is_class_name(item["name"]):
            expected = "a name without characters that file names cannot have, such as /"
            _refuse(where, f"{key}.name", expected, item["name"])
        if not re.fullmatch("#[0-9a-f]{6}", item["color"]):
            _refuse(where, f"{key}.color", "a colour, #rrggbb", item["color"])
    if len({item["name"] for item in classes}) != len(classes):
        raise DataError(f"{where}: classes: expected different names, found one twice")
    if settings["null_id"] >= len(classes):
        _refuse(where, "null_id", f"the id of one of the {len(classes)} classes", settings["null_id"])


def _check_image(image: ImageSettings, where: str) -> None:
    """Raise a DataError unless a stack and transforms are such as project files declare."""
    if "bbox" in image:
        raise DataError(f"{where}: image.bbox: unknown key; a bundle predicts whole images")
    if "layers" in image:
        for key in ("primary", "reduce"):
            if key not in image:
                raise DataError(f"{where}: image.{key} is missing")
        _check_layers(image["layers"], image["primary"], where, "image.")
    for position, step in enumerate(image.get("transform", ())):
        _check_step(step, where, f"image.transform[{position}].")


def _check_layers(layers: Sequence[LayerSettings], primary: int, where: str, prefix: str, times: bool = True) -> None:
    """Check the layers of a stack, which may be times that are stacks of bands."""
    if primary >= len(layers):
        raise DataError(f"{where}: {prefix}primary: there is no layer {primary}")
    for position, layer in enumerate(layers):
        key = f"{prefix}layers[{position}]."
        if "layers" in layer:
            if not times:
                raise DataError(f"{where}: {key}layers: unknown key; a layer of a time has no layers of its own")
            if "primary" not in layer:
                raise DataError(f"{where}: {key}primary is missing")
            _check_layers(layer["layers"], layer["primary"], where, key, times=False)
        files = len(layer["layers"]) if "layers" in layer else 1
        if layer["files"] != files:
            raise DataError(f"{where}: {key}files: expected one file for each layer, found {layer['files']}")


def _check_step(step: TransformStep, where: str, prefix: str) -> None:
    if step["kind"] == "reclass":
        for value in step["map"]:
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
                _refuse(where, f"{prefix}map", "whole numbers by whole numbers", value)
    elif step["kind"] == "expression":
        for band in step["bands"]:
            if not _is_named_expression(band):
                _refuse(where, f"{prefix}bands", "a list of names with their expressions", band)
    elif step["kind"] == "function" and not re.fullmatch(r"[\w.]+:\w+", step["function"]):
        _refuse(where, f"{prefix}function", "package.module:function", step["function"])


def _check_vector(vector: VectorSettings, names: Sequence[str], where: str, prefix: str) -> None:
    if vector["class"] not in names:
        raise DataError(f"{where}: {prefix}class: there is no class {vector['class']!r:.80}")
    if "file" in vector:
        if not _is_file_name(vector["file"]) or vector["file"].rpartition(".")[2] not in FORMATS:
            _refuse(where, f"{prefix}file", f"the name of a {either(SUFFIXES.values())} file", vector["file"])
    elif "format" not in vector:
        raise DataError(f"{where}: {prefix}format is missing")
    if vector.get("kind") == "buildings":
        for key in ("split", "side_px"):
            if key not in vector:
                raise DataError(f"{where}: {prefix}{key} is missing")


def _is_class_name(value: str) -> bool:
    """All class names that a project file allows, see `rvbuild.project.toml.names`, which only planning imports."""
    if not value or len(value.encode("utf-8", "surrogatepass")) > 200:
        return False
    odd = any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in value)
    return not odd and not re.search(r'[/\\*?"<>|]|^[.-]|^\s|\s$|\.$', value)


def _is_file_name(value: str) -> bool:
    """Class names become names of files."""
    return 0 < len(value) <= 200 and not re.search(r'[/\\:*?"<>|\x00-\x1f]|^\.|^-', value)


def _is_named_expression(value: Sequence[str]) -> bool:
    if len(value) != 2:
        return False
    try:
        parse(value[1])
    except ExpressionError:
        return False
    return True
