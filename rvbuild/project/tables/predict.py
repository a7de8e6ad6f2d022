"""The `[predict]` table: how scenes are predicted, and the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from rvbuild.errors import either
from rvbuild.files.formats import ABOUT, FORMATS, SUFFIXES, VectorFormat
from rvbuild.project.tables.device import Device
from rvbuild.project.tasks import keys_of_tasks
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Context, Finding, Fraction, Pixels, Table, expected, no_effect, wrong
from rvbuild.settings.predict import (
    BlendSettings,
    FileSettings,
    ForwardSettings,
    PredictSettings,
    RasterFileSettings,
    ScoreType,
    TestTime,
    VectorKind,
    VectorSettings,
)

_RESERVED_STEMS = ("labels", "scores", "rgb", "cells")


def _scores(value: object) -> object:
    """Reject numbers, which Python would take for booleans."""
    return value if isinstance(value, str | bool) and value is not True else expected('false, "float32" or "uint8"')


def _mosaic(value: object) -> object:
    """Reject numbers, as above."""
    return value if isinstance(value, str | bool) else expected('false, true or "cog"')


def _file(value: str) -> str:
    """Reject anything but the plain name of a vector file."""
    stem, dot, ending = value.rpartition(".")
    if not dot or ending not in FORMATS or not stem.strip(". ") or set(value) & set('/\\:*?"<>|'):
        expected(f"the name of a file, without directories, that ends in {either(SUFFIXES.values())}")
    if stem.casefold() in _RESERVED_STEMS:
        wrong(f"{show(value)} would share its style with a raster: {', '.join(_RESERVED_STEMS)} are taken")
    return value


class VectorOutputTable(Table):
    """Vectors of one class."""

    omitted_defaults = ("kind", "file")

    class_: str = Field(alias="class", description="Class to write as vectors.")
    kind: VectorKind = Field(
        "polygons",
        description="polygons; buildings (adjoining ones separated, with right angles); points (one in each polygon).",
    )
    format: VectorFormat = Field("geojson", description=f"{ABOUT}.")
    file: Annotated[str, AfterValidator(_file)] | None = Field(
        None, description="Name of the file; its suffix sets the format. Default: the class and the format."
    )
    min_area_units: float = Field(0.0, ge=0, description="Polygons below this area are left out, in squared CRS units.")
    simplify_px: float = Field(
        0.0, ge=0, description="Tolerance of the simplification of borders, in pixels; neighbours keep a common border."
    )
    denoise_px: int = Field(0, ge=0, description="Patches with fewer pixels are merged into their surroundings first.")
    split: float = Field(
        0.3, ge=0, le=1, description="Buildings joined by less than this share of the patch's width are separated."
    )
    side_px: float = Field(4.0, gt=0, description="Shortest side of a building's outline, in pixels.")

    @property
    def output(self) -> str:
        """The name of the file, except that characters that file names cannot contain are not replaced yet."""
        return self.file or f"{self.class_}.{self.format}"

    def check(self, context: Context) -> Iterator[Finding]:
        """Find keys that contradict each other or have no effect."""
        if self.file is not None and self.is_set("format") and not self.file.endswith(f".{self.format}"):
            yield Finding(
                ("format",), f"{show(self.format)} contradicts file = {show(self.file)}; remove one", (("file",),)
            )
        if self.kind != "buildings":
            for key in ("split", "side_px"):
                if self.is_set(key):
                    yield no_effect(key, f'with kind = {show(self.kind)}; it applies to kind = "buildings"', "kind")
        elif self.is_set("simplify_px"):
            yield no_effect("simplify_px", 'with kind = "buildings"; their outlines have sides of side_px', "kind")

    def stage_settings(self) -> VectorSettings:
        """Return the settings that have an effect."""
        settings = self.settings_as(VectorSettings)
        if self.file is not None:
            del settings["format"]
        if self.kind != "buildings":
            del settings["split"], settings["side_px"]
        return settings


class PredictTable(Table):
    """How scenes are predicted and written. labels.tif is always written."""

    not_settings = ("mosaic", "engine", "strip_px", *keys_of_tasks("predict"))  # a task adds its own
    omitted_defaults = ("tta",)

    stride_px: Pixels | None = Field(
        None,
        description="Distance between windows, in pixels; windows overlap if it is less than chip.size_px. Default: "
        "chip.size_px; for object_detection half of it, so that most objects are seen whole.",
    )
    batch_size: int = Field(8, ge=1, description="Windows that are predicted together.")
    blend: Literal["none", "mean", "cosine"] = Field(
        "mean",
        description="How overlapping windows are merged: none (each pixel from the window whose centre is nearest), "
        "mean, or cosine (weighted towards the centres).",
    )
    engine: Literal["torch", "onnxruntime", "openvino", "auto"] = Field(
        "torch",
        description="What computes the network: torch; onnxruntime or openvino, which are faster on most CPUs and need "
        "`pip install 'rvbuild[onnx]'` or `'rvbuild[openvino]'`; auto, which is openvino for built-in models unless "
        "`device` names a GPU, and torch otherwise. See docs/engines.md.",
    )
    tta: TestTime | None = Field(
        None,
        description="Test-time augmentation: windows are also predicted mirrored (flips, 4 times the work), or "
        "mirrored and turned (d4, 8 times). Scores are averaged; boxes are joined by weighted boxes fusion. Default: "
        "neither.",
    )
    scores: Annotated[ScoreType, BeforeValidator(_scores)] = Field(
        False, description="Whether and how to write the score of every class to scores.tif."
    )
    rgb: bool = Field(False, description="Whether to write the classes in their colours to rgb.tif.")
    vectors: Annotated[tuple[VectorOutputTable, ...], Strict(False)] = Field(
        (),
        description="Vectors to write, each of one class, to "
        f"{either(f'CLASS{suffix}' for suffix in SUFFIXES.values())}.",
    )
    mosaic: Annotated[Literal[False, True, "cog"], BeforeValidator(_mosaic)] = Field(
        False,
        description="Whether to join the classes of all predicted scenes: true writes labels.vrt, "
        '"cog" also writes labels.tif.',
    )
    cells: VectorFormat | None = Field(
        None, description="For chip_classification: the format of the predicted cells. Default: geojson."
    )
    boxes: VectorFormat | None = Field(
        None, description="For object_detection: the format of the predicted boxes. Default: geojson."
    )
    score_thresh: Fraction = Field(
        0.5,
        description="For object_detection: boxes with a lower score are left out. Changing it does not run the model.",
    )
    merge_thresh: Fraction = Field(
        0.5,
        description="For object_detection: of boxes of a class that overlap by more than this intersection over union, "
        "the one with the highest score is kept. Changing it does not run the model.",
    )
    strip_px: Pixels | None = Field(
        None,
        description="Scenes of more pixels are predicted, and for semantic_segmentation their files derived, in "
        "strips of rows of about so many pixels, each stored as it is finished and computed wherever there is room; "
        "the result is the same, to the byte. See docs/huge_scenes.md. Default: scenes are predicted at once.",
    )
    device: Device = Field(
        "auto",
        description="Where to predict: cpu, cuda (any free GPU), one GPU such as cuda:1; auto takes a GPU if there is "
        "one.",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """Find gaps between windows, unknown classes and outputs that overwrite each other."""
        if self.stride_px is not None and context.chip_px is not None and self.stride_px > context.chip_px:
            yield Finding(
                ("stride_px",),
                f"{self.stride_px} is more than chip.size_px = {context.chip_px}, which would leave gaps between "
                "windows",
            )
        if context.backend and self.is_set("device"):
            yield no_effect("device", "with train.backend, which chooses its device itself")
        if context.backend and self.is_set("engine"):
            yield no_effect("engine", "with train.backend, which computes the model itself")
        if self.engine == "openvino" and self.device.startswith("cuda"):
            yield Finding(
                ("engine",),
                f'"openvino" computes on the CPU, but device is {show(self.device)}; use engine = "torch" or '
                '"onnxruntime", or remove the device',
                (("device",),),
            )
        for number, vector in enumerate(self.vectors):
            problem = context.class_problem(vector.class_, null=False)
            if problem:
                yield Finding(("vectors", number, "class"), problem)
            yield from self._clashes(number, vector)

    def _clashes(self, number: int, vector: VectorOutputTable) -> Iterator[Finding]:
        """Find the first earlier output that this one would overwrite, or whose style it would overwrite."""
        for first, earlier in enumerate(self.vectors[:number]):
            if earlier.output.casefold() == vector.output.casefold():
                yield Finding(("vectors", number), f"writes the same file as vectors[{first}]: {show(vector.output)}")
                return
            stems = [table.output.rpartition(".")[0].casefold() for table in (vector, earlier)]
            styles = [(table.class_, table.kind == "points") for table in (vector, earlier)]
            if stems[0] == stems[1] and styles[0] != styles[1]:
                yield Finding(
                    ("vectors", number),
                    f"{show(vector.output)} would share its style with {show(earlier.output)} of vectors[{first}]; "
                    "give it another `file`",
                )
                return

    def stage_settings(self) -> PredictSettings:
        """Return all settings of a scene, as in a bundle, without those that belong to a task."""
        settings = self.settings_as(PredictSettings)
        settings["vectors"] = [vector.stage_settings() for vector in self.vectors]
        return settings

    def infer_settings(self) -> ForwardSettings:
        """Return the settings that the raw result depends on."""
        settings = self.stage_settings()
        blend: BlendSettings = {
            "stride_px": settings["stride_px"],
            "blend": settings["blend"],
            "scores": settings["scores"],
            **self.forward_settings(),
        }
        return blend

    def forward_settings(self) -> ForwardSettings:
        """Return the settings of every task's raw result."""
        of_stage = PredictTable.stage_settings(self)
        settings: ForwardSettings = {"batch_size": of_stage["batch_size"], "device": of_stage["device"]}
        if self.tta is not None:
            settings["tta"] = self.tta
        return settings

    def writes_scores(self) -> bool:
        """Tell whether the raw result has scores, which are called as the classes."""
        return bool(self.scores)

    def derive_settings(self) -> FileSettings:
        """Return the settings that the derived files depend on; scores have a style."""
        settings = self.stage_settings()
        files: RasterFileSettings = {
            "scores": settings["scores"],
            "rgb": settings["rgb"],
            "vectors": settings["vectors"],
        }
        return files
