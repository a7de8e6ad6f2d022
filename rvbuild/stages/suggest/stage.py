"""The suggestions stage: the windows to label next, of all images of a project that are not labelled everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.learn.linear.head import Head, rounded
from rvbuild.learn.linear.solve import solve
from rvbuild.progress import Progress
from rvbuild.review.suggest.choose import Choice, choose
from rvbuild.review.suggest.measure import Measured
from rvbuild.stages.draft.cells import SceneFeatures
from rvbuild.stages.draft.head import require_few
from rvbuild.stages.draft.sample import read_unlabelled
from rvbuild.stages.draft.stored import read_all_totals, read_totals
from rvbuild.stages.suggest.ground import Ground
from rvbuild.stages.suggest.settings import GroundSettings, SuggestSettings
from rvbuild.stages.suggest.windows import Place, Sample, Samples, collect
from rvbuild.stages.suggest.write import Suggestion, write


def run(inputs: Mapping[str, Sequence[Path]], settings: SuggestSettings, outputs: Path, progress: Progress) -> None:
    """Write the suggestions of a project.

    Parameters
    ----------
    inputs
        `features/<scene>` of each ground; `sums/<scene>` of each training scene, the files that `head` reads;
        `labels/<scene>` and `aoi/<scene>` of the scenes of the grounds.
    settings
        task, classes, null_id, background, count, window_px, grounds.
    outputs
        Receives `suggestions.json` and, if there are suggestions, `windows.gpkg` and `windows.geojson`; see
        `rvbuild.stages.suggest.write`.
    progress
        Receives progress, in rows of blocks.

    Raises
    ------
    DataError
        Labels or areas of interest do not match the image, or scenes have different bands.
    """
    model = _model(inputs, settings)
    samples, grids = Samples(Sample(), Sample()), dict[str, Grid]()
    whole = {ground["scene"]: _labelled_everywhere(ground, inputs) for ground in settings["grounds"]}
    grounds = [] if all(whole.values()) else settings["grounds"]
    images = {ground["scene"]: SceneFeatures(inputs[f"features/{ground['scene']}"]) for ground in grounds}
    progress.start("suggest", sum(image.cells.rows for image in images.values()), "rows of blocks")
    for ground in grounds:
        scene, features = ground["scene"], images[ground["scene"]]
        if list(features.names) != model.features:
            raise DataError(
                f"scene {scene}: has {len(features.names)} features, the training scenes {len(model.features)}; give "
                "all scenes the same number of bands with `channels`"
            )
        grids[scene] = features.grid
        with Ground(inputs, settings, ground, features, whole[scene]) as pixels:
            collect(scene, features, pixels, model.head, settings["window_px"], samples, progress)
    places, free = samples.free.result()
    _, labelled = samples.labelled.result()
    chosen = [] if free is None else choose(free, labelled, model.pixels, settings["count"])
    suggestions = [
        _suggestion(rank, places[choice.number], choice, free, model)
        for rank, choice in enumerate(chosen, start=1)
        if free is not None
    ]
    write(outputs, suggestions, grids)


class _Model(NamedTuple):
    """What training scenes teach."""

    features: list[str]
    head: Head | None
    """None unless two classes have labels."""
    names: tuple[str, ...]
    """Of its classes."""
    pixels: npt.NDArray[np.int64]
    """(K,): labelled ones of its classes."""


def _model(inputs: Mapping[str, Sequence[Path]], settings: SuggestSettings) -> _Model:
    sums = {role: files for role, files in inputs.items() if role.startswith("sums/")}
    content, total = read_all_totals(sums)
    features, pixels = content["features"], total[:, :, 0].sum(axis=0)
    trained = [c for c in settings["classes"] if settings["background"] or c["id"] != settings["null_id"]]
    known = [c for c in trained if pixels[c["id"]]]
    if len(known) < 2:
        return _Model(features, None, (), pixels[:0])
    require_few(features)
    ids = tuple(int(c["id"]) for c in known)
    cell_pixels = content["cells"]["stride_px"] ** 2
    head = rounded(solve(total[:, list(ids)], len(features), cell_pixels, read_unlabelled(sums)), ids)
    return _Model(features, head, tuple(c["name"] for c in known), pixels[list(ids)])


def _labelled_everywhere(ground: GroundSettings, inputs: Mapping[str, Sequence[Path]]) -> bool:
    """Tell whether the sums of the training scenes show that all pixels of an image are labelled."""
    described = [read_totals(inputs[f"sums/{scene['scene']}"])[0] for scene in ground["training"]]
    pixels = sum(sum(each["pixels"]) for each in described)
    return any(pixels >= each["cells"]["height"] * each["cells"]["width"] for each in described)


def _suggestion(rank: int, place: Place, choice: Choice, free: Measured, model: _Model) -> Suggestion:
    """Return a suggestion with its reason."""
    if choice.diversity is None:
        reason = "a usual window to begin with: nothing is labelled yet"
    else:
        reason = f"less like what is labelled than {choice.beyond:.0%} of the windows without labels"
    if model.head is None:
        return Suggestion(place, rank, choice.score, reason, None, choice.diversity, None)
    most = int(choice.growth.argmax())
    expected = round(float(free.expected[choice.number, most]))
    uncertainty = float(free.wrong[choice.number].sum()) / int(free.pixels[choice.number])
    reason += (
        f"; about {expected:,} px of {model.names[most]}, which has {int(model.pixels[most]):,} px of labels; the "
        f"draft is unsure of {uncertainty:.0%}"
    )
    return Suggestion(place, rank, choice.score, reason, uncertainty, choice.diversity, model.names[most])
