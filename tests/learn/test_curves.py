from xml.etree import ElementTree

import pytest

from rvbuild.learn.curves import draw_curves


def log(epochs, validated=True):
    metrics = {"iou": {"car": 0.25, "<tree>": None}, "mean_iou": 0.25}
    return [
        {
            "epoch": n,
            "train_loss": 1 / n,
            "val_loss": 2 / n if validated else None,
            "metrics": metrics if validated else None,
        }
        for n in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("epochs", [1, 2, 10, 137])
@pytest.mark.parametrize("validated", [True, False])
def test_is_well_formed_and_the_same_again(epochs, validated):
    text = draw_curves(log(epochs, validated), epochs)
    assert text == draw_curves(log(epochs, validated), epochs)
    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert ("Validation IoU" in words) == validated
    assert f"training: {1 / epochs:.4g}" in words and str(epochs) in words
    assert len([word for word in words if word.isdecimal()]) < 30


def test_points_lie_inside_the_panel():
    root = ElementTree.fromstring(draw_curves(log(10), 3))
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 52 <= x <= 404 and 34 <= y <= 224


def test_parts_of_a_loss_are_drawn_one_by_one_beside_it():
    lines = log(4)
    for number, line in enumerate(lines):
        line["train_losses"] = {"loss_a": 0.5 + number, "loss_b": 2.0}
        line["val_losses"] = {"loss_b": 3.0, "loss_a": 1.5 + number}
    root = ElementTree.fromstring(draw_curves(lines, 4))
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Loss", "Parts of the loss", "Validation IoU"} <= set(words)
    assert {"loss_a: 3.5", "loss_a, validation: 4.5", "loss_b: 2", "loss_b, validation: 3"} <= set(words)
    curves = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert [bool(curve.get("stroke-dasharray")) for curve in curves] == [False] * 2 + [False, True] * 2 + [False] * 2
    words = [element.text for element in ElementTree.fromstring(draw_curves(log(4), 4)).iter()]
    assert "Parts of the loss" not in words


def test_equal_values():
    lines = [{"epoch": n, "train_loss": 0.0, "val_loss": None, "metrics": None} for n in (1, 2)]
    ElementTree.fromstring(draw_curves(lines, 2))
