"""One project file, filter, expression or STAC item, made at random or by mutation, and read as the command does."""

from __future__ import annotations

import datetime
import functools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli

from rvbuild.errors import DataError
from rvbuild.language import expressions, filters
from rvbuild.project.load import load
from rvbuild.project.missing import missing_files
from rvbuild.project.scenes.stac import StacError, parse
from rvbuild.project.schema import json_schema
from rvbuild.project.starter import starter
from rvbuild.project.tasks import NAMES as TASKS
from tests.fuzz.fuzzing import HERE, mutated

ODD_TEXTS = [
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "a/b",
        "{id}",
        "{",
        "}",
        "{{}}",
        "${",
        "${X}",
        "${X:-",
        "${X:-{id}}",
        "~",
        "\x1b[31mred",
    ),
    *(
        "\u202eabc",
        "a\nb",
        "a\u2028b",
        "-rf",
        "--",
        "[red]x[/]",
        "![x](y)",
        "<b>",
        "é" * 300,
        "a" * 5000,
        "null",
        "\U0001f332",
    ),
    *(
        "#ff0000",
        "#12",
        "https://x.org/a.tif",
        "s3://b/c",
        "file:///etc/passwd",
        "/vsicurl/http://x",
        "mod:fn",
        "os:system",
    ),
    *("height > 3", "a LIKE '%%%%'", "(((((", "B1 / B2", "9**9**9", "B1" * 400, "block", "scene", "rgb", "id", "error"),
]
ODD_NUMBERS = [
    0,
    1,
    -1,
    2,
    255,
    256,
    300,
    2**31,
    2**63 - 1,
    -(2**63),
    2**64,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
    math.inf,
    math.nan,
]


@functools.cache
def _words() -> tuple[list[str], list[Any]]:
    """Return the names of all keys of the schema, and all values that it lists."""
    names: dict[str, None] = {}
    values: list[Any] = []
    left: list[Any] = [json_schema()]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            names.update(dict.fromkeys(value.get("properties", {})))
            values += value.get("enum", []) if isinstance(value.get("enum"), list) else []
            values += [value["const"]] if isinstance(value.get("const"), str) else []
            left += value.values()
        elif isinstance(value, list):
            left += value
    return sorted(names), sorted(set(map(str, values)))


@functools.cache
def _good() -> list[str]:
    """Return good project files."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((HERE.parents[1] / "projects").glob("*.toml"))]
    return [*texts, *(starter("p", task) for task in TASKS)]


def odd_value(source: random.Random, depth: int = 0) -> Any:
    """Return any value that TOML knows."""
    names, values = _words()
    kind = source.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return source.choice(ODD_NUMBERS)
    if kind == 1:
        return source.choice(ODD_TEXTS)
    if kind == 2:
        return source.choice(values)
    if kind == 3:
        return source.choice(
            [True, False, datetime.date(2024, 5, 31), datetime.time(1, 2), datetime.datetime(2024, 1, 1)]
        )
    if kind == 4:
        return source.randrange(-5, 700)
    if kind == 5:
        return source.random() * 10
    if kind in (6, 7):
        return [odd_value(source, depth + 1) for _ in range(source.choice((0, 1, 2, 2, 3, 30)))]
    return {source.choice([*names, *ODD_TEXTS]): odd_value(source, depth + 1) for _ in range(source.randrange(4))}


def _places(value: Any, places: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return all places in a document: the table or list, and the key or position in it."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        places.append((value, key))
        if isinstance(value[key], dict | list):
            _places(value[key], places)
    return places


def dumped(value: Any) -> str:
    """Return a value as TOML, all of it inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {dumped(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dumped, value)) + "]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return repr(value)


