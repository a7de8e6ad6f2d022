"""Review: errors injected into the labels of three data sets, and how many of them the first suspects are.

Nothing is tuned on these errors: what errors look like is learned from labels at hand (`rvbuild.review.finding`).
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import shapely
import shapely.geometry
from numpy.typing import NDArray

from benchmarks.bar import Cost, Figure, cpu
from benchmarks.injected import Injected, Labels, inject, inject_raster, means
from rvbuild.data.samples import make_potsdam
from rvbuild.data.sets import fetch
from rvbuild.review.shapes import area_of
from rvbuild.review.suspect import Suspect, read_suspects

ROOT = Path(__file__).resolve().parent.parent

SEEDS = 5
FIRST = 20
TILE_PX = 600

LIMITS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
"""Scores between which suspects are counted."""

COLORS = np.array(
    [(255, 255, 0), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 255), (255, 0, 0)], dtype=np.uint8
)
"""Of the classes of Potsdam in label rasters."""

AUDITS = {"atlanta_buildings": ROOT / "benchmarks" / "atlanta_audit.json"}
"""Labels that are wrong as they are published, and objects that lack one, by eye: found by looking at all labels and at
the whole image once, without a list of suspects, though two of the places were known from earlier reviews (decision
0081). What is doubtful is not among them."""

ENCODER = '\n[draft]\nencoder = "mobilenet_v2"\nweights = "data/encoders/mobilenet_v2.safetensors"\n'


BUILD = "import rvbuild, sys; rvbuild.open(sys.argv[1]).build('review')"


class Outcome(NamedTuple):
    """What the suspects of one set of errors are worth."""

    errors: int
    first: float
    """The share of the first suspects that are errors, of `FIRST` or as many as there are errors."""
    others: float
    """The same without duplicates."""
    share: float
    """Of all errors, the share among twice as many suspects."""
    by_kind: dict[str, tuple[int, int]]
    """How many errors of each kind these are, and of how many."""
    kinds: float
    """The share of right suspects that have the right kind."""
    scores: list[tuple[float, bool]]
    """The score of each suspect, and whether it is an error."""
    audited: float
    """As `first`, if labels that were wrong before count as well."""
    audited_scores: list[tuple[float, bool]]
    """As `scores`, in the same way."""


def run(folder: Path) -> list[Figure]:
    data = folder / "data"
    for name in ("yellowstone", "atlanta", "encoders"):
        if (ROOT / "data" / name).is_dir():
            shutil.copytree(ROOT / "data" / name, data / name)
        else:
            fetch(name, data)
    make_potsdam(data / "potsdam", size_px=TILE_PX)
    figures: list[Figure] = []
    scores: list[tuple[float, bool]] = []
    for project in PROJECTS:
        before = cpu()
        outcomes = list(outcomes_of(folder, project, range(SEEDS)))
        cost = Cost("review", (cpu() - before) / SEEDS)
        for outcome in outcomes:
            scores += outcome.scores
        figures += _figures(project, outcomes, cost)
    for line in calibration(scores):
        print(f"    {line}", file=sys.stderr)
    return figures


def outcomes_of(folder: Path, project: str, seeds: Sequence[int]) -> Iterator[Outcome]:
    """Yield the outcome of each seed, with the project in a workspace; labels are put back afterwards."""
    path = folder / "projects" / f"{project}.toml"
    path.parent.mkdir(exist_ok=True)
    text = (ROOT / "projects" / path.name).read_text(encoding="utf-8")
    path.write_text(text if "[draft]" in text else text + ENCODER, encoding="utf-8")
    files = sorted(folder.glob(PROJECTS[project]))
    kept = {file: file.read_bytes() for file in files}
    try:
        for seed in seeds:
            for file, content in kept.items():
                file.write_bytes(content)
            audited = {file: _audited(project, file) for file in files}
            errors = {file: _inject(folder, file, seed * len(files) + number) for number, file in enumerate(files)}
            # Not the command, which draws pictures as well.
            subprocess.run([sys.executable, "-c", BUILD, path], cwd=folder, check=True)
            scenes = _scenes(folder, project)
            yield measured(
                read_suspects(folder / "cache" / project / "suspects" / "suspects.json"),
                {scene: _in_scene(errors[file], area, transform) for scene, (file, area, transform) in scenes.items()},
                {scene: _in_scene(audited[file], area, transform) for scene, (file, area, transform) in scenes.items()},
            )
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


PROJECTS = {
    "yellowstone_crowns": "data/yellowstone/*_crowns.geojson",
    "atlanta_buildings": "data/atlanta/geotiff_labels.geojson",
    "potsdam": "data/potsdam/5_Labels_for_participants/*.tif",
}
"""Each with its label files."""

IMAGES = {
    "528_crowns": "2019_YELL_2_528000_4978000_image_crop2.png",
    "541_crowns": "2019_YELL_2_541000_4977000_image_crop.png",
    "geotiff_labels": "sample_geotiff.tif",
}


def _inject(folder: Path, file: Path, seed: int) -> list[Injected]:
    """Put errors into a label file; return them in its coordinates, for rasters in pixels."""
    if file.suffix == ".tif":
        with rasterio.open(file, "r+") as raster:
            ids = _ids(raster.read())
            ids, errors = inject_raster(ids, seed)
            raster.write(np.moveaxis(COLORS[ids], -1, 0))
        return errors
    content = json.loads(file.read_text(encoding="utf-8"))
    areas = [shapely.geometry.shape(feature["geometry"]) for feature in content["features"]]
    with rasterio.open(file.parent / IMAGES[file.stem]) as image:
        corners = [image.transform * corner for corner in ((0, 0), (image.width, image.height))]
    bounds = (*np.min(corners, axis=0).tolist(), *np.max(corners, axis=0).tolist())
    labels, errors = inject(Labels(areas, [0] * len(areas)), bounds, [0], seed)
    content["features"] = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(area)} for area in labels.areas
    ]
    file.write_text(json.dumps(content), encoding="utf-8")
    return errors


def _audited(project: str, file: Path) -> list[Injected]:
    """Return the labels of a file that were wrong before, and the objects without one, in its coordinates."""
    if project not in AUDITS:
        return []
    labels = [shapely.geometry.shape(each["geometry"]) for each in json.loads(file.read_text())["features"]]
    found = []
    for place in json.loads(AUDITS[project].read_text(encoding="utf-8")):
        if place["kind"] == "missing":
            found.append(Injected("missing", None, shapely.box(*place["bounds"])))
        else:
            here = shapely.Point(place["x"], place["y"])
            (label,) = (area for area in labels if area.contains(here))
            found.append(Injected(place["kind"], label, None))
    return found


def _ids(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    ids = np.zeros(rgb.shape[1:], dtype=np.uint8)
    for class_id, color in enumerate(COLORS):
        ids[(rgb == color[:, None, None]).all(axis=0)] = class_id
    return ids


def _scenes(folder: Path, project: str) -> dict[str, tuple[Path, Any, Any]]:
    """Return for each scene its label file, its area in pixels, and what brings the file's coordinates there."""
    found: dict[str, tuple[Path, Any, Any]] = {}
    data = folder / "data"
    if project == "potsdam":
        for file in sorted(folder.glob(PROJECTS[project])):
            found[file.stem.removeprefix("top_potsdam_").removesuffix("_label")] = file, None, None
        return found
    for stem, image_name in IMAGES.items():
        name = "atlanta" if stem == "geotiff_labels" else "yellowstone"
        if not project.startswith(name):
            continue
        with rasterio.open(data / name / image_name) as image:
            inverse = ~image.transform
        for part in ("west", "east"):
            scene = part if name == "atlanta" else f"{stem.split('_')[0]}_{part}"
            area = json.loads((data / name / f"{scene}.geojson").read_text(encoding="utf-8"))["features"][0]["geometry"]
            found[scene] = data / name / f"{stem}.geojson", _placed(shapely.geometry.shape(area), inverse), inverse
    return found


