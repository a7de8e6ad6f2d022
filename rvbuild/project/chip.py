"""The `[chip]` table: how training chips are cut from scenes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict

from rvbuild.project import boxes, cells
from rvbuild.project.keys import show
from rvbuild.project.table import Finding, Fraction, Known, Pixels, Table, duplicates, expected, no_effect, wrong


def _limits(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(value) != 2:
        return expected("two sizes, [min, max]")
    if value[0] > value[1]:
        return wrong(f"the minimum {value[0]} is above the maximum {value[1]}")
    return value


class KeepTable(Table):
    """Which chips are kept, by the classes in them."""

    classes: Annotated[tuple[str, ...], Strict(False)] = Field(description="Classes whose pixels are counted.")
    min_px: int = Field(1000, ge=1, description="A chip with at least this many pixels of the classes is always kept.")
    otherwise: Fraction = Field(0.1, description="Probability with which any other chip is kept, seeded.")

    def check(self, known: Known) -> Iterator[Finding]:
        """Find unknown classes and a threshold that no chip can reach."""
        if not self.classes:
            yield Finding(("classes",), "the list is empty; name at least one class")
        for number, name in enumerate(self.classes):
            problem = known.class_problem(name, null=False)
            if problem:
                yield Finding(("classes", number), problem)
        yield from duplicates(self.classes, "classes")
        if known.task == cells.TASK:
            if self.given("min_px"):
                yield no_effect("min_px", "on cells, which have one class each")
        elif known.task == boxes.TASK:
            if self.given("min_px"):
                yield no_effect("min_px", "on boxes, of which one is enough")
        elif known.chip_px is not None and self.min_px > known.chip_px**2:
            yield Finding(
                ("min_px",), f"{self.min_px} is more than a chip has: {known.chip_px}² = {known.chip_px**2} pixels"
            )


class ChipTable(Table):
    """How chips are cut."""

    size_px: Pixels = Field(300, description="Side of a chip, in pixels.")
    stride_px: Pixels | None = Field(None, description="Distance between chips, in pixels. Default: size_px.")
    method: Literal["sliding", "random"] = Field(
        "sliding", description="Where chips are: sliding, on a regular grid; random, at seeded random places."
    )
    per_scene: int = Field(100, ge=1, description="With method = random: how many chips each scene gives.")
    size_limits_px: Annotated[tuple[Pixels, ...], Strict(False), AfterValidator(_limits)] | None = Field(
        None, description="With method = random: [min, max] of the side that is cut, then resampled to size_px."
    )
    within_aoi: bool = Field(
        True, description="Whether a chip must lie in the area of interest, or only touch it. No effect without one."
    )
    max_nodata: float = Field(
        1.0, gt=0, le=1, description="A chip is dropped if its share of pixels without data reaches this."
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

    def check(self, known: Known) -> Iterator[Finding]:
        """Find keys of the other method, and of other tasks."""
        yield from boxes.check_chip(self, known)
        if self.method == "sliding":
            for field in ("per_scene", "size_limits_px"):
                if self.given(field):
                    yield no_effect(
                        field, f'with method = "sliding"; set method = {show("random")}, or remove it', "method"
                    )
        elif self.given("stride_px"):
            yield no_effect("stride_px", 'with method = "random"; set per_scene, or method = "sliding"', "method")

    def slice(self) -> dict[str, Any]:
        """Return the settings, with the stride filled in, without what is about boxes."""
        settings = {key: value for key, value in super().slice().items() if key not in boxes.CHIP_KEYS}
        settings["stride_px"] = self.stride_px or self.size_px
        return settings


class BoxChipTable(ChipTable):
    """How the chips of a project with boxes are cut."""

    def slice(self) -> dict[str, Any]:
        """Return the settings, with what is about boxes."""
        settings = {**super().slice(), **{key: getattr(self, key) for key in boxes.CHIP_KEYS}}
        if self.keep is not None:
            # One box is enough.
            settings["keep"] = {**settings["keep"], "min_px": 1}
        return settings
