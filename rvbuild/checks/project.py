"""Checks across the scenes of a project: contradictions between scenes, and parts that all of them lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Any

from rvbuild.checks import imagery, mosaic, tags
from rvbuild.checks.box_files import used_twice
from rvbuild.checks.findings import Finding, Level
from rvbuild.errors import classes_that, counted
from rvbuild.project.model import Project, Scene
from rvbuild.project.toml.keys import Key

SAME_RES = 1.1
"""Pixel sizes that differ by at most this factor count as equal."""

NOT_READ = "not read"
"""The kind of finding for labels that are too large to be read before work."""

SAMPLED = "sampled values"
"""The kind of finding for sampled pixels of labels with values without a class."""

_MOST_NAMED = 5
"""Largest number of overlapping scenes in a message."""

_FEW = 3
"""Up to this many classes without a label, each is reported on its own line."""

Facts = Mapping[str, Any]


def findings(
    project: Project, facts: Mapping[str, Facts], shared: Iterable[Mapping[str, Any]] = ()
) -> Iterator[Finding]:
    """Yield all problems and warnings about the scenes of a project.

    Parameters
    ----------
    project
        The project.
    facts
        Scene id → result of `rvbuild.checks.scene.check_scene`; missing scenes are skipped.
    shared
        Overlaps of scenes in different splits; see `rvbuild.checks.ground.shared`.
    """
    scenes = [scene for scene in project.scenes if scene.id in facts]
    for scene in scenes:
        for level, part, kind, text, key in facts[scene.id]["problems"]:
            yield Finding(Level(level), kind, text, scene.id, part, tuple(key))
    images = {scene.id: facts[scene.id]["image"] for scene in scenes if "image" in facts[scene.id]}
    yield from _different_images(images)
    yield from _different_places(images)
    yield from tags.findings(project, images)
    yield from _same_ground(project, shared)
    yield from used_twice(scenes, facts)
    yield from _nothing_to_train_on(project, scenes, facts)
    yield from _never_labelled(project, scenes, facts)
    yield from _without_effect(project, scenes, images)
    yield from mosaic.findings(project, facts)
    yield from imagery.findings(project, scenes, images)


def with_surveys(
    facts: Mapping[str, Facts], surveys: Mapping[str, Facts], labels: Mapping[str, str]
) -> dict[str, Facts]:
    """Return facts, supplemented by surveys of all pixels.

    Parameters
    ----------
    facts
        As for `findings`.
    surveys
        Scene id → result of the data stage.
    labels
        Scene id → the path of its labels, for messages.
    """
    supplemented: dict[str, Facts] = {}
    for id_, scene_facts in facts.items():
        survey = surveys.get(id_)
        if survey is None:
            supplemented[id_] = scene_facts
            continue
        problems = [problem for problem in scene_facts["problems"] if problem[2] not in (NOT_READ, SAMPLED)]
        if not survey["valid"]:
            text = "no pixel has data; check the nodata value, masks and alpha of the image, and the area of interest"
            problems.append([Level.ERROR.value, "image", "no data", text, []])
        if survey.get("unknown"):
            values = ", ".join(f"{value} ({count:,} pixels)" for value, count in survey["unknown"].items())
            colours = all(value.startswith("#") for value in survey["unknown"])
            text = f"{labels[id_]}: {'colours' if colours else 'values'} without a class: {values}. In `labels`, "
            text += (
                "assign them a class with `other`"
                if colours
                else "assign a class with `map` or `other`, or set `nodata`"
            )
            problems.append([Level.ERROR.value, "labels", "unknown values", text, []])
        counted = "counts" in survey and not survey["unknown"]
        supplemented[id_] = {
            **scene_facts,
            "problems": problems,
            **({"labels": {"features": survey["counts"]}} if counted else {}),
        }
    return supplemented


def _different_images(images: Mapping[str, Facts]) -> Iterator[Finding]:
    """Report scenes whose number of bands or dtype differs from most: a model needs images of one kind."""
    for key, remedy in (
        ("bands", "Choose the same bands in all scenes with `channels`"),
        ("dtype", "Convert the image, or cast it with `transform`"),
    ):
        common = Counter(image[key] for image in images.values()).most_common(1)
        for id_, image in images.items():
            if image[key] != common[0][0]:
                usual = next(i for i, usual_image in images.items() if usual_image[key] == common[0][0])
                actual, expected = (
                    counted(value, "band") if key == "bands" else f"pixels of type {value}"
                    for value in (image[key], common[0][0])
                )
                text = f"has {actual}, but scene {usual} has {expected}; all images of a model must be alike. {remedy}"
                at = ("scene", "channels") if key == "bands" else ("scene", "image")
                yield Finding(Level.ERROR, f"different {key}", text, id_, "image", at)


def _different_places(images: Mapping[str, Facts]) -> Iterator[Finding]:
    """Report scenes without a CRS among some with one, several CRSs, and pixels of different size."""
    by_crs: dict[str | None, list[str]] = {}
    for id_, image in images.items():
        by_crs.setdefault(image["crs"], []).append(id_)
    known_crs = [crs for crs in by_crs if crs is not None]
    if known_crs and None in by_crs:
        for id_ in by_crs[None]:
            text = (
                f"the image has no CRS, but scene {by_crs[known_crs[0]][0]} is in {known_crs[0]}. Give it its CRS, for "
            )
            yield Finding(Level.WARNING, "no CRS", text + "example with `gdal_edit.py -a_srs`", id_, "image")
    if len(known_crs) > 1:
        listed = "; ".join(
            f"{crs}: {', '.join(by_crs[crs][:3])}{', …' if len(by_crs[crs]) > 3 else ''}" for crs in known_crs
        )
        text = f"the scenes are in {len(known_crs)} CRSs ({listed}). That is fine if each is correct; predictions "
        text += "keep them"
        yield Finding(Level.WARNING, "several CRSs", text, key=("scene", "image"))
    sizes = {id_: image["res_m"] for id_, image in images.items() if image["res_m"]}
    common = median(sizes.values()) if sizes else 0.0
    for id_, size in sizes.items():
        if not common / SAME_RES <= size <= common * SAME_RES:
            text = f"a pixel is {size:.3g} m wide, in most scenes {common:.3g} m: objects appear at another scale than "
            yield Finding(Level.WARNING, "different pixel size", text + "in training", id_, "image")


def _same_ground(project: Project, shared: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Report scenes that overlap with scenes of an earlier split."""
    scenes = {scene.id: scene for scene in project.scenes}
    for overlap in shared:
        scene, others = scenes[overlap["scene"]], overlap["others"]
        share = overlap["share"]
        much = "all" if share > 0.995 else f"{share:.0%}" if share >= 0.01 else "less than 1%"
        listed = f"scene{'s' if len(others) > 1 else ''} {', '.join(others[:_MOST_NAMED])}"
        listed += ", …" if len(others) > _MOST_NAMED else ""
        same_image = next((i for i in others if scenes[i].image.files == scene.image.files), None)
        file = "" if same_image is None else f" (it has the same image as {same_image}: {scene.image.files[0]})"
        text = (
            f"{much} of the area of this {scene.split} scene is also in {overlap['split']} {listed}{file}, so its "
            "scores say little about areas that the model has not seen. Give each scene its own `aoi`, put all of "
            'them into one split, or let rvbuild split them by blocks: validation = { fraction = 0.2, by = "block" }'
        )
        yield Finding(Level.WARNING, f"ground of {overlap['split']} in {scene.split}", text, scene.id)


