"""The head stage: the linear model of all training scenes, solved from their sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rvbuild.errors import DataError, classes_that
from rvbuild.learn.linear.head import MOST_FEATURES, rounded
from rvbuild.learn.linear.solve import solve
from rvbuild.progress import Progress
from rvbuild.stages.draft.sample import read_unlabelled
from rvbuild.stages.draft.settings import HeadSettings
from rvbuild.stages.draft.stored import read_all_totals

HEAD = "head.json"


def run(inputs: Mapping[str, Sequence[Path]], settings: HeadSettings, outputs: Path, progress: Progress) -> None:
    """Solve the model.

    Parameters
    ----------
    inputs
        `sums/<scene id>`: `sums.json`, `totals.npy`, `sample.npy` and `unlabelled.npy` of each training scene.
    settings
        classes, null_id, background.
    outputs
        Receives `head.json`: the model in whole numbers, see `rvbuild.learn.linear.head`; and `shrinkage`, `folds`,
        `expected_mean_iou` and `pixels` of each class.
    progress
        Receives notes about classes without labels.

    Raises
    ------
    DataError
        No training scene has a label, or scenes have different bands.
    """
    content, total = read_all_totals(inputs)
    if not total[:, :, 0].any():
        raise DataError("no pixel of a training scene has a label: there is nothing to draft a map from")
    pixels = total[:, :, 0].sum(axis=0)
    trained = [c for c in settings["classes"] if settings["background"] or c["id"] != settings["null_id"]]
    if lacking := [str(c["name"]) for c in trained if not pixels[c["id"]]]:
        said = classes_that(lacking, "is not drafted", "are not drafted")
        progress.note(f"no training scene has a label of {said}")
    ids = tuple(int(c["id"]) for c in trained)
    require_few(content["features"])
    solution = solve(
        total[:, list(ids)], len(content["features"]), content["cells"]["stride_px"] ** 2, read_unlabelled(inputs)
    )
    rounded(solution, ids).write(
        outputs / HEAD,
        shrinkage=solution.shrinkage,
        folds=solution.folds,
        expected_mean_iou=solution.expected,
        pixels=pixels.tolist(),
    )


def require_few(features: Sequence[str]) -> None:
    """Raise a DataError if there are too many features for a model."""
    if len(features) > MOST_FEATURES:
        raise DataError(
            f"the scenes have {len(features)} features, and a model of drafts at most {MOST_FEATURES}; leave out bands "
            "with `channels`"
        )
