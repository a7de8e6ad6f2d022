"""The base class of all tables of the project file, and types of values that several tables use.

A table is a pydantic model. It declares its keys, each with a description; keys that are not supported yet (`later`);
checks of the keys against the rest of the file (`check`); and the settings of its stage (`stage_settings`), a type of
`rvbuild.settings`.

Settings are part of the keys of artifacts. A key that is added to a table must be listed in its `omitted_defaults`: as
long as a project leaves it at its default, the artifacts keep their keys, and an upgrade rebuilds nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, NoReturn, TypeAlias, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Strict,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from rvbuild.errors import nearest
from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.paths import path_problem

Settings = TypeVar("Settings", bound=Mapping[str, object])
"""A TypedDict of `rvbuild.settings`."""

REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""A reference to a user's Python object: `package.module:name`."""


class Finding(NamedTuple):
    """A problem of a table.

    Attributes
    ----------
    key
        The key relative to the table; empty for the table as a whole.
    message
        The problem.
    rests_on
        Other keys of the table, relative to it, that the finding depends on; it is dropped if one of them has a problem
        itself.
    """

    key: Key
    message: str
    rests_on: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Context:
    """Facts about the other tables that the checks of a table need.

    Attributes
    ----------
    classes
        The names of the user's classes, in the order of their ids.
    null
        The name of the null class.
    has_validation
        Whether there are validation scenes.
    chip_px
        The side of a chip in pixels; None if it is not known because of another problem.
    task
            The name of the task.
    backend
        Whether a training backend replaces torch.
    """

    classes: tuple[str, ...]
    null: str
    has_validation: bool
    chip_px: int | None
    task: str = "semantic_segmentation"
    backend: bool = False

    def class_problem(self, name: str, *, null: bool = True, also: tuple[str, ...] = ()) -> str | None:
        """Return the problem of a class name in an option, or None.

        Parameters
        ----------
        name
            The name.
        null
            Whether the null class is allowed.
        also
            Words that the option takes instead of a class, for example `error`.
        """
        if name == self.null:
            return None if null else f"{show(name)} is the null class, which is neither trained nor predicted"
        if name in self.classes or name in also:
            return None
        valid = [*also, *self.classes]
        if hint := nearest(name, valid):
            return f"unknown class {show(name)}{hint}"
        listed = ", ".join(valid) if 0 < len(valid) <= 20 else "a name of [classes]"
        return f"unknown class {show(name)}; expected {'one of ' if len(valid) > 1 else ''}{listed}"


class Table(BaseModel):
    """A table of the project file: strict, frozen, and without unknown keys."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, validate_default=False
    )

    later: ClassVar[Mapping[str, str]] = {}
    """Keys that are not supported yet or belong to another table → message."""

    not_settings: ClassVar[Collection[str]] = ()
    """Fields that are not settings of stages: they name files, which are inputs, or determine the set of artifacts."""

    omitted_defaults: ClassVar[Collection[str]] = ()
    """Fields that are left out of the settings at their defaults, because they were added later. The stage uses the
    default for a missing key."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check that the names in the lists of fields exist."""
        super().__pydantic_init_subclass__(**kwargs)
        for name in (*cls.not_settings, *cls.omitted_defaults):
            if name not in cls.model_fields:
                raise TypeError(f"{cls.__name__}: not_settings and omitted_defaults name no field {name!r}")

    def check(self, context: Context) -> Iterator[Finding]:
        """Yield the problems of this table, alone and in the context of the others."""
        yield from ()

    def is_set(self, field: str) -> bool:
        """Tell whether the user has set a field."""
        return field in self.model_fields_set

    def stage_settings(self) -> Mapping[str, object]:
        """Return the settings of the stage as JSON data; a table of a stage declares their type."""
        return self.settings_as(dict[str, object])

    def settings_as(self, kind: type[Settings]) -> Settings:
        """Return the fields as JSON data of a type that describes them; `tests/test_settings.py` compares the two.

        Defaults are filled in, except for `omitted_defaults`; the fields in `not_settings` are left out.
        """
        at_default = (name for name in self.omitted_defaults if getattr(self, name) == self._default(name))
        fields = self.model_dump(mode="json", by_alias=True, exclude={*self.not_settings, *at_default})
        return cast(Settings, fields)

    @classmethod
    def _default(cls, name: str) -> Any:
        """Return the default of a field."""
        return cls.model_fields[name].get_default(call_default_factory=True)


