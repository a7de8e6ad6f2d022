"""The `transform` of an image: operations on its pixels, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag

from rvbuild.errors import nearest
from rvbuild.language.expressions import BAND, FUNCTIONS, ExpressionError, parse
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import REFERENCE, Context, Finding, OrString, Table, expected, json_problem, wrong
from rvbuild.settings.transforms import (
    CastSettings,
    Dtype,
    ExpressionSettings,
    FunctionSettings,
    MinMaxSettings,
    NanSettings,
    NodataSettings,
    PercentileSettings,
    ReclassSettings,
    StatisticsStep,
    StatsSettings,
    TransformStep,
)

_INTEGER = re.compile(r"[+-]?[0-9]+")


class StatsTable(Table):
    """Values in standard deviations from the mean of the training scenes, band by band, to 256 steps from 0 to 1."""

    kind: Literal["stats"] = Field(description="stats")
    max_stds: float = Field(3.0, gt=0, description="Values further from the mean, in standard deviations, are clipped.")

    def stage_settings(self) -> StatsSettings:
        """Return the settings."""
        return self.settings_as(StatsSettings)


class MinMaxTable(Table):
    """From the lowest and highest value of the training scenes, band by band, to 0 and 1."""

    kind: Literal["min_max"] = Field(description="min_max")

    def stage_settings(self) -> MinMaxSettings:
        """Return the settings."""
        return self.settings_as(MinMaxSettings)


class PercentileTable(Table):
    """From two percentiles of the training scenes, band by band, to 0 and 1."""

    kind: Literal["percentile"] = Field(description="percentile")
    low: float = Field(2.0, ge=0, lt=100, description="The percentile that becomes 0; lower values are clipped.")
    high: float = Field(98.0, gt=0, le=100, description="The percentile that becomes 1; higher values are clipped.")

    def check(self, context: Context) -> Iterator[Finding]:
        """Find percentiles in the wrong order."""
        if self.high <= self.low:
            message = f"expected more than low, which is {show(self.low)}; found {show(self.high)}"
            yield Finding(("high",) if self.is_set("high") else ("low",), message, (("low",), ("high",)))

    def stage_settings(self) -> PercentileSettings:
        """Return the settings."""
        return self.settings_as(PercentileSettings)


class CastTable(Table):
    """Pixels of another type."""

    kind: Literal["cast"] = Field(description="cast")
    dtype: Dtype = Field(
        description="The type. Fractions are truncated; values beyond its range become its lowest or highest value."
    )

    def stage_settings(self) -> CastSettings:
        """Return the settings."""
        return self.settings_as(CastSettings)


class ReclassTable(Table):
    """Other values for some values."""

    kind: Literal["reclass"] = Field(description="reclass")
    map: dict[str, int] = Field(
        description="Value → new value, whole numbers; all are replaced at once. Other values stay unchanged."
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """Find values that are not whole numbers, or duplicates."""
        if not self.map:
            yield Finding(("map",), "the table is empty")
        seen: dict[int, str] = {}
        for value in self.map:
            if not _INTEGER.fullmatch(value):
                yield Finding(("map", value), f"expected a whole number, found {show(value)}")
            elif seen.setdefault(int(value), value) != value:
                yield Finding(("map", value), f"stands for the same value as {show(seen[int(value)])}")

    def stage_settings(self) -> ReclassSettings:
        """Return the settings, with every value in its canonical form."""
        return {"kind": "reclass", "map": {str(int(value)): other for value, other in self.map.items()}}


class NodataTable(Table):
    """A value for pixels without data."""

    kind: Literal["nodata"] = Field(description="nodata")
    value: float = Field(description="The new value, which counts as data from then on.")

    def stage_settings(self) -> NodataSettings:
        """Return the settings."""
        return self.settings_as(NodataSettings)


class NanTable(Table):
    """A value for NaN."""

    kind: Literal["nan"] = Field(description="nan")
    value: float = Field(0.0, description="The new value of NaN, which counts as data from then on.")

    def stage_settings(self) -> NanSettings:
        """Return the settings."""
        return self.settings_as(NanSettings)


class ExpressionTable(Table):
    """Bands that are computed from bands."""

    kind: Literal["expression"] = Field(description="expression")
    bands: dict[str, str] = Field(
        description='Name of a new band → its expression, for example { ndvi = "(B4 - B3) / (B4 + B3)" }. B1 is the '
        "first input band, after channels and earlier transforms; a band of an earlier expression, or of a STAC asset, "
        f"can be used by its name. Allowed are numbers, + - * / **, comparisons (0 or 1) and {', '.join(FUNCTIONS)}. "
        "Where the result is not a finite number, as in 0 / 0, there is no data."
    )
    keep: bool = Field(True, description="Whether the input bands are kept, before the new ones.")

    def check(self, context: Context) -> Iterator[Finding]:
        """Find invalid expressions and ambiguous names."""
        if not self.bands:
            yield Finding(("bands",), "the table is empty")
        for name, text in self.bands.items():
            if not name.isidentifier():
                yield Finding(("bands", name), f"expected a name of letters, digits and _, found {show(name)}")
            elif BAND.fullmatch(name) or name in FUNCTIONS:
                owner = "a function" if name in FUNCTIONS else "the band at that position"
                yield Finding(("bands", name), f"{show(name)} is already the name of {owner}; choose another name")
            try:
                parse(text)
            except ExpressionError as error:
                yield Finding(("bands", name), str(error))

    def stage_settings(self) -> ExpressionSettings:
        """Return the settings; the bands are a list of pairs, because their order matters."""
        return {"kind": "expression", "bands": [[name, text] for name, text in self.bands.items()], "keep": self.keep}


class FunctionTable(Table):
    """Your own function."""

    kind: Literal["function"] = Field(description="function")
    function: str = Field(
        description="The function, as package.module:name: called as function(image, valid, **args) for every window, "
        "with two arrays (bands, height, width): the pixels, and whether they are valid. It returns the pixels, or the "
        "pixels and whether they are valid. Each output pixel must depend only on the input pixel at its place."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Further arguments of the function.")

    def check(self, context: Context) -> Iterator[Finding]:
        """Find an invalid reference, and arguments that cannot be passed on."""
        if not REFERENCE.fullmatch(self.function):
            yield Finding(("function",), f'expected "package.module:function", found {show(self.function)}')
        yield from json_problem(self.args, ("args",))

    def stage_settings(self) -> FunctionSettings:
        """Return the settings."""
        return self.settings_as(FunctionSettings)


_StatisticsTable: TypeAlias = StatsTable | MinMaxTable | PercentileTable

_TABLES: dict[str, type[Table]] = {
    "stats": StatsTable,
    "min_max": MinMaxTable,
    "percentile": PercentileTable,
    "cast": CastTable,
    "reclass": ReclassTable,
    "nodata": NodataTable,
    "nan": NanTable,
    "expression": ExpressionTable,
    "function": FunctionTable,
}
KINDS = tuple(_TABLES)
"""All kinds of transforms."""

OF_STATISTICS = ("stats", "min_max", "percentile")
"""The transforms that need statistics. They replace the model's normalisation; at most one can be used, as the last."""

