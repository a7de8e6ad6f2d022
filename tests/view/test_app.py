"""What the addresses answer, and what happens when files are saved."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from rvbuild.engine.cluster import running
from rvbuild.engine.cluster.beacon import lit
from rvbuild.view.looking import Looking
from rvbuild.view.web.app import STATIC, View
from tests.api.conftest import write_labels

from .conftest import Client, Results
from .test_suspects import A, review

PORT, TOKEN = 8124, "a-token"
HOME = f"http://127.0.0.1:{PORT}"


class Page:
    """A project that is shown, and a client that has the token."""

    def __init__(self, file: Path, trust: bool = False) -> None:
        self.looking = Looking(file, trust=trust)
        self.looking.look()
        self.view = View(self.looking)
        self.told: list[str] = []
        self.view.events.tell = lambda kind, content: self.told.append(kind)  # type: ignore[method-assign]
        self.client = Client(self.view.application(TOKEN, PORT), HOME)
        self.client.get(f"/?token={TOKEN}")

    def get(self, path: str) -> dict[str, object]:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def page(pixels: Results) -> Iterator[Page]:
    client = Page(pixels.file)
    client.view.watcher._before = client.view.watcher._state()
    yield client
    client.view.close()


def test_a_project_that_was_never_built(page: Page) -> None:
    project = page.get("/api/project")
    assert project["name"] == "p" and project["counted"] == "pixels" and project["problems"] == []
    assert [scene["id"] for scene in project["scenes"]] == ["a", "b", "c"]
    assert {artifact["state"] for artifact in project["artifacts"]} <= {"missing", "waiting", "stale"}
    scene = page.get("/api/scene?scene=c")
    assert list(scene["layers"]) == ["image", "labels"]
    assert (scene["height"], scene["width"], scene["crs"], scene["dtype"]) == (64, 64, "EPSG:32633", "uint8")
    assert page.get("/api/evaluation") == page.get("/api/training") == {}
    assert page.get("/api/places") == {"places": []}
    assert page.get("/api/build")["running"] is False


def test_the_curves_of_a_training_that_runs_grow(page: Page) -> None:
    live = page.looking.path.parent.parent / "cache/p/live/log.jsonl"
    live.parent.mkdir(parents=True)
    live.write_text('{"epoch": 1, "train_loss": 0.5}\n{"epoch": 2, "tr')
    page.view.watcher.check()
    assert "training" in page.told and "project" not in page.told  # nothing is planned anew
    training = page.get("/api/training")
    assert training["epochs"] == [{"epoch": 1, "train_loss": 0.5}]
    assert (training["state"], training["path"]) == ("begun", "cache/p/live/log.jsonl")
    page.told.clear()
    page.view.watcher.check()
    assert page.told == []


def test_the_hosts_that_build_artifacts_are_told(page: Page) -> None:
    logs = page.looking.path.parent.parent / "cache/log" / running.FOLDER

    def hosts() -> dict[str, str | None]:
        artifacts: Any = page.get("/api/project")["artifacts"]
        return {one["label"]: one["host"] for one in artifacts if one["host"] is not None}

    with lit("rvbuild-1", {"workspace": logs}):
        board = running.Board(logs, "rvbuild-1")
        board.begun("chip:p:a", "node7")
        board.begun("train:p", "node8")
        board.begun("chip:other:a", "node9")  # of another project
        board._write()
        page.view.watcher.check()
        assert page.told == ["hosts"]  # nothing is planned anew
        assert hosts() == {"chip:a": "node7", "train": "node8"}
        page.view.watcher.check()
        assert page.told == ["hosts"]
        board.close()
    page.view.watcher.check()
    assert page.told == ["hosts", "hosts"] and hosts() == {}


def test_what_is_wrong_is_a_message(page: Page) -> None:
    for path, status, message in [
        ("/api/scene?scene=x", 400, "there is no scene 'x'"),
        ("/tile/labels/1/0/0?scene=c&classes=a", 400, "expected whole numbers"),
        ("/tile/errors/1/0/0?scene=c", 400, "there are no predictions"),
        ("/api/at?scene=c&row=64&col=0", 400, "outside of scene c"),
        ("/api/at?scene=c", 400, "expected row and col"),
    ]:
        answer = page.client.get(path)
        assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text
    (page.looking.path.parent.parent / "data/c.tif").write_bytes(b"none")
    assert page.client.get("/tile/image/1/0/0?scene=c").status_code == 422


def test_tiles_are_kept_by_the_version_of_their_files(page: Page) -> None:
    version = page.get("/api/scene?scene=c")["layers"]["image"]["version"]
    answer = page.client.get(f"/tile/image/1/0/0?scene=c&v={version}")
    assert answer.headers["content-type"] == "image/png" and "immutable" in answer.headers["cache-control"]
    assert page.client.get("/tile/image/1/0/0?scene=c").headers["cache-control"] == "no-store"
    assert page.client.get("/tile/image/1/9/9?scene=c").status_code == 204


def test_a_tile_that_the_page_no_longer_waits_for_is_not_drawn(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("rvbuild.view.web.app.draw", lambda *_: drawn.append("tile"))
    path = {"layer": "image", "step": 1, "row": 0, "col": 0}

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "method": "GET", "query_string": b"scene=c", "path_params": path}, receive)
    assert asyncio.run(page.view._tile_if_wanted(request)).status_code == 499
    assert drawn == []


def test_a_pixel_is_told_with_its_label(page: Page) -> None:
    pixel = page.get("/api/at?scene=c&row=10&col=10")
    assert pixel["label"] == "building" and len(pixel["values"]) == 3
    assert page.get("/api/at?scene=c&row=0&col=0")["label"] == "ground"


def test_a_saved_label_file_makes_another_version(page: Page) -> None:
    before = page.get("/api/scene?scene=c")["layers"]
    assert not page.view.watcher.check(), "nothing was saved"
    write_labels(page.looking.path.parent.parent / "data/c.geojson", [(0, 0, 20, 20)])
    assert page.view.watcher.check()
    assert page.told == ["project"]
    after = page.get("/api/scene?scene=c")["layers"]
    assert after["labels"] != before["labels"] and after["image"] == before["image"]
    assert page.get("/api/at?scene=c&row=1&col=1")["label"] == "building"
    assert not page.view.watcher.check(), "looking is no change"


def test_code_that_is_trusted_reads_pixels_and_an_edit_of_it_is_seen(pixels: Results) -> None:
    code = "def scaled(image, valid):\n    return image // {}\n"
    (pixels.root / "own.py").write_text(code.format(2))
    image = 'image = { files = "data/{id}.tif", transform = [{ kind = "function", function = "own:scaled" }] }'
    pixels.edit('image = "data/{id}.tif"', image)
    page = Page(pixels.file, trust=True)
    page.view.watcher._before = page.view.watcher._state()
    before = page.get("/api/at?scene=c&row=10&col=10")["values"]
    version = page.get("/api/scene?scene=c")["layers"]["image"]["version"]
    (pixels.root / "own.py").write_text(code.format(4))
    assert page.view.watcher.check()
    assert page.get("/api/scene?scene=c")["layers"]["image"]["version"] != version
    after = page.get("/api/at?scene=c&row=10&col=10")["values"]
    assert after == [value // 2 for value in before]
    page.view.close()


def test_a_broken_project_file_keeps_what_was_shown_and_says_what_is_wrong(page: Page) -> None:
    text = page.looking.path.read_text()
    page.looking.path.write_text(text.replace("size_px", "sise_px"))
    assert page.view.watcher.check()
    project = page.get("/api/project")
    assert any("sise_px: unknown key" in line for line in project["problems"])
    assert [scene["id"] for scene in project["scenes"]] == ["a", "b", "c"]
    page.looking.path.write_text(text)
    assert page.view.watcher.check()
    assert page.get("/api/project")["problems"] == []


def test_a_project_file_that_is_broken_from_the_start(pixels: Results) -> None:
    pixels.file.write_text("[project\n")
    page = Page(pixels.file)
    project = page.get("/api/project")
    assert project["loaded"] is False and len(project["problems"]) == 1
    answer = page.client.get("/api/scene?scene=c")
    assert answer.status_code == 400 and "p.toml" in answer.json()["error"]
    page.view.close()


def test_an_evaluation_is_shown_with_the_matrices_of_scenes(page: Page, pixels: Results) -> None:
    evaluation = {"overall": [], "per_scene": {"c": []}, "summary": {"overall": {}, "per_scene": {"c": {}}}}
    folder = pixels.folder("eval", None, "eval.json", "c.json")
    (folder / "eval.json").write_text(json.dumps(evaluation))
    (folder / "c.json").write_text('{"confusion": [[1]]}')
    pixels.by_name["eval", "c"] = pixels.by_name["eval", None]
    page.looking.seen = pixels.seen()
    answer = page.get("/api/evaluation")
    assert answer["confusion"] == {"c": [[1]]} and answer["splits"]["c"] == "validation"
    (pixels.root / "cache/p/eval/eval.json").write_text("{")
    assert page.get("/api/evaluation") == {}, "it is being written"


def test_the_page_and_all_that_it_names_is_packed(page: Page) -> None:
    text = page.client.get("/").text
    named = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
    assert len(named) >= 5
    for path in named:
        assert page.client.get(path).status_code == 200, path
    assert "//" not in re.sub(r"<!--.*?-->", "", text).replace("http://www.w3.org", "")
    scripts = [path.read_text() for path in (STATIC / "js").glob("*.js")]
    for script in scripts:
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", script)
        assert not re.findall(r"https?://(?!www\.w3\.org)", script)
        for imported in re.findall(r'from "(\./[^"]+)"', script):
            assert (STATIC / "js" / imported).is_file()


def test_a_verdict_is_told_to_all_pages(page: Page, pixels: Results) -> None:
    assert page.client.post("/api/verdict?id=a&verdict=accept").status_code == 403, "not from the page"
    answer = page.client.post("/api/verdict?id=a&verdict=accept", {"Origin": HOME})
    assert (answer.status_code, answer.json()["error"]) == (400, "there are no suspects yet: run the review")
    review(pixels)
    answer = page.client.post(f"/api/verdict?id={A}&verdict=accept&note=sure", {"Origin": HOME})
    assert answer.json()["former"] == {"verdict": "", "note": ""}
    assert page.told == ["verdict"]
    assert page.get("/api/suspects") == page.get("/api/suggestions") == {}, "no build knows of them"