def project(source: random.Random, folder: Path) -> None:
    """Load a project file in which values are replaced by others, keys renamed, moved or lost, or bytes mutated."""
    text = source.choice(_good())
    overrides: list[str] = []
    if source.random() < 0.8:
        data = tomli.loads(text)
        for _ in range(source.choice((1, 1, 2, 3, 8))):
            places = _places(data, [])
            if not places:
                break
            around, key = source.choice(places)
            kind = source.randrange(6)
            if kind < 3:
                around[key] = odd_value(source)
            elif kind == 3:
                del around[key]
            elif isinstance(around, dict):
                name = source.choice([*_words()[0], *ODD_TEXTS])
                around[name] = around[key] if kind == 4 else odd_value(source)
        text = "".join(f"{json.dumps(k, ensure_ascii=False)} = {dumped(v)}\n" for k, v in data.items())
        if source.random() < 0.2:
            names = _words()[0]
            key = ".".join(source.choice(names) for _ in range(source.randrange(1, 4)))
            overrides = [f"{key}={dumped(odd_value(source))}"]
    content = text.encode("utf-8", "surrogatepass")
    if source.random() < 0.3:
        content = mutated(
            source, content, [b"[", b"]", b"[[", b"{", b'"""', b"'", b"=", b".", b"a.a.a.a", b"\n", b"#", b"\\u"]
        )
    (folder / "projects").mkdir()
    path = folder / "projects" / "p.toml"
    path.write_bytes(content)
    for name in ("a.tif", "b.tif", "c.tif"):
        (folder / name).write_bytes(b"")
    loaded = load(path, overrides, {"X": "x"})
    missing_files(loaded)
    again = load(path, overrides, {"X": "x"})
    assert (again.scenes, again.classes, again.train, again.chip) == (
        loaded.scenes,
        loaded.classes,
        loaded.train,
        loaded.chip,
    )


NAMES = ["a", "b", "kind", "a.b", "$type", "$id", '"x y"', "height", "é", "and"]
VALUES = [0, 1, -2.5, 1e300, "a", "", "house", "%", "it's", True, False, "Point"]


def _filter(source: random.Random, depth: int = 0) -> Any:
    kinds = ["==", "!=", "<", ">=", "in", "!in", "has", "!has", "like", "ilike", "all", "any", "none", "xor", 3, None]
    kind = source.choice(kinds if depth < 5 else kinds[:10])
    if kind in ("all", "any", "none"):
        return [kind, *(_filter(source, depth + 1) for _ in range(source.randrange(4)))]
    count = source.choice({"in": (0, 1, 3), "!in": (0, 1, 3), "has": (0,), "!has": (0,)}.get(str(kind), (1,)))
    values: list[Any] = [source.choice(VALUES) for _ in range(count)]
    if source.random() < 0.05:
        values.append(source.choice([[], {}, None, math.inf, [1], datetime.date(2024, 1, 1), ["a" * 2000]]))
    return [kind, source.choice(NAMES), *values]


def _condition(source: random.Random, depth: int = 0) -> str:
    """Return a filter as text: like SQL, with a fault here and there."""
    name = source.choice(NAMES)
    value = source.choice(["1", "-2.5", "'a'", "'it''s'", "TRUE", "'%a_'", "1e5", "NULL", "a", "'"])
    kind = source.randrange(10 if depth < 6 else 7)
    if kind < 3:
        return f"{name} {source.choice(['=', '<>', '<', '>=', '!=', '==', '=>', ''])} {value}"
    if kind == 3:
        return f"{name} {source.choice(['', 'NOT'])} IN ({value}, {value})"
    if kind == 4:
        return f"{name} IS {source.choice(['', 'NOT'])} NULL"
    if kind == 5:
        like, pattern = source.choice(["LIKE", "NOT LIKE", "ILIKE"]), source.choice(["%a%", "_", "%%"])
        return f"{name} {like} '{pattern}'"
    if kind == 6:
        return f"{name} BETWEEN {value} AND {value}"
    if kind == 7:
        return f"NOT {_condition(source, depth + 1)}"
    left, right = _condition(source, depth + 1), _condition(source, depth + 1)
    return f"({left}) {source.choice(['AND', 'OR', 'and', 'XOR' if depth == 0 else 'OR'])} {right}"