def _nothing_to_train_on(project: Project, scenes: list[Scene], facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """Report a training without chips or without labels on its images, and a validation without chips."""
    train = [facts[scene.id] for scene in scenes if scene.split == "train"]
    if train and all(scene_facts.get("chips") == 0 for scene_facts in train):
        text = "no training scene yields a chip; check chip.size_px, chip.within_aoi and the areas of interest"
        yield Finding(Level.ERROR, "no chips at all", text, key=("chip", "size_px"))
    elif train and all("labels" in scene_facts and not sum(scene_facts["labels"]["features"]) for scene_facts in train):
        text = "no training scene has a label on its image, so there is nothing to learn; check scene.labels"
        yield Finding(Level.ERROR, "no labels at all", text, key=("scene", "labels"))
    validation = [facts[scene.id] for scene in scenes if scene.split == "validation"]
    scored = project.train.validation and project.train.backend is None
    if validation and scored and all(scene_facts.get("chips") == 0 for scene_facts in validation):
        for key in ("select", "patience"):
            if project.train.stage_settings()[key] not in (None, 0, "last"):
                text = (
                    "needs validation chips, but no validation scene yields one; check the areas of interest and [chip]"
                )
                yield Finding(Level.ERROR, "no chips to validate", text, key=("train", key))


def _never_labelled(project: Project, scenes: list[Scene], facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """Report classes without a label in a split. Large label rasters are only sampled, and are not considered."""
    for split in ("train", "validation", *(["test"] if "test" in project.eval.splits else [])):
        of_split = [scene for scene in scenes if scene.split == split and scene.labels]
        counts = [facts[scene.id]["labels"]["features"] for scene in of_split if "labels" in facts[scene.id]]
        if not counts or len(counts) < len(of_split) or not any(map(sum, counts)):
            continue
        backgrounds = {scene.labels.stage_settings().get("background") for scene in of_split if scene.labels}
        never = [
            item.name
            for item, *scene_counts in zip(project.classes, *counts, strict=True)
            if item.id != project.null_id and not any(scene_counts) and item.name not in backgrounds
        ]
        consequence = "not learnt" if split == "train" else "not evaluated"
        for names in [[name] for name in never] if len(never) <= _FEW else [never]:
            text = f"no {split} scene has a label of {classes_that(names, f'is {consequence}', f'are {consequence}')}"
            key = ("classes", *(names if len(names) == 1 else ()))
            yield Finding(Level.WARNING, f"never labelled in {split}", text, key=key)


def _without_effect(project: Project, scenes: list[Scene], images: Mapping[str, Facts]) -> Iterator[Finding]:
    """Report options without effect on these scenes."""
    if project.chip.is_set("within_aoi") and not any(scene.aoi for scene in scenes if scene.split != "test"):
        yield _no_effect(("chip", "within_aoi"), "no training or validation scene has an area of interest")
    dtypes = {image["dtype"] for image in images.values()}
    if dtypes == {"uint8"} and not any(scene.image.normalize() for scene in scenes):
        if project.train.is_set("max_stds"):
            yield _no_effect(("train", "max_stds"), "8-bit imagery is not normalised by statistics")
        if project.file.analyze.is_set("sample"):
            yield _no_effect(("analyze", "sample"), "8-bit imagery is not normalised by statistics", " on the model")


def _no_effect(key: Key, why: str, on: str = "") -> Finding:
    return Finding(Level.WARNING, "no effect", f"has no effect{on}: {why}. Remove it", key=key)
