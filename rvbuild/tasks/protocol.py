"""The interface of a computer-vision task: everything that stages need, so that no stage depends on a specific task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from rvbuild.learn.hooks import PartObjective, Target, Targets
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Progress
from rvbuild.settings.chip import ChipSettings
from rvbuild.settings.classes import ClassSettings
from rvbuild.settings.evaluation import EvalSettings
from rvbuild.settings.labels import LabelSettings
from rvbuild.settings.predict import PredictSettings
from rvbuild.settings.train import LossSettings
from rvbuild.tasks.augmentable import Augmentable
from rvbuild.tasks.evaluation import Counts, Evaluation
from rvbuild.tasks.merger import Merger
from rvbuild.tasks.orientations import Oriented
from rvbuild.tasks.portable import Exported, Portable
from rvbuild.tasks.settings import DeriveSettings, InferSettings
from rvbuild.tasks.strips import RasterStrips, Strips

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rvbuild.geo.area.aoi import Aoi
    from rvbuild.geo.classes import NamedClasses
    from rvbuild.geo.grid import Grid
    from rvbuild.geo.windows import Window
    from rvbuild.tasks.metrics.places import WorstPlaces
    from rvbuild.tasks.metrics.score_histogram import ScoreHistogram

ClassList = Sequence[ClassSettings]
"""`[{"id": 0, "name": "car", "color": "#ffff00"}, ...]`: every class, null included, in id order."""


Span = tuple[int, int]
"""The first and the last place that a window may start at, along one axis."""

Draw = Callable[..., float]
"""Returns a number in [0, 1) that follows from its arguments, whole numbers and texts, and from a seed."""


Panels = Callable[[np.ndarray, "Window"], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Returns pictures of labels, predictions and errors, drawn on one of the image in a window, (H, W, 3) uint8 each."""


