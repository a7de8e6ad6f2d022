"""The chips of several scenes as one sequence, read from their memory-mapped shards.

Images that are not stored are read from the imagery of their scene.
"""

from __future__ import annotations

import bisect
import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rvbuild.errors import DataError
from rvbuild.geo.windows import Window
from rvbuild.learn.chips.index import INDEX, ChipIndex, check_images, check_labels, read_index
from rvbuild.learn.chips.shards import open_shard, unpack_image
from rvbuild.learn.hooks import Sample, TargetOps

if TYPE_CHECKING:
    from rvbuild.learn.chips.scene_images import Imagery, SceneImages

Value = TypeVar("Value")

OPEN_SHARDS = 128
"""Number of shards mapped at the same time: each uses one or two file descriptors."""


@dataclass(frozen=True)
class _Shard:
    scene: str
    images: Path | None
    """None: the images are not stored."""
    labels: Path
    count: int


class Chips:
    """All chips of some scenes, in the order of the scenes' roles, then of their shards.

    Parameters
    ----------
    scenes
        The files of each scene's chips (`index.json` and shards) by role, for example `"chips/train/a"`.
    ops
        How the task's targets are read.
    imagery
        That of the scenes whose chips have no images, by role.

    Raises
    ------
    DataError
        The scenes' chips differ in bands, dtype, size or classes, or an index or shard is damaged.
    """

    def __init__(
        self, scenes: Mapping[str, Sequence[Path]], ops: TargetOps, imagery: Mapping[str, Imagery] | None = None
    ) -> None:
        self._ops = ops
        indices = {role: _read_index(scenes[role]) for role in sorted(scenes)}
        self.scene_counts = {index["scene"]: index["count"] for _, index in indices.values()}
        """Number of chips by scene id."""
        self._shards: list[_Shard] = []
        away: dict[str, Imagery] = {}
        for role, (files, index) in indices.items():
            scene = index["scene"]
            if imagery is not None and role in imagery:
                away[scene] = imagery[role]
            for entry in index["shards"]:
                images = None if scene in away else _named(files, entry["images"], scene)
                self._shards.append(_Shard(scene, images, _named(files, entry["labels"], scene), entry["count"]))
        self._ends = list(itertools.accumulate(shard.count for shard in self._shards))
        self.count = self._ends[-1] if self._ends else 0
        # The bands of a scene without chips may be unknown.
        filled = [index for _, index in indices.values() if index["count"]]
        self.bands = _common(
            [(i["scene"], i["bands"]) for i in filled],
            "number of bands",
            0,
            remedy="choose the same number of `channels`",
        )
        self.dtype = _common(
            [(i["scene"], i["dtype"]) for i in filled], "pixel type", "", remedy="use imagery of one type"
        )
        self.size_px = _common([(i["scene"], i["size_px"]) for i in filled], "chip size", 0)
        self.classes = list(_common([(i["scene"], i["classes"]) for i in filled], "classes", []))
        counts = [np.asarray(index["class_counts"], dtype=np.int64) for index in filled]
        self.class_counts = np.sum(counts, axis=0) if counts else np.zeros(0, dtype=np.int64)
        """(n_classes,) int64: occurrences of each class id in all chips."""
        by_chip = [row for index in filled for row in index.get("chip_class_counts", ())]
        self.chip_class_counts = np.array(by_chip, dtype=np.int64).reshape(len(by_chip), len(self.classes))
        """(n, n_classes) int64: occurrences in each chip, if all indices tell them."""
        self._open: OrderedDict[int, tuple[Mapping[str, np.ndarray] | None, Mapping[str, np.ndarray]]] = OrderedDict()
        self._scene_images = self._read_from(away) if away else None
        self._chosen: np.ndarray | None = None
        self._checked: set[int] = set()
        """The numbers of the shards whose labels were validated, since maps are closed and opened again."""

    def choose(self, most: int, seed: int) -> None:
        """Keep at most this many chips, drawn by the seed, in their order. A smaller limit selects a subset.

        Raises
        ------
        DataError
            An index does not tell the classes of each chip.
        """
        if len(self.chip_class_counts) != self.count:
            raise DataError(
                "train.max_chips needs the class counts of each chip, which the chip index does not have; build the "
                "chips again"
            )
        self._chosen = np.sort(np.random.default_rng(seed).permutation(self.count)[:most])
        self.count = most
        self.chip_class_counts = self.chip_class_counts[self._chosen]
        self.class_counts = self.chip_class_counts.sum(axis=0)

    def never_shown(self, class_ids: Sequence[int]) -> list[str]:
        """Return the names of the classes in no chip; empty if there are no chips."""
        return [self.classes[id_] for id_ in class_ids if self.count and not self.class_counts[id_]]

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        # Maps are opened again in a loader process.
        return {**self.__dict__, "_open": OrderedDict()}

    def __getitem__(self, position: int) -> Sample:
        """Return a chip; stored data are read-only views of its shard."""
        if self._chosen is not None:
            position = int(self._chosen[position])
        number = bisect.bisect_right(self._ends, position)
        shard = self._shards[number]
        inside = position - (self._ends[number] - shard.count)
        images, labels = self._map(number)
        if images is None:
            assert self._scene_images is not None
            window = Window(*labels["windows"][inside].tolist())
            image, valid = self._scene_images.read(shard.scene, window, labels["digests"][inside])
        else:
            image, valid = unpack_image(images, inside)
        return Sample(image, valid, self._ops.unpack(labels, inside))

    def close(self) -> None:
        """Close the files of scenes."""
        if self._scene_images is not None:
            self._scene_images.close()

    def _read_from(self, imagery: Mapping[str, Imagery]) -> SceneImages:
        from rvbuild.learn.chips.scene_images import (
            SceneImages,  # it imports rasterio, and loader processes start often
        )

        return SceneImages(imagery, self.bands, self.dtype, self.size_px)

    def _map(self, number: int) -> tuple[Mapping[str, np.ndarray] | None, Mapping[str, np.ndarray]]:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self._shards[number]
        images, labels = None if shard.images is None else open_shard(shard.images), open_shard(shard.labels)
        if images is not None and shard.images is not None:
            shape = (shard.count, self.bands, self.size_px, self.size_px)
            check_images(shard.images, images, shape, self.dtype, shard.scene)
        if number not in self._checked:
            self._check_labels(shard, labels)
            self._checked.add(number)
        while len(self._open) >= OPEN_SHARDS:
            self._open.popitem(last=False)
        self._open[number] = images, labels
        return images, labels

    def _check_labels(self, shard: _Shard, labels: Mapping[str, np.ndarray]) -> None:
        """Raise a DataError unless a shard of labels matches the task and the index."""
        check_labels(shard.labels, labels, shard.count, self.size_px, len(self.classes))
        try:
            self._ops.unpack(labels, 0)
            if shard.images is None:
                labels["windows"], labels["digests"]
        except KeyError as error:
            raise DataError(f"{shard.labels}: has no {error.args[0]}; build the chips again") from error


def _read_index(files: Sequence[Path]) -> tuple[Mapping[str, Path], ChipIndex]:
    """Return the files of a scene's chips by name, and the content of its index."""
    named = {path.name: path for path in files}
    return named, read_index(_named(named, INDEX, ""))


def _named(files: Mapping[str, Path], name: str, scene: str) -> Path:
    if name not in files:
        of = f" of scene {scene}" if scene else ""
        raise DataError(f"the chips{of} have no file {name}, only {', '.join(sorted(files))}; build the chips again")
    return files[name]


def _common(
    values: Sequence[tuple[str, Value]], what: str, default: Value, *, remedy: str = "build the chips again"
) -> Value:
    """Return the value that all scenes have in common, given as (scene, value) pairs; the default without any."""
    if not values:
        return default
    first_scene, first = values[0]
    for scene, value in values:
        if value != first:
            raise DataError(
                f"the {what} differs between scenes: {first} in {first_scene}, {value} in {scene}; {remedy}"
            )
    return first
