"""The page in a real browser: what people click, what they see then, and what happens when they save a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from rvbuild.engine.cluster import running
from rvbuild.engine.cluster.beacon import lit
from tests.api.conftest import built, templates, write_labels

from .browsing import Show, browser, show, wait_for_color

__all__ = ["browser", "built", "show", "templates"]

pytestmark = pytest.mark.slow

RED, GREEN = [255, 0, 0, 255], [0, 255, 0, 255]


def test_the_loop_of_looking(show: Show, built: Callable[[str], Path]) -> None:
    file = built("segmentation")
    page = show(file)
    # A scene of the evaluated split is shown, with its figures.
    expect(page.locator("#scene")).to_have_value("c")
    expect(page.locator("#headline")).to_contain_text("mean IoU, validation scenes")
    expect(page.locator("#state-text")).to_have_text("up to date")
    wait_for_color(page, "image", 12, 12, lambda rgba: rgba[3] == 255 and min(rgba[:3]) > 120)

    # Zoom with the keyboard: tiles become larger.
    size = "() => document.querySelector('.leaflet-rv-image-pane .leaflet-tile-container').style.transform"
    page.locator("#map").focus()
    before = page.evaluate(size)
    page.keyboard.press("+")
    page.wait_for_function(f"before => ({size})() !== before", arg=before)

    # Labels on the right side of a divider that can be dragged and moved by keys.
    page.keyboard.press("2")
    expect(page.locator("#layer-labels")).to_be_checked()
    wait_for_color(page, "labels", 12, 12, lambda rgba: rgba == RED)
    page.keyboard.press("s")
    cut = "() => document.querySelector('.leaflet-rv-labels-pane').style.clipPath"
    assert page.evaluate(cut).startswith("polygon(")
    divider, box = page.locator("#swipe"), page.locator("#map-box").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 100)
    page.mouse.up()
    assert abs(float(divider.get_attribute("aria-valuenow") or 0) - 25) < 2
    before = page.evaluate(cut)
    divider.press("ArrowRight")
    assert page.evaluate(cut) != before
    page.locator("#swipe-button").click()
    assert page.evaluate(cut) == ""

    # A cell of the confusion matrix leads to its places, and the map shows these errors alone.
    cell = page.locator("table.confusion button:not([disabled])").filter(has_not_text="100 %").first
    truth, predicted = cell.get_attribute("data-truth"), cell.get_attribute("data-predicted")
    with page.expect_request(lambda asked: f"/api/places?truth={truth}&predicted={predicted}" in asked.url):
        cell.click()
    expect(page.locator("#tab-places")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#places .list button").first).to_have_attribute("aria-current", "true")
    expect(page.locator("#layer-errors")).to_be_checked()
    expect(page.locator(".leaflet-overlay-pane path")).to_have_count(1)
    # Stepping goes to it again from wherever the map is.
    page.keyboard.press("f")
    before = page.evaluate(size)
    page.keyboard.press("n")
    page.wait_for_function(f"before => ({size})() !== before", arg=before)

    # A label file is saved: the map shows it without being asked, and says what is to be built.
    write_labels(file.parent.parent / "data/c.geojson", [(40, 2, 60, 20)])
    wait_for_color(page, "labels", 12, 12, lambda rgba: rgba == GREEN)
    wait_for_color(page, "labels", 12, 50, lambda rgba: rgba == RED)
    expect(page.locator("#state-text")).to_contain_text("to build")


def test_from_nothing_to_an_evaluation_with_the_build_button(
    show: Show, templates: Callable[[str], Path], tmp_path: Path
) -> None:
    root = tmp_path / "ws"
    shutil.copytree(templates("segmentation"), root, ignore=shutil.ignore_patterns("cache"))
    page = show(root / "projects/p.toml")
    expect(page.locator("#evaluation")).to_contain_text("There is no evaluation yet")
    expect(page.locator("#layers")).to_contain_text("no predictions of this scene yet")
    expect(page.locator("#layer-prediction")).to_have_count(0)
    # A training in a terminal: the curves grow with its log.
    page.keyboard.press("t")
    expect(page.locator("#training")).to_contain_text("Nothing was trained yet")
    live = root / "cache/p/live/log.jsonl"
    live.parent.mkdir(parents=True)
    line = {"lr": 0.1, "train_loss": 0.5, "val_loss": 0.4, "metrics": {"mean_iou": 0.3}}
    for epoch in (1, 2):
        with live.open("a") as file:
            file.write(json.dumps({"epoch": epoch, **line}) + "\n")
        expect(page.locator("#training")).to_contain_text(f"Not finished: epoch {epoch} ended at")
    expect(page.locator("#training svg.chart")).to_have_count(2)
    # A host of a cluster builds something for a terminal.
    page.keyboard.press("b")
    logs = root / "cache/log" / running.FOLDER
    with lit("rvbuild-1", {"workspace": logs}):
        (logs / "rvbuild-1.json").write_text(json.dumps({"analyze:p": "node7"}))
        expect(page.locator("#build")).to_contain_text("analyze on node7: runs")
    expect(page.locator("#build")).not_to_contain_text("node7")
    page.locator("#build-button").click()
    expect(page.locator("#build-button")).to_have_text("Stop")
    expect(page.locator("#state-text")).to_have_text("up to date")
    page.locator("#tab-evaluation").click()
    expect(page.locator("#headline")).to_contain_text("mean IoU")
    page.keyboard.press("t")
    expect(page.locator("#training svg.chart")).to_have_count(2)
    expect(page.locator("#training")).to_contain_text("epochs.")
    page.locator("#layer-prediction").check()
    wait_for_color(page, "prediction", 5, 5, lambda rgba: rgba in (RED, GREEN))


def test_the_draft_follows_each_save(show: Show, templates: Callable[[str], Path], tmp_path: Path) -> None:
    root = tmp_path / "ws"
    shutil.copytree(templates("segmentation"), root, ignore=shutil.ignore_patterns("cache"))
    page = show(root / "projects/p.toml")
    page.locator("#tab-build").click()
    page.locator("#follow").check()
    page.locator("#layer-draft").check()
    wait_for_color(page, "draft", 18, 18, lambda rgba: rgba == RED)
    page.locator("#layer-errors").check()
    page.locator("#tab-evaluation").click()
    expect(page.locator("#source")).to_have_value("draft")  # the model has no evaluation
    expect(page.locator("#headline")).to_contain_text("mean IoU")
    # What is bright becomes ground, and what is dark a building.
    write_labels(root / "data/a.geojson", [(26, 0, 64, 29), (0, 21, 34, 64)])
    write_labels(root / "data/b.geojson", [(0, 0, 39, 29), (31, 25, 64, 64)])
    wait_for_color(page, "draft", 18, 18, lambda rgba: rgba == GREEN)


def test_mistakes_and_failures_are_shown_until_they_are_put_right(
    show: Show, templates: Callable[[str], Path], tmp_path: Path
) -> None:
    root = tmp_path / "ws"
    shutil.copytree(templates("segmentation"), root, ignore=shutil.ignore_patterns("cache"))
    file = root / "projects/p.toml"
    page = show(file)
    text = file.read_text()
    file.write_text(text.replace("size_px", "sise_px"))
    expect(page.locator("#problems")).to_contain_text('unknown key; did you mean "size_px"?')
    expect(page.locator("#scene")).to_have_value("c")
    file.write_text(text)
    expect(page.locator("#problems")).to_be_hidden()
    (root / "data/c.geojson").write_text("{")
    page.locator("#layer-labels").check()
    expect(page.locator("#layers .message")).to_contain_text("c.geojson")
    page.locator("#build-button").click()
    expect(page.locator("#state-text")).to_contain_text("failed")
    expect(page.locator('[data-stage="chip"] .bad').first).to_contain_text("c.geojson")


def test_the_threshold_of_boxes_moves_what_counts(show: Show, built: Callable[[str], Path]) -> None:
    page = show(built("boxes"))
    figures = page.locator("#threshold-figures tbody td")
    slider = page.locator("#threshold")
    slider.fill("0")
    every = [int(figures.nth(number).inner_text()) for number in (3, 4)]
    slider.fill("1")
    none = [int(figures.nth(number).inner_text()) for number in (3, 4)]
    assert sum(every) > 0 and none == [0, 0]
    expect(figures.nth(5)).to_have_text("2")
    page.locator("#layer-prediction").check()
    drawn = """() => [...document.querySelectorAll(".leaflet-rv-prediction-pane canvas")].some((canvas) =>
        canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean))"""
    page.wait_for_timeout(300)  # what would be drawn is drawn by then
    page.wait_for_function(f"() => !({drawn})()")
    slider.fill("0")
    page.wait_for_function(drawn)


def test_cells_are_drawn_and_stepped_through(show: Show, built: Callable[[str], Path]) -> None:
    page = show(built("cells"))
    expect(page.locator("#headline")).to_contain_text("accuracy")
    page.locator("#layer-labels").check()
    page.wait_for_function("() => document.querySelectorAll('.leaflet-rv-labels-pane canvas').length > 0")
    pressed = page.locator("table.confusion button:not([disabled])").first
    pressed.click()
    expect(page.locator("#places .list button").first).to_have_attribute("aria-current", "true")


def test_keys_reach_everything_and_narrow_screens_scroll_in_one_direction(
    show: Show, built: Callable[[str], Path]
) -> None:
    page = show(built("segmentation"))
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"map", "scene", "build-button", "swipe-button", "layer-labels", "tab-evaluation"} <= reached
    page.locator("#tab-evaluation").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-places")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    # However fast one goes through the scenes, the last one is shown.
    for _ in range(7):
        page.keyboard.press(".")
    expect(page.locator("#scene-facts")).to_contain_text("a.tif")
    expect(page.locator("#scene")).to_have_value("a")

    page.set_viewport_size({"width": 380, "height": 800})
    page.wait_for_function("document.scrollingElement.scrollWidth <= 380")
    box = page.locator("#map").bounding_box()
    assert box is not None and box["width"] > 360 and box["height"] > 250