def tables_in(table: Table, key: Key = ()) -> Iterator[tuple[Key, Table]]:
    """Yield a table and all tables in it, each with its key relative to the first."""
    yield key, table
    for name, info in type(table).model_fields.items():
        yield from _tables_of(getattr(table, name), (*key, info.alias or name))


def _tables_of(value: object, key: Key) -> Iterator[tuple[Key, Table]]:
    """Yield the tables in a field's value."""
    if isinstance(value, Table):
        yield from tables_in(value, key)
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _tables_of(item, (*key, number))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _tables_of(item, (*key, name))


def expected(description: str) -> NoReturn:
    """Reject a value with the message `expected <description>, found <value>`."""
    raise PydanticCustomError("expected", description)


def wrong(message: str) -> NoReturn:
    """Reject a value with a custom message."""
    raise PydanticCustomError("wrong", message)


def no_effect(key: str, because: str, *rests_on: str) -> Finding:
    """Return the finding that a key that the user has set has no effect because of other keys."""
    return Finding((key,), f"has no effect {because}", tuple((name,) for name in rests_on))


def duplicates(values: tuple[Any, ...], key: str) -> Iterator[Finding]:
    """Yield a finding for each repeated item of a list."""
    for number, value in enumerate(values):
        if value in values[:number]:
            yield Finding((key, number), f"{show(value)} is listed twice")


def by_type(kinds: Mapping[type, str], description: str) -> Discriminator:
    """Return a discriminator that selects the branch of a union by the exact type of the value.

    Parameters
    ----------
    kinds
        Type → tag of the branch.
    description
        The expected value, for the message about all other types.
    """

    def pick(value: object) -> str | None:
        return kinds.get(type(value))

    return Discriminator(pick, custom_error_type="expected", custom_error_message=description)


class OrString:
    """Part of an annotation: tells editors that a bare string is also valid."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of a string or the value."""
        return {"anyOf": [{"type": "string"}, handler(schema)]}


def _path(value: str) -> str:
    problem = path_problem(value)
    return wrong(problem) if problem else value


def _source(value: str) -> str:
    problem = path_problem(value, may_be_remote=True)
    return wrong(problem) if problem else value


def _one_or_more(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return wrong("a list of tables is not supported yet; give a path or a list of paths")
    if isinstance(value, list):
        return value
    return expected("a path or a list of paths")


def _not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    return value or wrong("the list is empty")


PathText: TypeAlias = Annotated[str, AfterValidator(_path)]
"""A path that may hold `{id}`, `${NAME}` and `${NAME:-default}`."""

SourceText: TypeAlias = Annotated[str, AfterValidator(_source)]
"""A `PathText`, or the address of a remote file."""

Paths: TypeAlias = Annotated[
    tuple[SourceText, ...],
    Strict(False),
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""A path, or a list of paths; always a tuple once validated."""

SomePaths: TypeAlias = Annotated[Paths, AfterValidator(_not_empty)]
"""A path, or a list of at least one path."""

SomeLocalPaths: TypeAlias = Annotated[
    tuple[PathText, ...],
    Strict(False),
    BeforeValidator(_one_or_more),
    AfterValidator(_not_empty),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""A local path, or a list of at least one local path."""

Pixels: TypeAlias = Annotated[int, Field(gt=0)]
"""A length in pixels, at least 1."""

Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""


def json_problem(value: object, key: Key = ()) -> Iterator[Finding]:
    """Yield the values of free-form arguments that JSON cannot represent: dates, times, nan and inf."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from json_problem(item, (*key, name))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from json_problem(item, (*key, number))
    elif isinstance(value, float) and (not math.isfinite(value)):
        yield Finding(key, f"expected a finite number, found {show(value)}")
    elif not isinstance(value, str | int | float | bool):
        yield Finding(key, f"expected a string, number, boolean, list or table, found the date or time {show(value)}")
