"""A user's own chips as inputs: the files of each split of the folder that `[train] chips` names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .common import Artifact, Product, Project, classes, folder, name, packages, resolve, seed
from .common import Source as Files

RUN = "rvbuild.stages.chip_folder:run"
CODE = ("rvbuild.stages.chip_folder", "rvbuild.stages.analyze_chips")

SPLITS = {"train": ("train",), "validation": ("valid", "val", "validation")}
"""Split → what its folder may be called."""


def products(project: Project, *files: str, beside: tuple[str, ...] = ()) -> list[Product]:
    """Return the chips of each split as inputs."""
    return [
        Product(f"chips/{split}/{split}", name("chip", project.name, split), files, beside)
        for split in _folders(project)
    ]


def artifacts(project: Project, code: str, version: int) -> Iterator[Artifact]:
    """Yield the chips of each split."""
    chips = project.train.chips
    assert chips is not None
    for split, base in _folders(project).items():
        files = sorted(_files(base))
        yield Artifact(
            name=name("chip", project.name, split),
            project=project.name,
            stage="chip",
            scene=split,
            run=RUN,
            version=version,
            settings={
                "task": project.task,
                "split": split,
                "classes": classes(project),
                "null_id": project.null_id,
                "size_px": project.chip_px,
                "resize": project.chip.given("size_px"),
                "channels": None if chips.channels is None else list(chips.channels),
                "relative": [path.relative_to(base).as_posix() for path in files],
                "seed": seed(project, f"chip:{split}"),
            },
            inputs=(Files("files", tuple(files), folders=tuple(sorted(_directories(base)))),),
            folder=folder(project, "chip", split),
            code=code,
            packages=packages(project),
        )


def _folders(project: Project) -> dict[str, Path]:
    """Return the folder of each split that holds a file; that of training in any case."""
    chips = project.train.chips
    assert chips is not None
    root = resolve(project, chips.folder)
    found = {"train": root / "train"}
    for split, called in SPLITS.items():
        for base in (root / one for one in called):
            if any(True for _ in _files(base)):
                found[split] = base
                break
    return found


def _files(base: Path) -> Iterator[Path]:
    """Yield all files below a folder that are not hidden."""
    for directory, folders, names in os.walk(base):
        folders[:] = [one for one in folders if not one.startswith(".")]
        yield from (Path(directory, one) for one in names if not one.startswith("."))


def _directories(base: Path) -> Iterator[Path]:
    """Yield the folders in which a new file would be an input, too."""
    yield base.parent
    for directory, folders, _ in os.walk(base):
        folders[:] = [one for one in folders if not one.startswith(".")]
        yield Path(directory)
