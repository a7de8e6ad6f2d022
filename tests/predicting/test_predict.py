"""Predictions of many images in one process: what is made, what is skipped and why, and what is recorded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rvbuild.cli.report import Plain
from rvbuild.engine.run.outcome import Did
from rvbuild.errors import DataError, UsageError
from rvbuild.progress import Progress, Silent
from rvbuild.session.predicting.predict import Order, prepared
from rvbuild.stages.bundle import jobs
from tests.range_server import serving
from tests.stages.sample_bundles import pack, predict_images
from tests.stages.sample_scenes import digests, empty, image_array, write_model, write_raster

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two images; its parent is the current directory."""
    monkeypatch.chdir(tmp_path)
    folder = empty(tmp_path / "data")
    write_raster(folder / "a.tif", image_array(20, 24, seed=1))
    write_raster(empty(folder / "north") / "a.tif", image_array(20, 20, seed=2))
    return folder


def predict(bundle: Path, *words: str, **options: Any) -> dict[str, tuple[Did, str]]:
    """Return scene -> what was done and why, or why it failed."""
    order = Order(bundle, bundle, words or ("data",), Path("out"), inline=True, **options)
    with prepared(order, Plain(False, -1)) as work:
        outcomes = work.run(Silent())
    return {str(o.artifact.scene): (o.did, o.message or "; ".join(map(str, o.reasons))) for o in outcomes}


def names(folder: str) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(path.name for path in Path(folder).iterdir())


def listed() -> dict[str, Any]:
    """Return the predictions that the manifest lists, by name."""
    return {entry["name"]: entry for entry in json.loads(Path("out/manifest.json").read_text())["predictions"]}


def test_what_is_there_is_skipped(packed: Path, data: Path) -> None:
    assert predict(packed) == {"a": (Did.BUILT, "never built here"), "north/a": (Did.BUILT, "never built here")}
    (alone,) = predict_images(packed, [data / "north/a.tif"], Path("alone").absolute())
    assert digests(Path("out/north/a")) == digests(alone)
    assert names("out") == [".rvbuild", "a", "manifest.json", "north"]
    before = Path("out/manifest.json").read_bytes(), Path("out/a/labels.tif").stat()
    os.utime(data / "a.tif")  # only touched
    assert predict(packed) == {"a": (Did.FRESH, ""), "north/a": (Did.FRESH, "")}
    assert before == (Path("out/manifest.json").read_bytes(), Path("out/a/labels.tif").stat())
    assert {did for did, _ in predict(packed, always_make=True).values()} == {Did.BUILT}
    assert before[0] == Path("out/manifest.json").read_bytes()


def test_a_change_is_predicted_again_and_says_why(packed: Path, data: Path, tmp_path: Path) -> None:
    predict(packed)
    write_raster(data / "a.tif", image_array(20, 24, seed=3))
    (Path("out/north/a") / "labels.tif").write_bytes(b"edited")
    assert predict(packed) == {
        "a": (Did.BUILT, f"image changed: {data}/a.tif"),
        "north/a": (Did.BUILT, "north/a/labels.tif was edited"),
    }
    (data / "a.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:25833</SRS></PAMDataset>")  # which belongs to it
    assert predict(packed)["a"] == (Did.BUILT, f"image changed: {data}/a.tif")
    other = pack(empty(tmp_path / "other"), write_model(tmp_path / "other model", seed=9))
    shutil.copy(other, packed)
    expected = (Did.BUILT, f"bundle changed: {packed}")
    assert predict(packed) == {"a": expected, "north/a": expected}


def test_a_failure_does_not_stop_the_others(packed: Path, data: Path) -> None:
    write_raster(data / "b.tif", image_array(20, 20, bands=5))
    (data / "c.tif").write_bytes(b"no image")
    done = predict(packed)
    assert [done[name][0] for name in ("a", "b", "c", "north/a")] == [Did.BUILT, Did.FAILED, Did.FAILED, Did.BUILT]
    assert "expected 3 bands of type uint8" in done["b"][1] and "cannot be opened" in done["c"][1]
    assert sorted(listed()) == ["a", "north/a"] and not Path("out/b").exists()
    write_raster(data / "b.tif", image_array(20, 20))
    assert [done[0] for done in predict(packed, "data/b.tif", "data/a.tif").values()] == [Did.BUILT, Did.FRESH]
    assert sorted(listed()) == ["a", "b", "north/a"]


def test_an_earlier_result_stays_until_the_new_one_is_complete(packed: Path, data: Path) -> None:
    predict(packed)
    before = digests(Path("out/a"))
    (data / "a.tif").write_bytes(b"no image any more")
    assert predict(packed)["a"][0] is Did.FAILED
    assert digests(Path("out/a")) == before and names("out/.rvbuild/tmp") == []
    assert predict(packed, "data/north")["a"][0] is Did.BUILT  # under the same name, another image


