"""Automatic splits: scenes, or spatial blocks of scenes, taken from training for validation and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple, Protocol, TypeAlias

from pydantic import Discriminator, Field, Strict, Tag

from rvbuild.project.scenes import shares
from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.table import Context, Finding, Pixels, Table, no_effect
from rvbuild.settings.area import Share, Split, SplitBlockSettings

AUTOMATIC: tuple[Split, ...] = ("validation", "test")
"""The splits that can be taken from the training scenes."""


class SplitTable(Table):
    """A part of the training scenes, chosen by the seed."""

    fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="The fraction of all scenes, or of the blocks of each scene, to take; at least one is taken."
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Instead of fraction, for cross-validation: the number of parts of equal size, one of which is "
        "taken.",
    )
    fold: Annotated[int, Field(ge=0)] = Field(0, description="With folds: the part to take, from 0.")
    by: Literal["block", "scene"] = Field(
        "block",
        description="What is taken: block, square blocks of every scene, whose pixels no other split uses; scene, "
        "whole scenes.",
    )
    block_px: Pixels = Field(
        1024,
        description="With by = block: side of a block, in pixels; a multiple of chip.stride_px loses the fewest chips.",
    )
    seed: Annotated[int, Field(ge=0)] | None = Field(None, description="Seed of the choice. Default: project.seed.")

    def check(self, context: Context) -> Iterator[Finding]:
        """Find incomplete or contradictory shares, and blocks that are too small for a chip."""
        if (self.fraction is None) == (self.folds is None):
            state = "neither" if self.fraction is None else "both"
            yield Finding(
                () if state == "neither" else ("folds",), f'expected either "fraction" or "folds", found {state}'
            )
        if self.folds is not None and self.fold >= self.folds:
            yield Finding(("fold",), f"expected a fold from 0 to {self.folds - 1}, found {self.fold}", (("folds",),))
        if self.folds is None and self.is_set("fold"):
            yield no_effect("fold", "without folds", "folds")
        if self.by == "scene" and self.is_set("block_px"):
            yield no_effect("block_px", 'with by = "scene"', "by")
        elif self.by == "block" and context.chip_px is not None and self.block_px < context.chip_px:
            yield Finding(
                ("block_px",), f"no chip of {context.chip_px} px (chip.size_px) fits in a block of {self.block_px} px"
            )

    def share(self) -> Share:
        """Return how much is selected; see `rvbuild.project.scenes.shares`."""
        if self.folds is not None:
            return {"folds": self.folds, "fold": self.fold}
        assert self.fraction is not None, "`check` has reported it"
        return {"fraction": self.fraction}


def _form(value: object) -> str | None:
    if isinstance(value, dict | SplitTable):
        return "<split>"
    return "<ids>" if isinstance(value, list | tuple) else None


SplitOrIds: TypeAlias = Annotated[
    Annotated[tuple[str, ...], Strict(False), Tag("<ids>")] | Annotated[SplitTable, Tag("<split>")],
    Discriminator(
        _form,
        custom_error_type="expected",
        custom_error_message='a list of scene ids like ["a", "b"], or a table like { fraction = 0.2, by = "block" }',
    ),
]
"""The ids of scenes, or a part of the training scenes."""


class Scenes(Protocol):
    """The part of the `[scenes]` table that is used here."""

    @property
    def training(self) -> tuple[str, ...]:
        """The ids of the training scenes."""


class Placed(NamedTuple):
    """A scene, or a part of a scene, and its split."""

    id: str
    """The id; `a.train`, `a.validation` or `a.test` for a part of scene `a`."""
    base: str
    """The scene's id in the project file."""
    split: Split
    key: Key
    """The key of the scene's id."""
    blocks: SplitBlockSettings | None
    """The blocks of the part: `split`, `block_px`, `seed`, and the shares that determine it. None for a whole scene."""


def placed(scenes: Scenes, seed: int) -> list[Placed]:
    """Return all scenes and parts with their splits: training, validation, test, each in the order of the file."""
    by_split: dict[Split, list[Placed]] = {"train": [], "validation": [], "test": []}
    blocks = _blocks(scenes, seed)
    for number, (id_, split) in enumerate(zip(scenes.training, _whole(scenes, seed), strict=True)):
        key: Key = ("scenes", "train", number)
        if split != "train" or not blocks:
            by_split[split].append(Placed(id_, id_, split, key, None))
            continue
        for part, settings in blocks.items():
            by_split[part].append(Placed(part_id(id_, part), id_, part, key, settings))
    for split in AUTOMATIC:
        ids = getattr(scenes, split)
        if not isinstance(ids, SplitTable):
            by_split[split] += [
                Placed(id_, id_, split, ("scenes", split, number), None) for number, id_ in enumerate(ids)
            ]
    return [item for split in by_split.values() for item in split]