def filter_(source: random.Random, folder: Path) -> None:
    """Parse a filter; what is understood is a list that says the same of features, written as JSON and parsed again."""
    value: Any = _filter(source) if source.random() < 0.4 else _condition(source)
    if isinstance(value, str) and source.random() < 0.5:
        value = mutated(source, value.encode(), [b"(", b")", b"'", b'"', b"NOT ", b" AND ", b"%"]).decode(
            "utf-8", "replace"
        )
    try:
        parsed = filters.parse(value)
    except filters.FilterError as error:
        assert len(str(error)) < 2000
        raise DataError(str(error)) from None
    again = filters.parse(json.loads(json.dumps(parsed)))
    assert again == parsed
    for _ in range(4):
        features = {name: source.choice([None, *VALUES, [1], {"b": "a"}]) for name in source.sample(NAMES, 5)}
        get = functools.partial(filters.lookup, features)
        passed = filters.matches(parsed, get)
        assert passed is filters.matches(again, get)
        assert filters.matches(["none", parsed], get) is not passed
    filters.compared(parsed)


def expression(source: random.Random, folder: Path) -> None:
    """Parse an expression, which then means what Python makes of it."""
    parts = [
        "B1",
        "B2",
        "B10",
        "red",
        "(",
        ")",
        "+",
        "-",
        "*",
        "/",
        "**",
        "<",
        "==",
        "min(",
        ",",
        "where(",
        "abs(",
        "1",
        "2.5",
    ]
    parts += [
        "9",
        "1e9",
        "~",
        "not ",
        "[",
        "]",
        "lambda: ",
        ".x",
        "'a'",
        "\n",
        "#",
        "\\",
        "0x1f",
        "if ",
        " else ",
        ":=",
        "\0",
        "é",
    ]
    if source.random() < 0.5:
        text = "".join(source.choice(parts) for _ in range(source.choice((1, 3, 5, 9, 20, 400))))
    else:
        text = mutated(
            source, b"(B4 - B3) / (B4 + B3) ** 2 + where(B1 < 3, min(B1, 2), -B2)", [p.encode() for p in parts]
        ).decode("utf-8", "replace")
    try:
        parsed = expressions.parse(text)
    except expressions.ExpressionError as error:
        assert len(str(error)) < 3000
        raise DataError(str(error)) from None
    functions: dict[str, Callable[..., Any]] = {
        "abs": abs,
        "min": min,
        "max": max,
        "sqrt": abs,
        "log": abs,
        "log10": abs,
        "exp": abs,
    }
    functions |= {"clip": lambda a, b, c: a, "where": lambda a, b, c: b if a else c}
    bands = dict.fromkeys(parsed.names, 3.0)
    try:
        value = parsed.evaluate(bands, functions)
    except (ZeroDivisionError, OverflowError, TypeError):
        return
    if "**" not in text:  # powers of whole numbers take for ever
        expected = eval(text.strip(), {"__builtins__": {}}, {**functions, **bands})
        assert value == expected or math.isnan(value)


def stac(source: random.Random, folder: Path) -> None:
    """Parse an item in which values are replaced, or bytes mutated."""
    asset = {"href": "./a.tif", "roles": ["data"], "type": "image/tiff; application=geotiff"}
    item: Any = {
        "type": "Feature",
        "id": "x",
        "properties": {},
        "assets": {"red": dict(asset), "nir": {"href": "/b.tif"}},
    }
    if source.random() < 0.3:
        item = {"type": "FeatureCollection", "features": [item, json.loads(json.dumps(item))]}
    for _ in range(source.randrange(4)):
        around, key = source.choice(_places(item, []))
        value = odd_value(source)
        around[key] = source.choice(
            [value, source.choice(["file://[", "\ud800", "file://", "http://[::1", "a\0b", "//x"])]
        )
    content = json.dumps(item, default=str).encode("utf-8", "surrogatepass")
    if source.random() < 0.3:
        content = mutated(source, content, [b"null", b"{", b"[", b'"', b"1e999", b"\\ud800", b"\xff"])
    assets = source.choice([None, None, ["red"], ["red", "nir"], ["x"]])
    try:
        parsed = parse(
            content, source.choice(["i.json", "d/i.json", "https://x.org/a/i.json", "s3://b/i.json"]), assets
        )
    except StacError as error:
        raise DataError(str(error)) from None
    for hrefs in parsed.hrefs:
        assert len(hrefs) == len(parsed.assets)
        assert all(href and "\0" not in href and not href.startswith("/vsi") for href in hrefs)
