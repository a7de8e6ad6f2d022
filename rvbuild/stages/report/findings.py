"""What to do next, from the figures of a project: short sentences, the most useful first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rvbuild.geo.classes import Classes
from rvbuild.learn.selection import Epoch
from rvbuild.tasks.evaluation import ClassItem, Evaluation
from rvbuild.tasks.metrics.tables import without_null

Figures: TypeAlias = Evaluation[Mapping[str, float | None]]
"""The content of `eval.json`; of summaries, only numbers are looked at."""

RARE = 0.001
"""Share of the training labels below which a class is called rare."""

CONFUSED = 0.25
"""Share of the labels of a class that are predicted as one other, from which it is named."""

ROSE = 1.1
"""Ratio of the last validation loss to the lowest, from which a training is said to overfit."""

BETTER = 0.01
"""Difference of F1 from which another score threshold is recommended."""

_MOST_NAMES = 5


def findings(
    evaluation: Figures | None,
    log: Sequence[Epoch],
    trained: Sequence[int],
    classes: Classes,
    null_id: int,
    unit: str,
    weighable: bool = True,
) -> list[str]:
    """Return the findings as sentences.

    Parameters
    ----------
    evaluation
        The content of `eval.json`; None if nothing was evaluated.
    log
        The log of the training, an entry for each epoch.
    trained
        How often each class id occurs in the training chips.
    classes, null_id
        The classes in id order, and the id of the null class.
    unit
        The unit of these counts: pixels, boxes or cells.
    weighable
        Whether the training can weigh classes.
    """
    sentences = _of_labels(trained, classes, null_id, unit, weighable)
    if evaluation is not None:
        sentences += _of_evaluation(evaluation, classes, null_id)
    return sentences + _of_training(log)


def _of_labels(trained: Sequence[int], classes: Classes, null_id: int, unit: str, weighable: bool) -> list[str]:
    known = without_null(classes, null_id)
    total = sum(trained[item["id"]] for item in known)
    absent = [item["name"] for item in known if not trained[item["id"]]]
    rare = [
        f"{item['name']} ({trained[item['id']]:,} {unit})" for item in known if 0 < trained[item["id"]] < RARE * total
    ]
    sentences = []
    if absent:
        sentences.append(f"No training chip shows {_listed(absent)}: label some, or remove the class.")
    if rare:
        advice = "label more, or set class_weights" if weighable else "label more"
        sentences.append(f"Training chips show very little of {_listed(rare)}: {advice}.")
    return sentences


def _of_evaluation(evaluation: Figures, classes: Classes, null_id: int) -> list[str]:
    items = [item for item in evaluation["overall"] if "class_id" in item and item["class_id"] != null_id]
    sentences = []
    unlabelled = [item["class_name"] for item in items if not item["gt_count"]]
    if unlabelled:
        sentences.append(
            f"No evaluated scene has a label of {_listed(unlabelled)}, so it is not evaluated: label some."
        )
    sentences += _confusions(evaluation["overall"], classes, null_id)
    summary = evaluation["summary"]["overall"]
    best, threshold, f1 = summary.get("best_f1"), summary.get("best_score_thresh"), summary.get("f1") or 0.0
    if best is not None and threshold is not None and best - f1 >= BETTER:
        threshold = math.floor(threshold * 100) / 100
        sentences.append(f"F1 would be {best:.3f} instead of {f1:.3f} with score_thresh = {threshold:g} in [predict].")
    return sentences


def _confusions(items: Sequence[ClassItem], classes: Classes, null_id: int) -> list[str]:
    """Return a sentence for each class that is mostly mistaken for another, the largest share first."""
    matrix = items[-1].get("conf_mat")
    if not matrix:
        return []
    shares = []
    for label, row in enumerate(matrix):
        total = sum(row)
        wrong = [(count, predicted) for predicted, count in enumerate(row) if predicted not in (label, null_id)]
        count, predicted = max(wrong, key=lambda pair: (pair[0], -pair[1]), default=(0, 0))
        if total and count >= CONFUSED * total:
            shares.append((count / total, label, predicted))
    shares.sort(key=lambda share: (-share[0], share[1]))
    return [
        f"{100 * share:.0f} % of {classes[label]['name']} is predicted as {classes[predicted]['name']}: look at these "
        "places, and check the labels of both."
        for share, label, predicted in shares[:_MOST_NAMES]
    ]


def _of_training(log: Sequence[Epoch]) -> list[str]:
    losses = [(line["val_loss"], line["epoch"]) for line in log if line["val_loss"] is not None]
    if len(losses) < 3:
        return []
    lowest, epoch = min(losses)
    last = losses[-1][0]
    if lowest > 0 and last >= ROSE * lowest and epoch <= losses[-1][1] - 2:
        return [
            f"The validation loss was lowest at epoch {epoch} of {losses[-1][1]} and has risen by "
            f"{100 * (last / lowest - 1):.0f} % since: the model overfits. More labels or more augmentation help, and "
            "fewer epochs are enough."
        ]
    if epoch == losses[-1][1]:
        return ["The validation loss was lowest in the last epoch: more epochs may help."]
    return []


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        return ", ".join(shown) + f" and {len(names) - _MOST_NAMES} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