_BARE = ("stats", "min_max", "percentile", "nan")
"""The transforms without a required key, which can be written as a bare name."""


def _from_name(value: object) -> object:
    """Convert a bare name to a table, and reject values without a kind before their keys are checked."""
    if isinstance(value, str):
        if REFERENCE.fullmatch(value):
            return {"kind": "function", "function": value}
        if value in _BARE:
            return {"kind": value}
        if value in KINDS:
            required = [name for name, info in _TABLES[value].model_fields.items() if info.is_required()]
            return wrong(f"{value} needs {required[1]}; write {{ kind = {show(value)}, {required[1]} = … }}")
        hint = nearest(value, KINDS) or f"; known: {', '.join(KINDS)}, or package.module:function"
        return wrong(f"unknown transform {show(value)}{hint}")
    if not isinstance(value, dict | Table):
        return expected('a table such as { kind = "stats" }')
    if isinstance(value, dict):
        if "kind" not in value:
            return wrong(f'the table has no "kind"; expected one of {", ".join(KINDS)}')
        kind = value["kind"]
        if kind not in KINDS:
            hint = nearest(kind, KINDS) if isinstance(kind, str) else ""
            return wrong(f"unknown kind {show(kind)}{hint or '; known: ' + ', '.join(KINDS)}")
    return value


def _kind(value: object) -> str:
    """Return the tag of a table."""
    kind = value["kind"] if isinstance(value, dict) else getattr(value, "kind", "")
    return f"<{str(kind).replace('_', '')}>"


Transform: TypeAlias = Annotated[
    Annotated[StatsTable, Tag("<stats>")]
    | Annotated[MinMaxTable, Tag("<minmax>")]
    | Annotated[PercentileTable, Tag("<percentile>")]
    | Annotated[CastTable, Tag("<cast>")]
    | Annotated[ReclassTable, Tag("<reclass>")]
    | Annotated[NodataTable, Tag("<nodata>")]
    | Annotated[NanTable, Tag("<nan>")]
    | Annotated[ExpressionTable, Tag("<expression>")]
    | Annotated[FunctionTable, Tag("<function>")],
    Discriminator(_kind),
    BeforeValidator(_from_name),
    OrString(),
]
"""A transform: a table, or a bare name."""


def check_order(transforms: Sequence[Table]) -> Iterator[Finding]:
    """Find transforms that need statistics and are not the last."""
    for number, table in enumerate(transforms[:-1]):
        kind = _kind_of(table)
        if kind in OF_STATISTICS:
            after = _kind_of(transforms[number + 1])
            if after in OF_STATISTICS:
                advice = f"only one of {', '.join(OF_STATISTICS)} can be used"
            else:
                advice = (
                    f'put "{after}" before it: "{kind}" uses the statistics of the chips, which hold the result of all '
                )
                advice += "other transforms"
            yield Finding(("transform", number), f'"{kind}" must be the last transform; {advice}')


def check_names(transforms: Sequence[Table], bands: Sequence[str]) -> Iterator[Finding]:
    """Find names in expressions that are neither bands of the image nor of an earlier expression."""
    names = set(bands)
    for number, table in enumerate(transforms):
        if isinstance(table, FunctionTable):
            return  # it may return any bands
        if not isinstance(table, ExpressionTable):
            continue
        for band, text in table.bands.items():
            try:
                used = parse(text).names
            except ExpressionError:
                continue
            for name in used:
                if name not in names and not BAND.fullmatch(name):
                    hint = (
                        nearest(name, names) or "; bands are B1, B2, … or names of earlier expressions and STAC assets"
                    )
                    yield Finding(("transform", number, "bands", band), f'there is no band "{name}"{hint}')
        names |= set(table.bands)


def at_reading(transforms: Sequence[Transform]) -> list[TransformStep]:
    """Return the settings of the transforms that apply when an image is read."""
    return [table.stage_settings() for table in transforms if not isinstance(table, _StatisticsTable)]


def of_statistics(transforms: Sequence[Transform]) -> StatisticsStep | None:
    """Return the settings of the transform that needs statistics, or None."""
    steps = [table.stage_settings() for table in transforms if isinstance(table, _StatisticsTable)]
    return steps[-1] if steps else None


def _kind_of(table: Table) -> str:
    return str(getattr(table, "kind", ""))