def test_a_killed_run_goes_on(packed: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jobs.predict_into

    def killed(predictor: Any, settings: Any, files: Any, outputs: Path, progress: Progress) -> None:
        if files[0].parent.name == "north":
            (outputs / "labels.tif").write_bytes(b"half")
            raise KeyboardInterrupt
        whole(predictor, settings, files, outputs, progress)

    monkeypatch.setattr(jobs, "predict_into", killed)
    with pytest.raises(KeyboardInterrupt):
        predict(packed)
    monkeypatch.undo()
    os.chdir(data.parent)
    empty(Path("out/.rvbuild/tmp/left"))  # of a run that had no time to clean up
    assert not Path("out/north").exists() and list(listed()) == ["a"]
    assert predict(packed) == {"a": (Did.FRESH, ""), "north/a": (Did.BUILT, "never built here")}
    assert names("out/.rvbuild/tmp") == []


def test_an_image_that_changes_meanwhile_is_not_recorded(
    packed: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = jobs.predict_into

    def meddled(predictor: Any, settings: Any, files: Any, outputs: Path, progress: Progress) -> None:
        whole(predictor, settings, files, outputs, progress)
        write_raster(files[0], image_array(20, 24, seed=8))

    monkeypatch.setattr(jobs, "predict_into", meddled)
    assert predict(packed, "data/a.tif") == {
        "a": (Did.FAILED, f"{data}/a.tif changed while it was predicted: nothing was kept; run again")
    }
    assert not Path("out/a").exists()


def test_the_manifest_says_what_was_made_from_what(packed: Path, data: Path) -> None:
    predict(packed)
    entry = listed()["north/a"]
    assert entry["bundle"]["path"] == "../packed/bundle.zip" and entry["engine"] == "torch"
    assert [image["path"] for image in entry["image"]] == ["../data/north/a.tif"]
    assert set(entry["files"]) == {path.name for path in Path("out/north/a").iterdir()}
    assert {"rvbuild", "torch", "rasterio"} <= entry["versions"].keys()
    first = Path("out/manifest.json").read_bytes()
    shutil.rmtree("out")
    predict(packed, "data/north/*.tif")  # elsewhere in it, and in another order
    predict(packed)
    shutil.rmtree("out/a")  # of the pattern: removed by hand, so it is not listed
    predict(packed, "data/*.tif", "data")
    assert Path("out/manifest.json").read_bytes() == first


def test_a_dry_run_writes_nothing(packed: Path, data: Path) -> None:
    with prepared(Order(packed, packed, ("data",), Path("out"), inline=True), Plain(False, -1), dry_run=True) as work:
        states = [planned.decision.state.value for planned in work.planned]
    assert states == ["missing", "missing"] and not Path("out").exists()
    predict(packed, "data/a.tif")
    before = names("out")
    with prepared(Order(packed, packed, ("data",), Path("out"), inline=True), Plain(False, -1), dry_run=True) as work:
        assert {p.scene.name: p.decision.state.value for p in work.planned} == {"a": "fresh", "north/a": "missing"}
    assert names("out") == before


def test_nothing_is_lost_to_results(packed: Path, data: Path) -> None:
    (empty(Path("out/a")) / "notes.txt").write_text("precious")
    with pytest.raises(DataError, match=r"a: holds notes\.txt"):
        predict(packed)
    shutil.rmtree("out")
    write_raster(empty(data / "a") / "b.tif", image_array(20, 20))
    with pytest.raises(DataError, match=r"a\.tif and .*a/b\.tif: the result of the second would be written into that"):
        predict(packed)
    write_raster(data / "manifest.json.tif", image_array(20, 20))
    with pytest.raises(DataError, match=r"would be called manifest\.json, which is reserved"):
        predict(packed, "data/manifest.json.tif")
    assert not Path("out").exists()
    Path("out").write_text("a file")
    with pytest.raises(UsageError, match="out: is a file; expected a directory"):
        predict(packed)


@pytest.mark.slow
def test_remote_images_items_and_lists(packed: Path, data: Path) -> None:
    item = {"type": "Feature", "id": "s1", "assets": {"data": {"href": "north/a.tif", "roles": ["data"]}}}
    (data / "item.json").write_text(json.dumps(item))
    with serving(data) as server:
        (data / "list.txt").write_text(f"{server.url}/a.tif\n{server.url}/item.json\n")
        words = (f"{server.url}/list.txt",)
        assert {name: did for name, (did, _) in predict(packed, *words).items()} == {"a": Did.BUILT, "s1": Did.BUILT}
        assert listed()["s1"]["image"][0]["url"] == f"{server.url}/north/a.tif"
        assert {did for did, _ in predict(packed, *words).values()} == {Did.FRESH}
        write_raster(data / "a.tif", image_array(20, 24, seed=5))
        did, why = predict(packed, *words)["a"]
        assert did is Did.BUILT and why.startswith(f"image changed: {server.url}/a.tif (known by its ETag")
    (local,) = predict_images(packed, [data / "north/a.tif"], Path("alone").absolute())
    assert digests(Path("out/s1")) == digests(local)


def test_another_augmentation_predicts_again(packed: Path, data: Path) -> None:
    predict(packed, "data/a.tif")
    before = digests(Path("out/a"))
    assert predict(packed, "data/a.tif", tta="d4") == {"a": (Did.BUILT, 'tta: (not set) → "d4"')}
    assert digests(Path("out/a")) != before
    assert predict(packed, "data/a.tif", tta="d4") == {"a": (Did.FRESH, "")}
    assert predict(packed, "data/a.tif", tta="none")["a"][0] is Did.BUILT
    assert digests(Path("out/a")) == before
