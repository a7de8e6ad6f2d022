"""The `[scenes]` table: the scenes and their splits."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from rvbuild.errors import nearest
from rvbuild.project.scenes import splits
from rvbuild.project.scenes.patterns import PatternOrIds, PatternTable
from rvbuild.project.scenes.scene import SceneTable
from rvbuild.project.scenes.splits import SplitOrIds, SplitTable
from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.names import RESERVED_SCENES, clashes, name_problem
from rvbuild.project.toml.table import Context, Finding, Table

_HINTED = 20
"""Maximum number of unknown ids with a suggestion: among thousands of scenes, searching is slow."""

SPLITS = ("train", "validation", "test")


class ScenesTable(Table):
    """The scenes of each split."""

    train: PatternOrIds = Field(
        (),
        description="Ids of the scenes to train on, which stand for {id} in paths; or a table that lists the scenes by "
        "their files.",
    )
    validation: SplitOrIds = Field(
        (),
        description="Ids of the scenes to validate the training on, which are also evaluated; or a table that takes a "
        "part of the training scenes.",
    )
    test: SplitOrIds = Field(
        (),
        description="Ids of the scenes that are only predicted, and evaluated if they have labels; or a table that "
        "takes a part of the training scenes.",
    )
    by_id: dict[str, SceneTable] = Field(
        default_factory=dict, description="Keys of [scene] that differ for one scene: by_id.ID.image = …"
    )

    @property
    def training(self) -> tuple[str, ...]:
        """The ids of the training scenes; `rvbuild.project.scenes.patterns` replaces a table by them."""
        return () if isinstance(self.train, PatternTable) else self.train

    def check(self, context: Context) -> Iterator[Finding]:
        """Find duplicate ids, ids that cannot be file names, and overrides of scenes that do not exist."""
        keys: list[Key] = []
        ids: list[str] = []
        for split in SPLITS:
            members = getattr(self, split)
            if isinstance(members, SplitTable | PatternTable):
                continue
            keys += [(split, number) for number in range(len(members))]
            ids += members
        first: dict[str, str] = {}
        for key, scene in zip(keys, ids, strict=True):
            split = str(key[0])
            if problem := name_problem(scene, RESERVED_SCENES):
                yield Finding(key, problem)
            elif scene not in first:
                first[scene] = split
            elif first[scene] == split:
                yield Finding(key, f"scene {show(scene)} is listed twice")
            else:
                both = f"in both {first[scene]} and {split}"
                yield Finding(key, f"scene {show(scene)} is {both}; a scene belongs to one split")
        for number, scene, earlier in clashes(ids):
            yield Finding(
                keys[number], f"scenes {show(scene)} and {show(earlier)} differ only in case, and so would their files"
            )
        yield from splits.check(self)
        strangers = [scene for scene in self.by_id if scene not in first]
        for number, scene in enumerate(strangers):
            hint = (nearest(scene, ids) if number < _HINTED else "") or "; add it there, or remove this override"
            yield Finding(
                ("by_id", scene),
                f"no scene {show(scene)} in train, validation or test{hint}",
                tuple((split,) for split in SPLITS),
            )