def _placed(area: Any, transform: Any) -> Any:
    return shapely.transform(area, lambda points: np.stack(transform * tuple(points.T), axis=1))


def _in_scene(errors: Sequence[Injected], area: Any, transform: Any) -> list[Injected]:
    """Return the errors, by more than half in an area, in pixels."""
    if transform is None:
        return list(errors)
    found = []
    for error in errors:
        wrong, true = (None if each is None else _placed(each, transform) for each in (error.wrong, error.true))
        place = true if wrong is None else wrong
        if shapely.intersection(place, area).area > 0.5 * place.area:
            found.append(Injected(error.kind, wrong, true))
    return found


def measured(
    suspects: Sequence[Suspect], errors: dict[str, list[Injected]], audited: Mapping[str, list[Injected]]
) -> Outcome:
    """Return what suspects are worth, given the errors of each scene, and those that it had before."""
    count = sum(map(len, errors.values()))
    hits: list[list[tuple[str, int]]] = []
    before: list[bool] = []
    for suspect in suspects[: max(4 * count, 100)]:
        area = area_of(suspect.polygon)
        of_scene = errors.get(suspect.scene, [])
        hits.append(
            [(suspect.scene, number) for number, error in enumerate(of_scene) if means(suspect.kind, area, error)]
        )
        before.append(any(means(suspect.kind, area, error) for error in audited.get(suspect.scene, [])))
    right = [bool(each) for each in hits]
    wrong = [injected or other for injected, other in zip(right, before, strict=True)]
    shown = min(FIRST, count)
    others = [ok for ok, suspect in zip(right, suspects, strict=False) if suspect.kind != "duplicate"]
    among = {hit for each in hits[: 2 * count] for hit in each}
    by_kind: dict[str, tuple[int, int]] = {}
    for scene, of_scene in errors.items():
        for number, error in enumerate(of_scene):
            found, all_ = by_kind.get(error.kind, (0, 0))
            by_kind[error.kind] = found + ((scene, number) in among), all_ + 1
    named = [
        any(errors[scene][number].kind == suspect.kind for scene, number in each)
        for each, suspect in zip(hits[: 2 * count], suspects, strict=False)
        if each
    ]
    return Outcome(
        count,
        float(np.mean(right[:shown])) if right else 0.0,
        float(np.mean(others[:shown])) if others else 0.0,
        len(among) / max(count, 1),
        dict(sorted(by_kind.items())),
        float(np.mean(named)) if named else 0.0,
        [(suspect.score, ok) for suspect, ok in zip(suspects, right, strict=False)],
        float(np.mean(wrong[:shown])) if wrong else 0.0,
        [(suspect.score, ok) for suspect, ok in zip(suspects, wrong, strict=False)],
    )


