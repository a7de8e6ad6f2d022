"""The review of labels in a real browser: suspects, verdicts that are never lost, and what a saved label changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from rvbuild.review.table import TABLE
from rvbuild.review.verdicts import read_verdicts, set_verdict
from rvbuild.view.reviewing.deciding import UNSAVED
from tests.stages.sample_scenes import write_raster
from tests.stages.test_suspects import image, moved, objects, write_labels

from .browsing import WAIT_MS, Show, browser, show

__all__ = ["browser", "show"]

pytestmark = pytest.mark.slow

PROJECT = """\
[project]
task = "semantic_segmentation"

[classes]
barn = "#ff0000"
pond = "#0000ff"
ground = "#00ff00"

[scenes]
train = ["a"]
test = ["b"]

[scene]
image = "data/{id}.tif"
labels = { vector = "data/{id}.geojson", class_attribute = "label", background = "ground" }

[scenes.by_id.b]
labels = false

[draft]
block_px = 96
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A project of barns and ponds, some of which have wrong labels."""
    shapes = objects()
    labels = [each for number, each in enumerate(shapes) if number != 10]  # one is missing
    labels[20] = labels[20]._replace(class_id=1 - labels[20].class_id)
    labels[40] = labels[40]._replace(area=moved(labels[40].area, 18, -14))
    for folder in ("data", "projects"):
        (tmp_path / folder).mkdir()
    write_raster(tmp_path / "data/a.tif", image(shapes))
    write_raster(tmp_path / "data/b.tif", image(shapes)[:, :96, :96])
    write_labels(tmp_path / "data/a.geojson", labels)
    (tmp_path / "projects/p.toml").write_text(PROJECT)
    return tmp_path / "projects/p.toml"


def current(page: Page) -> str:
    """Return the id of the suspect that is looked at."""
    found = page.locator("#suspect-list [aria-current]").get_attribute("id")
    assert found is not None
    return found.removeprefix("suspect-")


def review(page: Page) -> None:
    """Run the review by its button, and wait for its end."""
    page.locator("#review-button").click()
    expect(page.locator("#review-said")).to_contain_text("Building review")
    expect(page.locator("#build-button")).to_have_text("Build")
    expect(page.locator("#suspect-list li").nth(2)).to_be_visible()


def wait_until_saved(page: Page, folder: Path) -> None:
    for _ in range(WAIT_MS // 100):
        if not (folder / UNSAVED).exists():
            return
        page.wait_for_timeout(100)
    raise AssertionError((folder / UNSAVED).read_text())


def test_suspects_are_found_and_judged_with_keys_and_no_verdict_is_lost(show: Show, file: Path) -> None:
    folder = file.parent.parent / "cache/p/review"
    page = show(file)
    page.keyboard.press("v")
    expect(page.locator("#tab-suspects")).to_have_attribute("aria-selected", "true")
    review(page)
    count = len(read_verdicts(folder / TABLE))
    expect(page.locator("#tab-suspects .count")).to_have_text(str(count))

    # Each is shown on the map, with its reason.
    page.keyboard.press("j")
    expect(page.locator("#suspect-card")).to_contain_text("%")
    drawn = """() => [...document.querySelectorAll(".leaflet-rv-suspects-pane canvas")].some((canvas) =>
        canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean))"""
    page.wait_for_function(drawn)
    first = current(page)
    page.keyboard.press("j")
    assert current(page) != first
    page.keyboard.press("k")
    assert current(page) == first

    # A key decides, and the next one follows; another takes that back.
    page.keyboard.press("a")
    expect(page.locator("#suspects-said")).to_contain_text("accepted")
    expect(page.locator("#tab-suspects .count")).to_have_text(str(count - 1))
    assert read_verdicts(folder / TABLE)[first].verdict == "accept"
    second = current(page)
    assert second != first
    page.keyboard.press("u")
    expect(page.locator("#suspects-said")).to_contain_text("undone")
    assert (current(page), read_verdicts(folder / TABLE)[first].verdict) == (first, "")
    page.keyboard.press("r")
    expect(page.locator("#suspects-said")).to_contain_text("rejected")

    # What another program decides in the same file shows up.
    set_verdict(folder / TABLE, second, "accept", "seen in QGIS")
    expect(page.locator("#tab-suspects .count")).to_have_text(str(count - 2))
    page.locator("#filter-verdict").select_option("accepted")
    expect(page.locator("#suspect-list li")).to_have_count(1)
    page.locator(f"#suspect-{second}").click()
    expect(page.locator("#suspect-note")).to_have_value("seen in QGIS")

    # While another program locks the table, a verdict waits, and the end of the server does not lose it.
    page.locator("#filter-verdict").select_option("open")
    page.locator("#suspect-list button").first.click()
    third = current(page)
    other = sqlite3.connect(folder / TABLE, isolation_level=None)
    other.execute("begin immediate")
    page.locator("#verdict-accept").click()
    expect(page.locator("#suspects-message")).to_contain_text("another program is writing to it")
    assert (folder / UNSAVED).exists()
    show.servers[0].kill()
    show.servers[0].wait()
    other.execute("rollback")
    other.close()
    page = show(file)
    expect(page.locator("#suspects-open")).to_have_text(f"{count - 3} open of {count} suspects")
    wait_until_saved(page, folder)
    assert read_verdicts(folder / TABLE)[third].verdict == "accept"

    # Labels are saved: suspects are no longer up to date, and verdicts stay.
    write_labels(file.parent.parent / "data/a.geojson", objects())
    page.keyboard.press("v")
    expect(page.locator("#suspects-stale")).to_be_visible()
    expect(page.locator("#layers")).to_contain_text("stale")

    # The windows to label next are those of the scene without labels.
    page.keyboard.press("g")
    page.locator("#suggest-button").click()
    expect(page.locator("#suggestions li").first).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("#suggestions [aria-current]")).to_contain_text("1. ")
    expect(page.locator("#suggestions")).to_contain_text("cache/p/suggestions/windows.gpkg")
    expect(page.locator("#scene")).to_have_value("b")
    page.wait_for_function(drawn.replace("suspects", "suggestions"))


def test_a_slow_answer_takes_back_no_verdict(show: Show, file: Path) -> None:
    folder = file.parent.parent / "cache/p/review"
    page = show(file)
    page.keyboard.press("v")
    review(page)
    count = len(read_verdicts(folder / TABLE))
    held: list[tuple[Route, APIResponse]] = []

    def hold_first(route: Route) -> None:
        response = route.fetch()
        if held:
            route.fulfill(response=response)
        else:
            held.append((route, response))

    page.route("**/api/suspects", hold_first)
    page.keyboard.press("j")
    first = current(page)
    last = list(read_verdicts(folder / TABLE))[-1]
    assert last != first
    set_verdict(folder / TABLE, last, "reject", "by another program")  # so that the page asks
    for _ in range(WAIT_MS // 100):
        if held:
            break
        page.wait_for_timeout(100)
    page.keyboard.press("a")
    expect(page.locator("#suspects-said")).to_contain_text("accepted")
    route, response = held[0]
    route.fulfill(response=response)
    expect(page.locator("#suspects-open")).to_have_text(f"{count - 2} open of {count} suspects")
    assert read_verdicts(folder / TABLE)[first].verdict == "accept"
