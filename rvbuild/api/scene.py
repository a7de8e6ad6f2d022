"""A scene of a project: its pixels and its labels, read as every stage reads them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rvbuild import tasks
from rvbuild.errors import UsageError
from rvbuild.geo.windows import Window
from rvbuild.project.model import Project as LoadedProject
from rvbuild.project.model import Scene as LoadedScene
from rvbuild.rules import common
from rvbuild.session.process_context import ProcessContext, process_context
from rvbuild.settings.image import SceneImageSettings

if TYPE_CHECKING:
    import numpy as np

    from rvbuild.geo.grid import Grid
    from rvbuild.geo.raster.open import SceneImage
    from rvbuild.tasks.protocol import Labels


class Pixels(NamedTuple):
    """The pixels of a window.

    Attributes
    ----------
    image : numpy.ndarray
        (C, H, W) in the dtype of the imagery; 0 where it is not valid.
    valid : numpy.ndarray
        (C, H, W) bool: False outside the scene, at nodata, and at NaN.
    """

    image: np.ndarray
    valid: np.ndarray


class Scene:
    """A scene of a project, open for reading. `Project.scenes` maps ids to scenes.

    Files are opened by the first read and stay open until `close`; a scene is a context manager. Threads may share
    it, but they read one after another.

    Attributes
    ----------
    id : str
    split : str
        `train`, `validation` or `test`.
    image_files : tuple of Path
        The files of the imagery.
    label_files : tuple of Path
        The files of the labels; empty if there are none.

    Examples
    --------
    >>> import rvbuild
    >>> scene = rvbuild.open("projects/p.toml").scenes["a"]
    >>> scene.grid.height, scene.grid.width
    (64, 64)
    >>> image, valid = scene.read((0, 0, 32, 16))
    >>> image.shape, image.dtype, bool(valid.all())
    ((3, 32, 16), dtype('uint8'), True)
    >>> scene.labels((0, 0, 32, 16))["labels"].shape
    (32, 16)
    """

    def __init__(self, project: LoadedProject, scene: LoadedScene, trust: bool) -> None:
        self.id = scene.id
        self.split = scene.split
        self.image_files = _paths(project, scene.image.files)
        self.label_files = _paths(project, scene.labels.files if scene.labels else ())
        self._project, self._scene, self._trust = project, scene, trust
        self._lock = threading.RLock()
        self._image: SceneImage | None = None
        self._labels: Labels | None = None
        self._context: ProcessContext | None = None

    def __repr__(self) -> str:
        return f"<Scene {self.id!r} ({self.split}) of {self._project.name}>"

    @property
    def grid(self) -> Grid:
        """The pixel grid: `height`, `width`, `transform` (affine, to map coordinates) and `crs` (None: unknown).

        Raises
        ------
        DataError
            A file cannot be read.
        """
        with self._opened() as image:
            return image.grid

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the bands that `read` returns, in order."""
        with self._opened() as image:
            return image.descriptions

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels that `read` returns."""
        with self._opened() as image:
            return image.dtype

    def read(self, window: Window | Sequence[int] | None = None) -> Pixels:
        """Read pixels as every stage reads them: the channels of the project, transformed, with nodata masked.

        Parameters
        ----------
        window : Window or (row, col, height, width), optional
            In pixels; it may extend beyond the scene. Default: the whole scene.

        Returns
        -------
        Pixels
            `image`, (C, H, W), and `valid`, (C, H, W) bool.

        Raises
        ------
        DataError
            A file cannot be read.
        UsageError
            User code transforms pixels, and the project was not opened with `trust=True`; or the window is invalid.
        """
        with self._opened() as image:
            return Pixels(*image.read(_window(window, image.grid)))

    def labels(self, window: Window | Sequence[int] | None = None) -> dict[str, np.ndarray] | None:
        """Read labels: the target of a chip at this window, in pixels of the window.

        Parameters
        ----------
        window : Window or (row, col, height, width), optional
            In pixels; it may extend beyond the scene. Default: the whole scene.

        Returns
        -------
        dict or None
            * Segmentation: `labels`, (H, W) uint8 class ids.
            * Detection: `boxes`, (n, 4) float32 x0, y0, x1, y1, and `classes`, (n,) uint8 class ids.
            * Chip classification: `classes`, () uint8, the class id of the window; None if it is unlabelled.

        Raises
        ------
        DataError
            A file cannot be read, or holds values that stand for no class.
        UsageError
            The scene has no labels.
        """
        task = tasks.get(self._project.task)
        with self._opened() as image:
            if self._labels is None:
                if self._scene.labels is None:
                    raise UsageError(f"scene {self.id} of {self._project.path} has no labels")
                self._labels = task.labels(
                    self.label_files,
                    common.label_settings(self._project, self._scene),
                    image.grid,
                    common.classes(self._project),
                    self._project.null_id,
                )
                self._labels.__enter__()
            chip = common.chip_settings(self._project, self._scene)
            return task.target(self._labels, _window(window, image.grid), chip)

    def close(self) -> None:
        """Close the files; they are reopened when they are needed."""
        with self._lock:
            if self._labels is not None:
                self._labels.__exit__(None, None, None)
            if self._image is not None:
                self._image.close()
            self._image = self._labels = None

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[SceneImage]:
        """Yield the open image, in the context for reading it."""
        from rvbuild.geo.raster.open import open_scene_image

        with self._lock:
            if self._context is None:
                code = common.image_code(self._project, self._scene)
                self._context = process_context(self._project, code, self._trust, f"the imagery of scene {self.id}")
            with self._context():
                if self._image is None:
                    settings: SceneImageSettings = {
                        "image": common.image_settings(self._project, self._scene),
                        "channels": self._scene.channels,
                    }
                    self._image = open_scene_image(self.image_files, settings)
                yield self._image


def _paths(project: LoadedProject, files: Sequence[str]) -> tuple[Path, ...]:
    return tuple(common.resolve(project, path) for path in files)


def _window(window: Window | Sequence[int] | None, grid: Grid) -> Window:
    """Return a valid window; None stands for the whole grid."""
    if window is None:
        return grid.window
    values = tuple(window)
    if len(values) != 4 or not all(isinstance(value, int) for value in values) or min(values[2:]) < 1:
        raise UsageError(f"expected a window (row, col, height, width) of whole pixels; found {window!r}")
    return Window(*values)