def calibration(scores: Sequence[tuple[float, bool]]) -> list[str]:
    """Return lines of how many suspects between scores are wrong."""
    lines = []
    for low, high in itertools.pairwise(LIMITS):
        part = [(score, ok) for score, ok in scores if low <= score < high or score == high == 1]
        if part:
            said, was = np.mean(part, axis=0)
            lines.append(f"score {low:.1f} to {high:.1f}: {len(part)} suspects, said {said:.2f}, wrong {was:.2f}")
    return lines


def _figures(project: str, outcomes: Sequence[Outcome], cost: Cost | None = None) -> list[Figure]:
    mean = np.mean([(o.first, o.others, o.share, o.kinds, o.audited) for o in outcomes], axis=0)
    kinds = {kind for outcome in outcomes for kind in outcome.by_kind}
    by_kind = ", ".join(
        f"{kind} {np.mean([o.by_kind[kind][0] / o.by_kind[kind][1] for o in outcomes if kind in o.by_kind]):.2f}"
        for kind in sorted(kinds)
    )
    errors = np.mean([outcome.errors for outcome in outcomes])
    shown = min(FIRST, round(errors))
    note = f"{len(outcomes)} seeds, {errors:.0f} errors each"
    audited = [Figure(f"the same with errors that were there before, {project}", mean[4], 0.8, "", False)]
    return [
        Figure(f"review, {project}: wrong among the first {shown}", mean[0], 0.8, "", False, note, cost),
        Figure(f"the same without duplicates, {project}", mean[1], 0.8, "", False, f"right kind {mean[3]:.2f}"),
        *(audited if project in AUDITS else []),
        Figure(f"errors among twice as many suspects, {project}", mean[2], 0.7, "", False, by_kind),
    ]


def main() -> None:
    """Print outcomes of one project and some seeds, in a workspace that is kept: for work on the method."""
    folder, project, seeds = Path(sys.argv[1]), sys.argv[2], [int(word) for word in sys.argv[3:]]
    scores: list[tuple[float, bool]] = []
    outcomes = []
    for outcome in outcomes_of(folder, project, seeds):
        scores += outcome.scores
        outcomes.append(outcome)
        print(outcome._replace(scores=[], audited_scores=[]), flush=True)
    for figure in _figures(project, outcomes):
        print(f"{figure.title}: {figure.measured:.3f}  {figure.note}")
    print(*calibration(scores), sep="\n")
    if project in AUDITS:
        print(*calibration([each for outcome in outcomes for each in outcome.audited_scores]), sep="\n")


if __name__ == "__main__":
    main()
