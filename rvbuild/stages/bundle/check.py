"""The JSON files in a bundle checked: bundles are not trusted, but stages trust their settings.

They are validated against the types that stages declare, without any other key, and then against what types cannot say.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rvbuild import tasks
from rvbuild.errors import DataError, UsageError, either
from rvbuild.files.formats import FORMATS, SUFFIXES
from rvbuild.language.expressions import ExpressionError, parse
from rvbuild.settings.image import ImageSettings, LayerSettings
from rvbuild.settings.normalize import NormalizeSettings
from rvbuild.settings.predict import PredictSettings, VectorSettings
from rvbuild.settings.transforms import TransformStep
from rvbuild.stages.bundle.settings import BundleSettings

T = TypeVar("T")


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
    adapter: TypeAdapter[BundleSettings[PredictSettings]] = _adapter(BundleSettings[kind])  # type: ignore[valid-type]
    settings = _validated(adapter, content, where)
    _check_classes(settings, where)
    _check_image(settings["image"], where)
    scores: object = settings["predict"]["scores"]
    if not scores and scores is not False:  # 0 is False for pydantic, too
        _refuse(where, "predict.scores", 'false, "float32" or "uint8"', scores)
    names = [item["name"] for item in settings["classes"]]
    for position, vector in enumerate(settings["predict"]["vectors"]):
        _check_vector(vector, names, where, f"predict.vectors[{position}].")
    return settings


def check_normalize(normalize: object, bands: int, where: str) -> None:
    """Raise a DataError unless `normalize` of a model.json can normalise images of `bands` bands."""
    adapter: TypeAdapter[NormalizeSettings] = _adapter(NormalizeSettings)
    settings = _validated(adapter, normalize, where, "normalize")
    tables: list[tuple[str, Mapping[str, object]]] = [("normalize.", settings)]
    if "standard" in settings:
        tables.append(("normalize.standard.", settings["standard"]))
    for prefix, table in tables:
        for name in ("mean", "std", "low", "high"):
            values = table.get(name)
            if isinstance(values, list) and len(values) != bands:
                _refuse(where, f"{prefix}{name}", f"one number for each of {bands} bands", values)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _validated(adapter: TypeAdapter[T], content: object, where: str, key: str = "") -> T:
    """Return the content itself if it is as the type says: nothing is converted, and no other key allowed."""
    try:
        adapter.validate_python(content, strict=True, extra="forbid")
    except ValidationError as error:
        raise DataError(f"{where}: {_message(error, content, key)}") from None
    return cast("T", content)


class _Problem(NamedTuple):
    """An error of pydantic."""

    key: tuple[str | int, ...]
    """Where, as a path in the content."""
    branches: tuple[tuple[tuple[str | int, ...], str | int], ...]
    """The key of each union on the way there, with the branch whose error it is."""
    details: ErrorDetails


def _message(error: ValidationError, content: object, key: str) -> str:
    """Return a message about one of the errors."""
    problems = list(_meant([_located(item, content) for item in error.errors(include_url=False)]))
    first = problems[0].key
    # Of the branches of a union without a kind, the one that fits furthest is meant.
    candidates = [problem for problem in problems if problem.key[: len(first)] == first]
    place = max(candidates, key=lambda problem: len(problem.key)).key
    details = [problem.details for problem in candidates if problem.key == place]
    name = (key + _dotted(place)).removeprefix(".")
    kinds = {item["type"] for item in details}
    if kinds == {"missing"}:
        return f"{name} is missing"
    if kinds == {"extra_forbidden"}:
        return f"{name}: unknown key"
    expected = either(dict.fromkeys(map(_expected, details)))
    return f"{name}: expected {expected}, found {details[0]['input']!r:.80}"


def _located(details: ErrorDetails, content: object) -> _Problem:
    """Return an error with its place: its location also names branches of unions, which are no keys."""
    key: tuple[str | int, ...] = ()
    branches: list[tuple[tuple[str | int, ...], str | int]] = []
    of_no_value = details["type"] in ("missing", "extra_forbidden")
    value = content
    for number, step in enumerate(details["loc"]):
        if isinstance(value, dict) and (step in value or (of_no_value and number == len(details["loc"]) - 1)):
            key, value = (*key, step), value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            key, value = (*key, step), value[step]
        else:
            branches.append((key, step))
    return _Problem(key, tuple(branches), details)


def _meant(problems: Sequence[_Problem]) -> Iterator[_Problem]:
    """Yield the problems of the branches that are meant by `kind`; if none is, those of the kind."""
    of_kind = [problem for problem in problems if problem.details["type"] in ("literal_error", "missing")]
    others = {branch for problem in of_kind for branch in problem.branches if problem.key == (*branch[0], "kind")}
    fitting = {branch[0] for problem in problems for branch in problem.branches if branch not in others}
    for problem in problems:
        unions = [branch[0] for branch in problem.branches if branch in others]
        if not unions or (problem.key == (*unions[0], "kind") and unions[0] not in fitting):
            yield problem


def _dotted(key: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step:.80}" for step in key)


_TYPES = {
    "string_type": "a text",
    "string_unicode": "a text of Unicode",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "sequence_type": "a list",
    "sequence_str": "a list",
    "is_instance_of": "a list",  # of Sequence
    "dict_type": "an object",
    "mapping_type": "an object",
    "none_required": "null",
}
_BOUNDS = {
    "greater_than": "{number} above {gt:g}",
    "greater_than_equal": "{number} of at least {ge:g}",
    "less_than": "{number} below {lt:g}",
    "less_than_equal": "{number} of at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


def _expected(details: ErrorDetails) -> str:
    """Return what an error of pydantic says of a value, as a noun."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "literal_error":
        return _words(str(context["expected"]))
    if kind in _BOUNDS:
        number = "a whole number" if isinstance(details["input"], int) else "a number"
        return _BOUNDS[kind].format(number=number, **context)
    return _TYPES.get(kind, f"another value ({details['msg']})")


def _words(choices: str) -> str:
    """Return the choices of pydantic as JSON has them."""
    return re.sub(r"\bFalse\b", "false", re.sub(r"\bTrue\b", "true", choices.replace("'", '"')))


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
