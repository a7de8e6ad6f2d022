"""The base of all tables of the project file, and the kinds of value that several of them use.

A table is one pydantic model in one module. It declares its keys, each with a description; the keys that a later
release will know (`later`); what its keys must agree on with the rest of the file (`check`); and the settings that its
stage is given (`stage_settings`).

Settings are part of the keys of artifacts. A key that is added to a table is listed in its `omitted_defaults`: while a
project leaves it at its default, its artifacts keep their keys, and nobody trains again because of an upgrade.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, NoReturn, TypeAlias

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

REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""A reference to a user's Python object: `package.module:name`."""


class Finding(NamedTuple):
    """What is wrong with a table.

    Attributes
    ----------
    key
        Where, relative to the table; empty for the table as a whole.
    message
        What.
    rests_on
        Other keys of the table, relative to it, that the finding is a conclusion from: it is dropped if one of them is
        wrong itself.
    """

    key: Key
    message: str
    rests_on: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Known:
    """What the checks of one table need to know of the others.

    Attributes
    ----------
    classes
        The names of the user's classes, in the order of their ids.
    null
        The name of the null class.
    has_validation
        Whether some scene is for validation.
    chip_px
        The side of a chip in pixels; None if it is not known because of another problem.
    task
        What the project predicts.
    backend
        Whether a training backend trains and predicts, in the place of torch.
    """

    classes: tuple[str, ...]
    null: str
    has_validation: bool
    chip_px: int | None
    task: str = "semantic_segmentation"
    backend: bool = False

    def class_problem(self, name: str, *, null: bool = True, also: tuple[str, ...] = ()) -> str | None:
        """Return what is wrong with a class name in an option, or None.

        Parameters
        ----------
        name
            The name that the option gives.
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
    """Keys that are not supported yet, or belong elsewhere → what to say about them."""

    not_settings: ClassVar[Collection[str]] = ()
    """Fields that stages are not given as settings: they name files, which are inputs, or say which artifacts there
    are."""

    omitted_defaults: ClassVar[Collection[str]] = ()
    """Fields that stages are given only if they are not at their defaults: those that were added since the first keys
    were made. The stage, or whoever reads the settings, takes the default for a key that is not there."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a list of fields that names none."""
        super().__pydantic_init_subclass__(**kwargs)
        for name in (*cls.not_settings, *cls.omitted_defaults):
            if name not in cls.model_fields:
                raise TypeError(f"{cls.__name__}: not_settings and omitted_defaults name no field {name!r}")

    def check(self, known: Known) -> Iterator[Finding]:
        """Yield what is wrong with this table alone and in the light of the others."""
        yield from ()

    def given(self, field: str) -> bool:
        """Tell whether the user has set a field."""
        return field in self.model_fields_set

    def stage_settings(self) -> dict[str, Any]:
        """Return the settings of the stage as JSON data.

        Defaults are filled in, but for `omitted_defaults`; what is in `not_settings` is left out.
        """
        at_default = (name for name in self.omitted_defaults if getattr(self, name) == self._default(name))
        return self.model_dump(mode="json", by_alias=True, exclude={*self.not_settings, *at_default})

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


def expected(what: str) -> NoReturn:
    """Reject a value: the message becomes `expected <what>, found <value>`."""
    raise PydanticCustomError("expected", what)


def wrong(message: str) -> NoReturn:
    """Reject a value with a message of its own."""
    raise PydanticCustomError("wrong", message)


def no_effect(key: str, because: str, *rests_on: str) -> Finding:
    """Return the finding that a key, which the user has set, changes nothing because of other keys."""
    return Finding((key,), f"has no effect {because}", tuple((name,) for name in rests_on))


def duplicates(values: tuple[Any, ...], key: str) -> Iterator[Finding]:
    """Yield a finding for each item of a list that is there already."""
    for number, value in enumerate(values):
        if value in values[:number]:
            yield Finding((key, number), f"{show(value)} is listed twice")


def by_type(kinds: Mapping[type, str], what: str) -> Discriminator:
    """Return what picks the branch of a union by the exact type of the value.

    Parameters
    ----------
    kinds
        Type → tag of the branch.
    what
        What is expected, for the message about all other types.
    """

    def pick(value: object) -> str | None:
        return kinds.get(type(value))

    return Discriminator(pick, custom_error_type="expected", custom_error_message=what)


class OrString:
    """Part of an annotation: tells editors that a bare string may stand in the place of the value."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of a string or the value."""
        return {"anyOf": [{"type": "string"}, handler(schema)]}


def _path(value: str) -> str:
    problem = path_problem(value)
    return wrong(problem) if problem else value


def _source(value: str) -> str:
    problem = path_problem(value, elsewhere=True)
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
"""The same, or the address of a file elsewhere."""

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
"""The same, none of them elsewhere."""

Pixels: TypeAlias = Annotated[int, Field(gt=0)]
"""A length in pixels, at least 1."""

Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
"""A share between 0 and 1."""


def json_problem(value: object, key: Key = ()) -> Iterator[Finding]:
    """Yield the values of free-form arguments that JSON, and so a stage, cannot hold: dates, times, nan and inf."""
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
