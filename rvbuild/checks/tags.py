"""Metadata of the imagery about its values: what is not applied, and differences between scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rvbuild.checks.findings import Finding, Level
from rvbuild.project.model import Project, Scene

Images = Mapping[str, Mapping[str, Any]]
"""Scene id → description of its image by `rvbuild.geo.raster.open.describe`, with its `tags`."""

_IMAGE = ("scene", "image")


def findings(project: Project, images: Images) -> Iterator[Finding]:
    """Yield findings about metadata that may change the meaning of values.

    Settings of the project (`alpha`, `palette`, `scale`) settle the question.
    """
    scenes = {scene.id: scene for scene in project.scenes}
    for id_, image in images.items():
        for kind, text in _of_scene(scenes[id_], image["tags"]):
            yield Finding(Level.WARNING, kind, text, id_, "image", _IMAGE)
    for kind, value_of, key in (
        ("alpha differs", _alpha, "alpha"),
        ("different colours", _colors, "colours"),
        ("different scales", _scaling, "scale"),
        ("different units", _units, "units"),
        ("different bits", _bits, "bits"),
    ):
        undecided = {id_: image for id_, image in images.items() if not _decides(scenes[id_], key)}
        yield from _different(kind, value_of, undecided)


def notes(images: Images) -> list[str]:
    """Return notes (not warnings) about how images are read, a line each."""
    lines = []
    masks = [image["tags"]["alpha"]["band"] for image in images.values() if _alpha(image["tags"]) == "a mask"]
    if masks:
        lines.append(f"band {masks[0]} (alpha) is the mask of valid pixels, not an image band, in {_many(masks)}")
    scaled = [image["tags"]["scaling"] for image in images.values() if "scaling" in image["tags"]]
    if scaled:
        lines.append(
            f"the tags of {_many(scaled)} declare a scale and an offset ({_formula(scaled[0][0])}), which are not "
            "applied; `scale = true` in `image` applies them"
        )
    return lines


def _of_scene(scene: Scene, tags: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the warnings about one image."""
    name = scene.image.files[0]
    if _alpha(tags) == "a band" and not _decides(scene, "alpha"):
        yield (
            "alpha",
            f"{name}: band {tags['alpha']['band']} is tagged as alpha, but its values do not look like a mask, so it "
            "is read as an image band. If that is right, set `alpha = false` in `image`; if it marks the valid pixels, "
            "set `alpha = true`",
        )
    if tags.get("palette") and not _decides(scene, "palette"):
        yield (
            "palette",
            f"{name}: has a colour table: its values are indices, not grey values. Set `palette = true` in `image` to "
            "read the colours, or `palette = false` to read the indices",
        )
    if tags.get("inverted"):
        yield "inverted", f"{name}: by its tags the lowest values are the brightest; values are read as stored"
    if tags.get("signed"):
        yield "signed", f"{name}: its bytes are tagged as signed, but are read as 0 to 255; convert the file to Int8"


def _decides(scene: Scene, key: str) -> bool:
    """Tell whether a scene sets the key that decides the meaning of its tags."""
    return getattr(scene.image.table, key, None) is not None


def _different(kind: str, value_of: Callable[[Mapping[str, Any]], str], images: Images) -> Iterator[Finding]:
    """Report images whose value, if known, differs from that of most images."""
    values = {id_: value for id_, image in images.items() if (value := value_of(image["tags"]))}
    if len(set(values.values())) < 2:
        return
    common = Counter(values.values()).most_common(1)[0][0]
    usual = next(id_ for id_, value in values.items() if value == common)
    for id_, value in values.items():
        if value != common:
            text = _TEXTS[kind].format(value, f"scene {usual}", common)
            yield Finding(Level.WARNING, kind, text, id_, "image", _IMAGE)


_TEXTS = {
    "alpha differs": "the alpha band is read as {}, but in {} as {}. Set `alpha` in `image`, so that all scenes "
    "have the same bands",
    "different colours": "the bands are {}, but in {} they are {}. Put them into the same order with `channels`",
    "different scales": "the tags declare the scale {}, but in {} the scale {}, so equal values do not mean the same. "
    "Set `scale = true` in `image` to apply the scales, or `scale = false` to ignore them",
    "different units": "the tags declare the unit {}, but in {} the unit {}. Convert the images, or convert their "
    "values with `transform`",
    "different bits": "by their tags the values have {}, but in {} they have {}. Convert them with `transform`",
}


def _alpha(tags: Mapping[str, Any]) -> str:
    return "" if "alpha" not in tags else "a mask" if tags["alpha"]["mask"] else "a band"


def _colors(tags: Mapping[str, Any]) -> str:
    return ", ".join(tags.get("colors", ()))


def _scaling(tags: Mapping[str, Any]) -> str:
    return ", ".join(map(_formula, tags.get("scaling", [[1.0, 0.0]])))


def _units(tags: Mapping[str, Any]) -> str:
    return ", ".join(tags.get("units", ()))


def _bits(tags: Mapping[str, Any]) -> str:
    return f"{tags['bits']} bits" if "bits" in tags else ""


def _formula(pair: tuple[float, float]) -> str:
    scale, offset = pair
    return f"value × {scale:g} {'-' if offset < 0 else '+'} {abs(offset):g}"


def _many(values: list[Any]) -> str:
    return "1 scene" if len(values) == 1 else f"{len(values)} scenes"