class Labels(Protocol):
    """The labels of a scene, open for reading; its further methods are private to the task."""

    notes: Sequence[str]
    """Repairs and omissions when they were read, a line each, for users."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class PixelLabels(Protocol):
    """The labels of a scene as a class for each pixel, for drafts."""

    notes: Sequence[str]
    """Repairs and omissions when they were read, a line each, for users."""

    def read(self, window: Window) -> np.ndarray:
        """Return the class ids of a window, (H, W) uint8; null without a label, or where there is no object."""

    def digest(self, window: Window) -> str | None:
        """Return a digest of the labels of a window: equal ones, equal class ids; None if they have to be read."""

    def close(self) -> None:
        """Close all files."""


class Aim(Protocol):
    """Chooses the windows to cut from the content of the labels."""

    def choose(self, windows: Sequence[Window]) -> list[Window]:
        """Return the windows of the grid that may become chips, in their order."""

    def spans(self, number: int, attempt: int, shape: tuple[int, int]) -> tuple[Span, Span] | None:
        """Return the rows and columns that random window `number`, of `shape`, may start at; None: any."""

    def accepts(self, number: int, window: Window) -> bool:
        """Tell whether random window `number` may be this one; otherwise another place is drawn."""


class Task(Augmentable, Protocol):
    """A task. `rvbuild.tasks.get` returns a module with these functions."""

    COUNTED: str
    """The unit of counts of labels: pixels, boxes or cells."""

    PREDICT_SETTINGS: type[PredictSettings]
    """The type of the `predict` settings in a bundle: what every task has, and what this one adds."""

    RAW: Sequence[str]
    """The files of the merger that `derive` reads; one of them describes the scene's grid, for `scene_grid`. Others of
    the merger, such as scores, are results themselves. Its `TaskSpec` declares them."""

    STRIPS: Strips
    RASTER_STRIPS: RasterStrips | None
    """How scenes are predicted in strips; and how files are derived and counts made in strips, if they are."""
    PORTABLE: Portable
    """What the task makes of the output of an exported network."""

    def labels(
        self,
        files: Sequence[Path],
        settings: LabelSettings,
        grid: Grid,
        classes: NamedClasses,
        null_id: int,
    ) -> Labels:
        """Open a scene's labels (a context manager), given their files and their settings, on the image's grid."""

    def pixel_labels(
        self,
        files: Sequence[Path],
        settings: LabelSettings,
        grid: Grid,
        classes: NamedClasses,
        null_id: int,
    ) -> PixelLabels:
        """Open a scene's labels as a class for each pixel; the parameters are those of `labels`."""

    def chip_windows(
        self,
        files: Sequence[Path],
        settings: LabelSettings,
        grid: Grid,
        classes: NamedClasses,
        chip: ChipSettings,
    ) -> list[Window] | None:
        """Return the windows that may become chips if the labels determine them, of any size; None: the sliding grid.

        Only called for sliding windows. The parameters are those of `labels`, and the chip settings.
        """

    def aim(self, source: Any, chip: ChipSettings, draw: Draw) -> Aim | None:
        """Return a chooser of windows by the content of the labels, or None if the chip settings do not need one.

        `source` is the result of `labels`; `draw` has the seed of the artifact.
        """

    def target(self, source: Any, window: Window, chip: ChipSettings) -> Target | None:
        """Return the target of the chip at `window`; None if there is nothing to learn from it, so it is not a chip.

        `source` is the result of `labels`, `chip` the chip settings.
        """

    def label_digest(self, source: Any, window: Window) -> str | None:
        """Return a digest of all that labels say in and around `window`; None if they cannot tell without being read.

        Where it is equal for two states of the labels, `target` is, for every window that lies in `window`.
        """

    def mask(self, target: Target, keep: np.ndarray, null_id: int) -> Target:
        """Return a target without everything outside `keep`, `(H, W)` bool."""

    def resize(self, target: Target, shape: tuple[int, int], size_px: int) -> Target:
        """Return a target for its chip, of `shape` (H, W), resampled to `size_px` square."""

    def draw(self, target: Target, picture: np.ndarray, classes: ClassList) -> np.ndarray:
        """Return a picture of a target, uint8 in the colours of the classes.

        `picture`, (H, W, 3) uint8, is that of the chip's image, at the size of the chip that the target is for.
        """

    def class_counts(self, target: Target, n_classes: int) -> np.ndarray:
        """Return `(n_classes,)` int64: how often each class id occurs in a chip's target (pixels, boxes or chips)."""

    def pack(self, targets: Sequence[Target]) -> dict[str, np.ndarray]:
        """Return the tensors of a labels shard with `targets` in order."""

    def unpack(self, shard: Mapping[str, np.ndarray], index: int) -> Target:
        """Return the target of chip `index` from a labels shard's tensors: the inverse of `pack`."""

    def collate(self, targets: Sequence[Target]) -> Targets:
        """Return the targets of a batch as tensors."""

    def objective(
        self, train: LossSettings, outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray
    ) -> PartObjective:
        """Return the objective of a training.

        Parameters
        ----------
        train
            The train settings.
        outputs, output_ids
            Name and class id of each model output.
        class_counts
            `(n_classes,)` int64, over all training chips.
        """

    def placing(self, settings: InferSettings) -> tuple[int, int]:
        """Return the size and the stride of the windows to predict, in pixels: they lie at multiples of the stride."""

    def windows(self, grid: Grid, aoi: Aoi | None, settings: InferSettings) -> list[Window]:
        """Return the windows of a scene to predict, in row-major order, by the infer stage's settings.

        Those of another size than `chip_px` are resampled to it for the model, as chips are.
        """

    def forward(self, model: nn.Module, images: torch.Tensor) -> Any:
        """Predict one batch.

        Parameters
        ----------
        model
            In eval mode.
        images
            `(N, C, H, W)` float32 on the model's device, from `rvbuild.learn.normalize.Normalizer`.

        Returns
        -------
        Any
            Something that has one element per image; for segmentation `(N, K, H, W)` float32 numpy: the softmax
            probabilities of the outputs, at the size of the images.
        """

    def exported(self, model: nn.Module, info: ModelInfo) -> Exported:
        """Return a network that can be exported: what `forward` computes, as one tensor that `PORTABLE` reads.

        Raises
        ------
        ModelError
            The model cannot be exported.
        """

    def averaged(self, predictions: Oriented, side_px: int) -> Any:
        """Return one prediction of a batch from those of its images in several orientations.

        Parameters
        ----------
        predictions
            What `forward` returned, with the orientation that the images had: one after another, so that only one needs
            to be in memory.
        side_px
            The side of the images.
        """

    def reduction(self, settings: InferSettings) -> Callable[[Any], Any] | None:
        """Return what keeps of a prediction all that the merger needs by the infer stage's settings; None: all of it.

        It is called where predictions are made, before they are copied, and its result lies in memory of its own.
        """

    def merger(self, grid: Grid, outputs: Path, settings: InferSettings) -> Merger:
        """Return a merger that writes the raw result of a scene into `outputs`, by the infer stage's settings.

        A setting that `derive` can take into account is none of these: see `rvbuild.settings.predict`.
        """

    def derive(self, raw: Mapping[str, Path], settings: DeriveSettings, outputs: Path, progress: Progress) -> None:
        """Write the files derived from the raw result of a scene to `outputs`: at least one file.

        Results depend only on the raw files and the settings. This neither runs the network nor imports torch.

        Parameters
        ----------
        raw
            The files of `RAW`, by name. They tell the grid of the scene.
        settings
            Those of the predict stage.
        outputs
            An existing directory. Files of the merger are shown beside these: names must differ.
        progress
            Receives progress, in files or other units.
        """

    def join(
        self, parts: Sequence[Mapping[str, Path]], settings: DeriveSettings, outputs: Path, progress: Progress
    ) -> None:
        """Write raw results of a scene, `parts` of it by file, as one; a place of two parts is a DataError."""

    def arrays(self, raw: Mapping[str, Path], settings: DeriveSettings) -> dict[str, np.ndarray]:
        """Return the prediction for a scene, as arrays by name.

        Parameters
        ----------
        raw
            The files of `RAW`, by name; other files of the merger lie beside them.
        settings
            As for `derive`.

        Returns
        -------
        dict
            `class_ids` and, unless the settings ask for none, `scores`; for detection also `boxes`, for cells
            `cell_px`.
        """

    def scene_grid(self, predictions: Path) -> Grid:
        """Return the pixel grid of the scene that predictions were made for, from the file that `score` reads.

        Which file that is, of infer or of predict, says `TaskSpec.predictions`.
        """

    def overlay(self, predictions: Path, grid: Grid, step: int, classes: ClassList) -> np.ndarray:
        """Return a picture of predictions to lay over the image, for an overview of every `step`-th pixel.

        Parameters
        ----------
        predictions
            The file that `score` reads.
        grid
            Of the scene.
        step
            See `rvbuild.geo.write.overview`.
        classes
            For their colours.

        Returns
        -------
        ndarray
            (h, w, 4) uint8: red, green, blue and opacity; 0 without a prediction.
        """

    def survey(
        self, source: Any, windows: Sequence[Window] | None, aoi: Aoi | None, step: int, classes: ClassList
    ) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
        """Count all labels of a scene, and draw them for an overview of every `step`-th pixel.

        Parameters
        ----------
        source
            The result of `labels`.
        windows
            The result of `chip_windows` for adjacent chips.
        aoi
            Only what lies in the area counts.
        step
            See `rvbuild.geo.write.overview`.
        classes
            For their colours.

        Returns
        -------
        counts : (n_classes,) int64: pixels, boxes or cells of each class
        overlay : (h, w, 4) uint8: red, green, blue and opacity
        unknown : values without a class, each with its number of pixels
        """

    def own_chips(
        self, relative: Sequence[str], files: Sequence[Path], classes: ClassList, null_id: int
    ) -> list[tuple[Path, Callable[[tuple[int, int]], Target]]]:
        """Return the chips in a user's files, given their paths relative to the folder of the split.

        Each has the file of an image, and a function from the image's (height, width) to the target.
        """

    def score(
        self,
        predictions: Path,
        source: Any,
        aoi: Aoi | None,
        classes: NamedClasses,
        null_id: int,
        progress: Progress,
        settings: EvalSettings,
        worst: WorstPlaces,
        scores: Path | None = None,
    ) -> Counts:
        """Compare a scene's predictions with its labels; return counts that add up over scenes.

        `worst` receives the places of the errors; `scores` is the raster of scores, if the project writes one.
        """

    def score_histogram(self, counts: Counts, classes: ClassList, null_id: int) -> ScoreHistogram | None:
        """Return the scores of right and of wrong predictions, from the counts of a scene; None without scores."""

    def panels(
        self,
        predictions: Path,
        source: Any,
        aoi: Aoi | None,
        classes: ClassList,
        null_id: int,
        settings: EvalSettings,
    ) -> Panels:
        """Return a function that draws the labels, the predictions and the errors of a scene, window by window.

        The parameters are those of `score`.
        """

    def report(
        self, counts: Mapping[str, Counts], classes: ClassList, null_id: int
    ) -> tuple[Evaluation[Mapping[str, object]], dict[str, str]]:
        """Return the content of `eval.json`, and of the files beside it by name, from the counts by scene id.

        `eval.md` is one of the files; pictures in it (`.svg`) are others.
        """