def part_id(id_: str, split: Split) -> str:
    """Return the id of a part of a scene."""
    return f"{id_}.{split}"


def automatic(scenes: Scenes, by: str | None = None) -> dict[Split, SplitTable]:
    """Return the splits that are taken from the training scenes; with `by`, only those by `block` or by `scene`."""
    tables = {split: getattr(scenes, split) for split in AUTOMATIC}
    return {split: table for split, table in tables.items() if isinstance(table, SplitTable) and by in (None, table.by)}


def check(scenes: Scenes) -> Iterator[Finding]:
    """Find automatic splits that contradict each other, or leave nothing for training."""
    tables = automatic(scenes)
    for by, items in (("scene", "scenes"), ("block", "blocks of each scene")):
        selected = automatic(scenes, by)
        both = tuple((split,) for split in selected)
        if len(selected) == 2:
            test, validation = selected["test"], selected["validation"]
            for key in ("seed", "block_px"):
                values = getattr(test, key), getattr(validation, key)
                if values[0] != values[1]:
                    own, other = ("not set" if value is None else show(value) for value in values)
                    message = f"is {own}, but {other} for validation; both are taken from the same {items}"
                    yield Finding(("test", key), message, both)
            tested = test.fraction or (1 / test.folds if test.folds else 0.0)
            if tested + (validation.fraction or 0.0) >= 1:
                key = "fraction" if test.fraction else "folds"
                yield Finding(("test", key), "together with that of validation, nothing is left for training", both)
        if by == "scene" and selected and scenes.training and all(map(_is_sized, selected.values())):
            try:
                shares.shared(len(scenes.training), *_shares(selected))
            except shares.TooFewError as error:
                yield Finding(
                    (next(iter(selected)),),
                    f'by = "scene" splits the {len(scenes.training)} scenes of train: {error}',
                    both,
                )
    if automatic(scenes, "block"):
        ids = set(scenes.training) | {
            id_ for split in AUTOMATIC if split not in tables for id_ in getattr(scenes, split)
        }
        for number, id_ in enumerate(scenes.training):
            for split in ("train", *automatic(scenes, "block")):
                if part_id(id_, split) in ids:
                    part = show(part_id(id_, split))
                    yield Finding(
                        ("train", number),
                        f"{part} is a scene, and would also be the name of a part of scene {show(id_)}",
                    )


def _is_sized(table: SplitTable) -> bool:
    """Tell whether a split has a valid size; `check` reports others."""
    if table.folds is None:
        return table.fraction is not None
    return table.fraction is None and table.fold < table.folds


def _whole(scenes: Scenes, seed: int) -> list[Split]:
    """Return the split of each training scene after whole scenes are taken."""
    selected = automatic(scenes, "scene")
    splits: list[Split] = ["train"] * len(scenes.training)
    if not selected or not all(map(_is_sized, selected.values())):
        return splits
    own_seed = next(iter(selected.values())).seed
    places = shares.order(scenes.training, seed if own_seed is None else own_seed)
    try:
        shared = shares.shared(len(places), *_shares(selected))
    except shares.TooFewError:
        return splits  # reported by `check`
    for split in selected:
        for place in shared[split]:
            splits[places[place]] = split
    return splits


def _blocks(scenes: Scenes, seed: int) -> dict[Split, SplitBlockSettings]:
    """Return the blocks of each part of a scene, with only the shares that determine them."""
    selected = automatic(scenes, "block")
    if not selected or not all(map(_is_sized, selected.values())):
        return {}
    table = next(iter(selected.values()))
    validation, test = _shares(selected)
    independent = all("fraction" in share for share in (validation, test) if share)

    def part(split: Split, validation: Share | None, test: Share | None) -> SplitBlockSettings:
        seed_of_split = seed if table.seed is None else table.seed
        return {
            "split": split,
            "block_px": table.block_px,
            "seed": seed_of_split,
            "validation": validation,
            "test": test,
        }

    parts: dict[Split, SplitBlockSettings] = {"train": part("train", validation, test)}
    if validation:
        parts["validation"] = part("validation", validation, None if independent else test)
    if test:
        parts["test"] = part("test", None, test)
    return parts


def _shares(tables: Mapping[Split, SplitTable]) -> tuple[Share | None, Share | None]:
    """Return the shares of validation and test."""
    validation, test = tables.get("validation"), tables.get("test")
    return (validation.share() if validation else None), (test.share() if test else None)
