"""What a report recommends."""

from __future__ import annotations

from typing import Any

from rvbuild.stages.report.findings import findings

CLASSES = [{"id": 0, "name": "crown"}, {"id": 1, "name": "ground"}, {"id": 2, "name": "null"}]


def evaluation(matrix: list[list[int]], **summary: Any) -> dict[str, Any]:
    items = [
        {"class_id": item["id"], "class_name": item["name"], "gt_count": sum(row)}
        for item, row in zip(CLASSES, matrix, strict=True)
    ]
    return {"overall": [*items, {"conf_mat": matrix}], "summary": {"overall": summary}}


def log(*losses: float | None) -> list[dict[str, Any]]:
    return [{"epoch": number, "val_loss": loss} for number, loss in enumerate(losses, start=1)]


def findings_of(
    matrix: list[list[int]] | None = None,
    losses: tuple[float | None, ...] = (),
    trained: tuple[int, ...] = (9, 9, 0),
    **summary: Any,
) -> list[str]:
    content = None if matrix is None else evaluation(matrix, **summary)
    return findings(content, log(*losses), trained, CLASSES, 2, "pixels")


GOOD = [[90, 10, 0], [5, 95, 0], [0, 0, 0]]


def test_nothing_to_say() -> None:
    assert findings_of(GOOD, (0.9, 0.5, 0.4, 0.41)) == []
    assert findings_of() == []


def test_classes_without_labels() -> None:
    assert findings_of(trained=(0, 5, 3)) == ["No training chip shows crown: label some, or remove the class."]
    (sentence,) = findings_of([[0, 0, 0], [5, 95, 0], [0, 0, 0]])
    assert sentence == "No evaluated scene has a label of crown, so it is not evaluated: label some."
    (sentence,) = findings_of(trained=(3, 100_000, 0))
    assert sentence == "Training chips show very little of crown (3 pixels): label more, or set class_weights."
    sentences = findings(None, [], (3, 100_000, 0), CLASSES, 2, "boxes", weighable=False)
    assert sentences == ["Training chips show very little of crown (3 boxes): label more."]


def test_classes_that_are_mistaken_for_others() -> None:
    sentences = findings_of([[60, 40, 0], [30, 70, 0], [0, 0, 0]])
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "40 % of crown is predicted as ground",
        "30 % of ground is predicted as crown",
    ]
    assert findings_of([[60, 0, 40], [0, 100, 0], [0, 0, 0]]) == [], "what is not predicted is no other class"


def test_a_better_threshold() -> None:
    (sentence,) = findings_of(GOOD, f1=0.5, best_f1=0.6, best_score_thresh=0.378)
    assert sentence == "F1 would be 0.600 instead of 0.500 with score_thresh = 0.37 in [predict]."
    assert findings_of(GOOD, f1=0.5, best_f1=0.505, best_score_thresh=0.378) == []
    assert "instead of 0.000" in findings_of(GOOD, f1=None, best_f1=0.6, best_score_thresh=0.1)[0]


def test_curves() -> None:
    (sentence,) = findings_of(GOOD, (0.9, 0.5, 0.6, 0.75))
    assert sentence.startswith("The validation loss was lowest at epoch 2 of 4 and has risen by 50 % since")
    assert findings_of(GOOD, (0.9, 0.5, 0.4)) == [
        "The validation loss was lowest in the last epoch: more epochs may help."
    ]
    assert findings_of(GOOD, (None, None, None)) == []
