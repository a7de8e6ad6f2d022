"""Resources: the disk and the memory that a build needs at least, against what there is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from rvbuild.checks.findings import Finding, Level
from rvbuild.project import Project

_FLOAT_BYTES = 4


def findings(project: Project, facts: Mapping[str, Mapping[str, Any]], to_cut: Collection[str]) -> Iterator[Finding]:
    """Yield what the project needs more of than there is.

    Parameters
    ----------
    project, facts
        As for `rvbuild.checks.project.findings`.
    to_cut
        The ids of the scenes whose chips are still to be cut.
    """
    yield from _disk(project, facts, to_cut)
    yield from _memory(project, facts)


def chip_bytes(project: Project, facts: Mapping[str, Any]) -> int | None:
    """Return the bytes of the images of a scene's chips, if all are kept; None if that is not known."""
    image, chips = facts.get("image"), facts.get("chips")
    if image is None or chips is None:
        return None
    return int(chips * image["bands"] * image["itemsize"] * project.chip_px**2)


def _disk(project: Project, facts: Mapping[str, Mapping[str, Any]], to_cut: Collection[str]) -> Iterator[Finding]:
    unstored = {scene.id for scene in project.scenes if not (scene.chip or project.chip).store}
    needed = sum(chip_bytes(project, facts[id_]) or 0 for id_ in to_cut if id_ in facts and id_ not in unstored)
    folder = project.workspace / "cache"
    free = shutil.disk_usage(folder if folder.is_dir() else project.workspace).free
    if needed <= free:
        return
    all_kept = project.chip.keep is None and project.chip.max_nodata >= 1
    text = (
        f"the chips need {'' if all_kept else 'up to '}{needed / 1e9:.1f} GB, and the disk of {folder} has "
        f"{free / 1e9:.1f} GB left. Train without stored chips (chip.store = false), cut fewer "
        "(chip.stride_px, chip.keep, chip.per_scene), free some (`rvbuild cache gc`), or let RVBUILD_STORE name a "
        "larger disk"
    )
    yield Finding(Level.ERROR if all_kept else Level.WARNING, "disk", text, key=("chip",))


def _memory(project: Project, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Report batches that cannot be held: images and outputs alone, without what the network needs between them."""
    bands = max((one["image"]["bands"] for one in facts.values() if "image" in one), default=0)
    there = memory_bytes()
    for key, batch in (
        ("train.batch_size", project.train.batch_size),
        ("predict.batch_size", project.predict.batch_size),
    ):
        needed = batch * bands * project.chip_px**2 * _FLOAT_BYTES
        if there is not None and needed > there:
            text = (
                f"{key}: {batch} chips of {project.chip_px} px and {bands} bands take {needed / 1e9:.1f} GB, and the "
                f"machine has {there / 1e9:.1f} GB of memory. Make it smaller"
            )
            yield Finding(Level.ERROR, key, text)


def memory_bytes() -> int | None:
    """Return the memory of the machine, or of the container that this process is in; None if it is not known."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return found
    return min(found, int(limit)) if limit.isdigit() else found
