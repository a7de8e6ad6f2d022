"""The `[chip]` table: how training chips are cut from scenes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, Strict, Tag

from rvbuild.project.tasks import keys_of_tasks
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import (
    Context,
    Finding,
    Fraction,
    Pixels,
    Table,
    by_type,
    duplicates,
    expected,
    no_effect,
    wrong,
)
from rvbuild.settings.chip import ChipSettings, KeepSettings

_RANDOM = ("per_scene", "size_limits_px", "height_limits_px", "width_limits_px", "max_attempts")
"""The keys of random chips."""


def _limits(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(value) != 2:
        return expected("two sizes, [min, max]")
    if value[0] > value[1]:
        return wrong(f"the minimum {value[0]} is above the maximum {value[1]}")
    return value


def _side(value: object) -> object:
    if isinstance(value, list) and len(value) == 2:
        return wrong(
            f"expected one number, found {show(value)}: chips, which are turned by quarters, and the windows of "
            "predictions are squares. Rectangles can be cut at random and resampled to a square, by height_limits_px "
            "and width_limits_px"
        )
    return value


def _pair(value: tuple[int, ...]) -> tuple[int, ...]:
    return value if len(value) == 2 else expected("a length, or [rows, columns]")


_BOTH = by_type(
    {int: "<length>", float: "<length>", str: "<length>", list: "<pair>", tuple: "<pair>"},
    "a length, or [rows, columns]",
)
Length: TypeAlias = Annotated[int, Field(ge=0)]
Stride: TypeAlias = Annotated[
    Annotated[Pixels, Tag("<length>")]
    | Annotated[tuple[Pixels, ...], Strict(False), AfterValidator(_pair), Tag("<pair>")],
    _BOTH,
]
"""A distance of at least one pixel, or [rows, columns]."""
Padding: TypeAlias = Annotated[
    Annotated[Length, Tag("<length>")]
    | Annotated[tuple[Length, ...], Strict(False), AfterValidator(_pair), Tag("<pair>")],
    _BOTH,
]
Limits: TypeAlias = Annotated[tuple[Pixels, ...], Strict(False), AfterValidator(_limits)]
"""The smallest and the largest length."""


class KeepTable(Table):
    """Which chips are kept, by the classes in them."""

    classes: Annotated[tuple[str, ...], Strict(False)] = Field(description="Classes whose pixels are counted.")
    min_px: int = Field(1000, ge=1, description="A chip with at least this many pixels of the classes is always kept.")
    otherwise: Fraction = Field(0.1, description="Probability with which any other chip is kept, seeded.")

    def check(self, context: Context) -> Iterator[Finding]:
        """Find unknown classes."""
        if not self.classes:
            yield Finding(("classes",), "the list is empty; name at least one class")
        for number, name in enumerate(self.classes):
            problem = context.class_problem(name, null=False)
            if problem:
                yield Finding(("classes", number), problem)
        yield from duplicates(self.classes, "classes")

    def stage_settings(self) -> KeepSettings:
        """Return the settings."""
        return self.settings_as(KeepSettings)


class ChipTable(Table):
    """How chips are cut."""

    not_settings = (*keys_of_tasks("chip"), "store")  # a task adds its own; `store` is not part of any key
    omitted_defaults = ("height_limits_px", "width_limits_px", "max_attempts", "padding_px", "pad_direction")

    size_px: Annotated[Pixels, BeforeValidator(_side)] = Field(300, description="Side of a chip, in pixels.")
    stride_px: Stride | None = Field(
        None, description="Distance between chips, in pixels, or [rows, columns]. Default: size_px."
    )
    method: Literal["sliding", "random"] = Field(
        "sliding", description="Where chips are: sliding, on a regular grid; random, at seeded random places."
    )
    per_scene: int = Field(100, ge=1, description="With method = random: how many chips each scene gives.")
    size_limits_px: Limits | None = Field(
        None, description="With method = random: [min, max] of the side that is cut, then resampled to size_px."
    )
    height_limits_px: Limits | None = Field(
        None, description="With method = random: [min, max] of the rows that are cut, whatever the columns are."
    )
    width_limits_px: Limits | None = Field(
        None, description="With method = random: [min, max] of the columns that are cut, whatever the rows are."
    )
    max_attempts: int | None = Field(
        None,
        ge=1,
        description="With method = random: how often a place is drawn for a chip before it is given up. Default: "
        "10000, and 100 with neg_ratio.",
    )
    padding_px: Padding | None = Field(
        None,
        description="How far chips may reach beyond the scene, in pixels, or [rows, columns]. Default: as far as it "
        "takes to cover the scene; with method = random, 0.",
    )
    pad_direction: Literal["end", "start", "both"] = Field(
        "end",
        description="With method = sliding: where chips reach beyond the scene: below and to the right, above and to "
        "the left, or on both sides.",
    )
    within_aoi: bool = Field(
        True, description="Whether a chip must lie in the area of interest, or only touch it. No effect without one."
    )
    max_nodata: float = Field(
        1.0, gt=0, le=1, description="A chip is dropped if its share of pixels without data reaches this."
    )
    store: bool = Field(
        True,
        description="Whether the images of chips are written. If not, training reads them from the scenes, and gives "
        "the same model.",
    )
    keep: KeepTable | None = Field(None, description="Keep chips by the classes in them. Default: keep all.")

    ioa_thresh: Fraction = Field(
        0.8, description="For object_detection: a box is a target of the chips that show at least this share of it."
    )
    clip: bool = Field(False, description="For object_detection: whether boxes end at the edge of their chip.")
    neg_ratio: float | None = Field(
        None,
        ge=0,
        description="For object_detection: how many chips without any box are cut for each that has one; chips that "
        "have neither enough of a box nor too little are not cut. Default: all chips, whatever they show.",
    )
    neg_ioa_thresh: Fraction = Field(
        0.2, description="With neg_ratio: a chip has no box if it shows less than this share of each."
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """Find keys of the other method."""
        if self.height_limits_px or self.width_limits_px:
            at = "height_limits_px" if self.height_limits_px else "width_limits_px"
            if self.size_limits_px is not None:
                yield Finding((at,), "size_limits_px, of squares, is set too; keep one of them", (("size_limits_px",),))
        if self.method == "sliding":
            for field in _RANDOM:
                if self.is_set(field):
                    yield no_effect(
                        field, f'with method = "sliding"; set method = {show("random")}, or remove it', "method"
                    )
        else:
            for field, instead in (("stride_px", "per_scene"), ("pad_direction", "padding_px, which is for all sides")):
                if self.is_set(field):
                    because = f'with method = "random"; set {instead}, or method = "sliding"'
                    yield no_effect(field, because, "method")

    def stage_settings(self) -> ChipSettings:
        """Return the settings, with the stride filled in."""
        settings = self.settings_as(ChipSettings)
        settings["stride_px"] = settings["stride_px"] or self.size_px
        return settings


class SceneChipTable(ChipTable):
    """The chip settings that differ for one scene."""

    def check(self, context: Context) -> Iterator[Finding]:
        """Find keys that all scenes share; the others are checked together with [chip]."""
        if self.is_set("size_px"):
            yield Finding(("size_px",), "all chips of a project have one size; set chip.size_px")

    def laid_over(self, chip: ChipTable) -> ChipTable:
        """Return the settings of [chip], overridden by those of this table."""
        return chip.model_copy(update={field: getattr(self, field) for field in self.model_fields_set})
