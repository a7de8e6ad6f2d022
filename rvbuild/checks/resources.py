"""Comparison of the disk space and the memory that a build needs with what is available."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from rvbuild.checks.findings import Finding, Level
from rvbuild.files.budget import memory_bytes, size_text
from rvbuild.project.model import Project

_FLOAT_BYTES = 4

SURE_BYTES = 32_000
"""Bytes for each pixel of a batch that no named model exceeds in training: if this fits, nothing is measured."""

PROCESS_BYTES = 500 << 20
"""Bytes of a process that has loaded torch, without a model."""

WORKER_BYTES = 150 << 20
"""Bytes of a worker that reads imagery."""

VECTOR_TIMES = 10
"""Size of the features of a vector file in memory, relative to the file; approximate."""

Facts = Mapping[str, Mapping[str, Any]]


def findings(
    project: Project,
    facts: Facts,
    to_cut: Collection[str],
    to_predict: Collection[str],
    model: Mapping[str, int] | None,
    jobs: int,
    processes: int = 1,
) -> Iterator[Finding]:
    """Yield a finding for each resource that the project needs more of than is available.

    Parameters
    ----------
    project, facts
        As for `rvbuild.checks.project.findings`.
    to_cut, to_predict
        Ids of the scenes whose chips still have to be cut, and of those that still have to be predicted.
    model
        The memory that the model needs, see `rvbuild.checks.memory.measure`; None if unknown.
    jobs
        Number of scenes that are processed at the same time.
    processes
        Number of processes of a training.
    """
    yield from _disk(project, facts, to_cut, to_predict)
    available = memory_bytes()
    if available is not None:
        yield from _cutting(facts, to_cut, jobs, available)
        yield from _computing(project, facts, model, available, processes)


def chip_bytes(project: Project, facts: Mapping[str, Any]) -> int | None:
    """Return the bytes of the chips of a scene, if all are kept; None if unknown."""
    image, chips = facts.get("image"), facts.get("chips")
    if image is None or chips is None:
        return None
    return int(chips * image["bands"] * image["itemsize"] * project.chip_px**2)


def needs_measuring(project: Project, facts: Facts, at_once: int = 1) -> bool:
    """Tell whether this many batches may exceed the memory, so that measuring the model is worthwhile."""
    available = memory_bytes()
    batch = max(project.train.batch_size, project.predict.batch_size)
    torch = project.train.backend is None
    return torch and available is not None and bands_of(facts) > 0 and at_once * _sure_bytes(project, batch) > available


def _sure_bytes(project: Project, batch: int) -> int:
    """Return an upper bound of the memory of a process that trains a named model on batches of this many chips."""
    return batch * project.chip_px**2 * SURE_BYTES + PROCESS_BYTES


def computing_bytes(project: Project, facts: Facts, model: Mapping[str, int] | None) -> dict[str, int]:
    """Return conservative estimates of the memory of a process that trains, and of one that predicts, by stage.

    Parameters
    ----------
    project, facts, model
        As for `findings`. Memory of a model that was not measured is estimated by the bound for all named models.
    """
    return {
        "infer" if step.table == "predict" else "train": _sure_bytes(project, step.at_once)
        if model is None
        else step.fixed + step.images + step.at_once * model[step.table]
        for step in _batches(project, facts, model)
    }


def bands_of(facts: Facts) -> int:
    """Return the number of bands of the imagery; 0 if no image could be read."""
    return max((scene_facts["image"]["bands"] for scene_facts in facts.values() if "image" in scene_facts), default=0)


def _disk(project: Project, facts: Facts, to_cut: Collection[str], to_predict: Collection[str]) -> Iterator[Finding]:
    """Report chips and rasters of scores that do not fit on the disk."""
    folder = project.workspace / "cache"
    stored = {scene.id for scene in project.scenes if (scene.chip or project.chip).store}
    chips = sum(chip_bytes(project, facts[id_]) or 0 for id_ in stored.intersection(to_cut, facts))
    scores = sum(_score_bytes(project, facts[id_]) for id_ in to_predict if id_ in facts)
    free = shutil.disk_usage(folder if folder.is_dir() else project.workspace).free
    # The store copies files where links would be unsafe, unless the file system shares blocks.
    times = 2 if os.geteuid() == 0 else 1
    if times * (chips + scores) <= free:
        return
    all_kept = project.chip.keep is None and project.chip.max_nodata >= 1
    parts = [f"{'' if all_kept else 'up to '}{size_text(chips)} of chips"] if chips else []
    remedies = ["cut fewer chips (chip.stride_px, chip.keep), or store none (chip.store = false)"] if chips else []
    if scores:
        parts.append(f"up to {size_text(scores)} of scores")
        remedies.append('leave predict.scores out, or make them "uint8"' if project.predict.scores else "")
    copies = ", up to twice that including the copies in the store," if times > 1 else ""
    text = (
        f"the build writes {' and '.join(parts)}{copies} but the disk of {folder} has only {size_text(free)} left. "
        f"Free space (`rvbuild cache gc`), set RVBUILD_STORE to a directory on a larger disk, or "
        f"{', or '.join(filter(None, remedies))}"
    )
    certain = all_kept and chips > free
    key = ("chip",) if times * chips > free or not scores else ("predict", "scores")
    yield Finding(Level.ERROR if certain else Level.WARNING, "disk", text, key=key)


def _score_bytes(project: Project, facts: Mapping[str, Any]) -> int:
    """Return the uncompressed bytes of the scores of a scene; 0 if none are written."""
    if not project.predict.scores or "image" not in facts:
        return 0
    classes = len(project.classes) - 1
    pixels = int(facts["image"]["height"] * facts["image"]["width"])
    return classes * pixels * (1 if project.predict.scores == "uint8" else _FLOAT_BYTES)


def _cutting(facts: Facts, to_cut: Collection[str], jobs: int, available: int) -> Iterator[Finding]:
    """Report scenes that cannot be cut in parallel because of the memory of the workers."""
    sizes = sorted((_worker_bytes(facts[id_]) for id_ in to_cut if id_ in facts), reverse=True)[:jobs]
    if sum(sizes) <= available:
        return
    text = (
        f"cutting {len(sizes)} scenes in parallel needs about {size_text(sum(sizes))} of memory (blocks of imagery and "
        f"features of labels); {size_text(available)} is available. Run fewer jobs at once, for example with -j "
        f"{max(1, _fitting(sizes, available))}"
    )
    yield Finding(Level.WARNING, "memory", text, key=("scene", "labels"))


def _worker_bytes(facts: Mapping[str, Any]) -> int:
    """Return an estimate of the memory of a worker that cuts a scene."""
    return WORKER_BYTES + int(facts.get("cache", 0)) + VECTOR_TIMES * int(facts.get("vector_bytes", 0))


def _fitting(sizes: list[int], available: int) -> int:
    """Return how many of the largest sizes fit."""
    return next((n for n in range(len(sizes), 0, -1) if sum(sizes[:n]) <= available), 0)


class _Batch(NamedTuple):
    """The bytes of one batch of chips as images, and the overhead of a process that does not depend on the batch size.

    A process computes `at_once` chips of it at the same time: those of a shard.
    """

    table: str
    batch: int
    at_once: int
    images: int
    fixed: int


def _batches(project: Project, facts: Facts, model: Mapping[str, int] | None) -> Iterator[_Batch]:
    bands, px = bands_of(facts), project.chip_px
    optimizer = 1 if project.train.optimizer == "sgd" else 2
    average = 0 if project.train.ema is None else 2  # also of the weights while the average is validated
    waiting = project.train.workers * WORKER_BYTES + 3 * bands * px**2
    train, predict = project.train.batch_size, project.predict.batch_size
    shard = math.ceil(train / project.train.shards)
    for table, batch, at_once, copies, additional in (
        ("train", train, shard, 2 + optimizer + average, waiting),
        ("predict", predict, predict, 1, _merged_bytes(project, facts)),
    ):
        weights = 0 if model is None else model["weights"]
        images = batch * bands * px**2 * _FLOAT_BYTES
        yield _Batch(table, batch, at_once, images, PROCESS_BYTES + copies * weights + additional)


def _computing(
    project: Project, facts: Facts, model: Mapping[str, int] | None, available: int, processes: int
) -> Iterator[Finding]:
    """Report batches that do not fit into memory: the images, with the activations of the model if these are known."""
    bands, px = bands_of(facts), project.chip_px
    for table, batch, at_once, images, fixed in _batches(project, facts, model):
        if table == "train" and project.train.backend is not None:
            continue  # a backend has its own batches, or none
        chips = f"{batch} chips of {px} px and {bands} band{'s' if bands > 1 else ''}"
        if images > available:
            text = (
                f"{chips} need {size_text(images)} of memory; {size_text(available)} is available. Use a smaller batch"
            )
            yield Finding(Level.ERROR, f"{table}.batch_size", text, key=(table, "batch_size"))
        elif model is not None:
            count = processes if table == "train" else 1
            needed = count * (fixed + at_once * model[table]) + images
            if needed > available:
                fits = (available - count * fixed) // max(1, (needed - count * fixed) // batch)
                advice = f"{table}.batch_size = {fits} fits" if fits >= 1 else "Reduce chip.size_px"
                if count > 1:
                    chips += f" in {count} processes"
                    advice = f"Use fewer processes (--procs). {advice}"
                text = (
                    f"{chips} need about {size_text(needed)} of memory, activations of {project.train.model} included; "
                )
                text += f"{size_text(available)} is available. {advice}, or choose a smaller train.model"
                yield Finding(Level.WARNING, f"{table}.batch_size", text, key=(table, "batch_size"))


def _merged_bytes(project: Project, facts: Facts) -> int:
    """Return the bytes of overlapping windows in memory while the widest scene is predicted, as for segmentation."""
    widest = max((scene_facts["image"]["width"] for scene_facts in facts.values() if "image" in scene_facts), default=0)
    overlap = max(0, project.chip_px - (project.predict.stride_px or project.chip_px))
    return len(project.classes) * overlap * widest * _FLOAT_BYTES
