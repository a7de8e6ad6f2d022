"""Projects that learn from chips of the user's own, without scenes: built, bundled, and as incremental as others."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Space

PROJECT = """\
[project]
task = "{task}"

[classes]
house = "#ff0000"
ground = "#00ff00"

[chip]
size_px = 32

[train]
chips = {{ folder = "chips" }}
model = "{model}"
model_args = {args}
pretrained = false
epochs = 1
batch_size = 4
"""

MODELS = {
    "chip_classification": ("cnn", "{ width = 2, depth = 1 }"),
    "semantic_segmentation": ("unet", "{ width = 2, depth = 1 }"),
    "object_detection": ("ssdlite_mobilenet_v3_large", "{}"),
}


def picture(seed: int, px: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (px, px, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_chips(root: Path, task: str) -> None:
    for split, count in (("train", 6), ("valid", 2)):
        folder = root / "chips" / split
        content: dict = {"images": [], "annotations": [], "categories": [{"id": 5, "name": "house"}]}
        for n in range(count):
            name = f"{n}.png"
            if task == "chip_classification":
                save(folder / ("house" if n % 2 else "ground") / name, picture(n))
                continue
            save(folder / "img" / name, picture(n))
            if task == "semantic_segmentation":
                save(folder / "labels" / name, (picture(n)[..., 0] > 128).astype(np.uint8))
            content["images"].append({"id": n, "file_name": name, "height": 32, "width": 32})
            content["annotations"].append({"id": n, "image_id": n, "category_id": 5, "bbox": [4, 5, 10, 12]})
        if task == "object_detection":
            (folder / "labels.json").write_text(json.dumps(content))


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Space:
    task = getattr(request, "param", "chip_classification")
    root = tmp_path / "ws"
    (root / "projects").mkdir(parents=True)
    model, args = MODELS[task]
    (root / "projects/p.toml").write_text(PROJECT.format(task=task, model=model, args=args))
    write_chips(root, task)
    return Space(root)


@pytest.mark.parametrize("own", MODELS, indirect=True)
def test_each_layout_becomes_chips(own: Space) -> None:
    result = own.rvbuild("analyze")
    assert result.status == 0, result.out + result.err
    assert own.rvbuild("chip").status == 0
    index = json.loads((own.root / "cache/p/chip/train/index.json").read_text())
    expected = {"chip_classification": [3, 3, 0], "object_detection": [6, 0, 0]}
    task = json.loads((own.root / "cache/p/chip/validation/index.json").read_text())["task"]
    assert index["count"] == 6 and index["size_px"] == 32 and index["bands"] == 3
    if task in expected:
        assert index["class_counts"] == expected[task]
    else:
        assert sum(index["class_counts"]) == 6 * 32 * 32
    assert (own.root / "cache/p/chip/train/contact.png").exists()
    stats = json.loads((own.root / "cache/p/analyze/stats.json").read_text())
    assert stats["bands"][0]["mean"] == pytest.approx(np.mean([picture(n)[..., 0] for n in range(6)]))


def test_build_and_increments(own: Space) -> None:
    result = own.rvbuild("build", "--json")
    assert result.status == 0, result.out + result.err
    assert result.did("built") == {"analyze", "chip:train", "chip:validation", "train", "bundle", "report"}
    assert own.rvbuild("build").out.startswith("nothing to do (6 artifacts up to date)")
    assert "good (chip_classification; scenes: none; 3 classes)" in own.rvbuild("check").out
    path = own.root / "chips/train/house/1.png"
    path.touch()
    assert own.rvbuild("build", "--json").did("fresh") == {*result.did("built")}
    save(path, picture(77))
    assert own.rvbuild("build", "--json").did("built") == {"analyze", "chip:train", "train", "bundle", "report"}
    assert own.rvbuild("build").status == 0
    save(own.root / "chips/train/ground/99.png", picture(99))  # a new file is seen, and a new folder
    assert "chip:train" in own.rvbuild("build", "--json").did("built")
    save(own.root / "chips/train/horse/1.png", picture(5))
    result = own.rvbuild("build")
    assert result.status == 1 and "'horse' is not a class; did you mean \"house\"?" in result.out
    # The result is that of a clean build.
    shutil.rmtree(own.root / "chips/train/horse")
    assert own.rvbuild("build").status == 0
    clean = Space(own.root.parent / "clean")
    shutil.copytree(own.root, clean.root, ignore=shutil.ignore_patterns("cache"))
    assert clean.rvbuild("build").status == 0
    assert own.shown() == clean.shown()
    predicted = own.rvbuild("predict", "cache/p/bundle/p.zip", "chips/valid/house/1.png", "-o", "out")
    assert predicted.status == 0, predicted.out + predicted.err


@pytest.mark.parametrize("own", ["object_detection"], indirect=True)
def test_a_detector_learns_from_a_coco_folder_again_when_a_box_is_edited(own: Space) -> None:
    result = own.rvbuild("build", "--json")
    assert result.status == 0, result.out + result.err
    everything = {"analyze", "chip:train", "chip:validation", "train", "bundle", "report"}
    assert result.did("built") == everything
    line = json.loads((own.root / "cache/p/train/log.jsonl").read_text())
    assert set(line["train_losses"]) == set(line["val_losses"]) == {"bbox_regression", "classification"}
    assert set(line["metrics"]["ap50"]) == {"house", "ground"}
    labels = own.root / "chips/train/labels.json"
    content = json.loads(labels.read_text())
    content["info"] = {"contributor": "somebody"}
    content["categories"].append({"id": 9, "name": "unused"})
    labels.write_text(json.dumps(content, indent=2))
    # The chips are looked at again, and are the same.
    result = own.rvbuild("build", "--json")
    assert result.did("built") <= {"chip:train"} and result.did("fresh") >= everything - {"chip:train"}
    content["annotations"][3]["bbox"][2] += 1
    content["annotations"].pop()  # an image without a box is background
    labels.write_text(json.dumps(content))
    result = own.rvbuild("build", "--json")
    assert result.did("built") == {"chip:train", "train", "bundle", "report"}
    assert result.did("fresh") == {"analyze", "chip:validation"}
    index = json.loads((own.root / "cache/p/chip/train/index.json").read_text())
    assert index["count"] == 6 and index["class_counts"] == [5, 0, 0]
    # A box of validation: scores are new, and in `select = "last"` the model is the same.
    model = (own.root / "cache/p/train/model.safetensors").read_bytes()
    valid = own.root / "chips/valid/labels.json"
    valid.write_text(valid.read_text().replace("[4, 5, 10, 12]", "[9, 9, 20, 20]"))
    assert own.rvbuild("train", "--json").did("built") == {"chip:validation", "train"}
    assert (own.root / "cache/p/train/model.safetensors").read_bytes() == model
    predicted = own.rvbuild("predict", "cache/p/bundle/p.zip", "chips/valid/img/1.png", "-o", "out")
    assert predicted.status == 0, predicted.out + predicted.err
    assert (own.root / "out/1/boxes.geojson").exists()


def test_mistakes(own: Space) -> None:
    own.edit('folder = "chips"', 'folder = "chops"')
    result = own.rvbuild("build")
    assert result.status == 2 and "train.chips.folder: no such folder: chops/train" in result.err
    own.edit('folder = "chops"', 'folder = "chips"')
    own.edit("[chip]\nsize_px = 32\n", "")
    result = own.rvbuild("chip")
    assert result.status == 1 and "has 32 x 32 px, but chip.size_px is 300 by default" in result.out
    own.edit("[train]", '[scenes]\ntrain = ["a"]\n\n[train]')
    result = own.rvbuild("check")
    assert result.status == 2 and "from scenes or from train.chips, not from both" in result.err


@pytest.mark.parametrize("own", ["semantic_segmentation"], indirect=True)
def test_labels_that_do_not_fit(own: Space) -> None:
    save(own.root / "chips/train/labels/0.png", np.full((32, 32), 7, dtype=np.uint8))
    result = own.rvbuild("chip")
    assert result.status == 1 and "holds the value 7, expected class ids from 0 to 2" in result.out
    save(own.root / "chips/train/labels/0.tif", np.full((32, 32), 0.5, dtype=np.float32))
    (own.root / "chips/train/labels/0.png").unlink()
    result = own.rvbuild("chip")
    assert "holds values of float32, expected class ids from 0 to 2" in result.out
    (own.root / "chips/train/labels/0.tif").unlink()
    result = own.rvbuild("chip")
    assert "0.png: there is no file 0.* in labels/" in result.out


def zip_folder(folder: Path, archive: Path, inside: str = "") -> None:
    """Write the files of a folder into a zip, below a folder `inside` of it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, f"{inside}{path.relative_to(folder).as_posix()}")


@pytest.mark.parametrize("own", MODELS, indirect=True)
def test_zips_hold_what_folders_hold(own: Space) -> None:
    assert own.rvbuild("analyze").status == 0 and own.rvbuild("chip").status == 0
    shown = own.shown()
    zip_folder(own.root / "chips", own.root / "chips.zip")
    zip_folder(own.root / "chips", own.root / "wrapped.zip", "some chips/")
    (own.root / "zips").mkdir()
    shutil.copy(own.root / "chips.zip", own.root / "zips/one.ZIP")
    shutil.rmtree(own.root / "chips")
    folder = "chips"
    for other in ("chips.zip", "wrapped.zip", "zips"):
        own.edit(f'"{folder}"', f'"{other}"')
        folder = other
        result = own.rvbuild("analyze", "--json")
        assert result.status == 0, result.out + result.err
        # A key does not depend on what a zip is called.
        assert result.did("restored" if other == "zips" else "built") == {"chip:train"}
        assert result.did("fresh") == {"analyze"}
        assert own.rvbuild("chip").status == 0
        assert own.shown() == shown


def test_several_folders_and_zips_are_one_set(own: Space) -> None:
    zip_folder(own.root / "chips", own.root / "more.zip")
    own.edit('folder = "chips"', 'folder = ["chips", "more.zip", "last"]')
    save(own.root / "last/train/house/1.png", picture(11))
    result = own.rvbuild("chip", "--json")
    assert result.did("built") == {"chip:train", "chip:validation"}, result.out + result.err
    index = json.loads((own.root / "cache/p/chip/train/index.json").read_text())
    assert index["count"] == 6 + 6 + 1 and index["class_counts"] == [7, 6, 0]
    assert own.rvbuild("build").status == 0
    # An edit of training images in a zip reaches training alone; the same images in another zip reach nothing.
    zip_folder(own.root / "chips", own.root / "more.zip", "chips/")
    result = own.rvbuild("build", "--json")
    assert result.did("built") == {"chip:train", "chip:validation"}
    save(own.root / "chips/train/house/1.png", picture(77))
    zip_folder(own.root / "chips", own.root / "more.zip")
    result = own.rvbuild("build", "--json")
    assert {"chip:train", "train"} <= result.did("built")
    assert json.loads((own.root / "cache/p/chip/validation/index.json").read_text())["count"] == 2 + 2


def test_a_new_zip_in_a_folder_of_zips_is_seen(own: Space) -> None:
    (own.root / "zips").mkdir()
    zip_folder(own.root / "chips", own.root / "zips/a.zip")
    own.edit('folder = "chips"', 'folder = "zips"')
    assert own.rvbuild("chip").status == 0
    assert own.rvbuild("chip").out.startswith("nothing to do")
    shutil.copy(own.root / "zips/a.zip", own.root / "zips/b.zip")
    assert own.rvbuild("chip", "--json").did("built") == {"chip:train", "chip:validation"}


def test_mistakes_in_zips(own: Space) -> None:
    own.edit('folder = "chips"', 'folder = "chops.zip"')
    result = own.rvbuild("build")
    assert result.status == 2 and "train.chips.folder: no such file: chops.zip" in result.err
    archive = own.root / "chops.zip"
    archive.write_text("no zip")
    result = own.rvbuild("chip")
    assert result.status == 2 and "chops.zip: cannot be read as a zip: File is not a zip file" in result.err
    zip_folder(own.root / "chips/train", archive, "trains/")
    result = own.rvbuild("status")
    assert result.status == 2 and "chops.zip: expected a folder train/ in the zip, found trains/ground/0" in result.err
    zip_folder(own.root / "chips/train", archive, "train/hose/")
    result = own.rvbuild("chip")
    assert result.status == 1
    assert "chops.zip/train/hose/ground/0.png: expected <class>/<image>, found hose/ground/0.png" in result.out
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("train/house/0.png", b"no image")
    result = own.rvbuild("chip")
    assert result.status == 1 and "chops.zip/train/house/0.png: cannot be opened as a raster" in result.out


def test_an_image_that_is_no_chip_is_not_read(own: Space) -> None:
    Image.new("1", (9000, 9000)).save(own.root / "chips/train/house/1.png")
    assert (own.root / "chips/train/house/1.png").stat().st_size < 20_000
    result = own.rvbuild("chip")
    assert result.status == 1 and "1.png: has 9000 x 9000 px, too large for a chip" in result.out


@pytest.mark.parametrize("own", ["chip_classification", "semantic_segmentation"], indirect=True)
def test_what_tools_leave_beside_chips_does_not_count(own: Space) -> None:
    assert own.rvbuild("chip").status == 0
    train = own.root / "chips/train"
    image = next(train.rglob("1.png"))
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "1.pgw", "1.png.ovr"):
        (image.parent / name).write_bytes(b"1")
    shutil.copytree(image.parent, image.parent / ".ipynb_checkpoints")
    (train / "Thumbs.db").write_bytes(b"1")
    (image.parent / "1.png.aux.xml").write_text("<PAMDataset/>")
    assert own.rvbuild("chip", "--json").did("built") == set()
    # What changes pixels is no leftover, though it is no chip.
    nodata = '<PAMRasterBand band="1"><NoDataValue>9</NoDataValue></PAMRasterBand>'
    (image.parent / "1.png.aux.xml").write_text(f"<PAMDataset>{nodata}</PAMDataset>")
    assert own.rvbuild("chip", "--json").did("built") == {"chip:train"}
    index = json.loads((own.root / "cache/p/chip/train/index.json").read_text())
    assert index["count"] == 6
    # Nor does it in a zip.
    with zipfile.ZipFile(own.root / "chips.zip", "w") as file:
        for path in (own.root / "chips").rglob("*"):
            file.write(path, path.relative_to(own.root))
    project = own.root / "projects/p.toml"
    project.write_text(project.read_text().replace('"chips"', '"chips.zip"'))
    assert own.rvbuild("chip").status == 0
    assert json.loads((own.root / "cache/p/chip/train/index.json").read_text())["count"] == 6


def test_a_fourth_band_of_chips_is_read_as_one_of_all(own: Space) -> None:
    for number, path in enumerate(sorted((own.root / "chips").rglob("*.png"))):
        fourth = np.full((32, 32, 1), 255) if number == 2 else picture(number)[..., :1]
        save(path, np.concatenate([picture(number), fourth], axis=2).astype(np.uint8))
    result = own.rvbuild("chip")
    assert result.status == 0, result.out
    assert json.loads((own.root / "cache/p/chip/train/index.json").read_text())["bands"] == 4


def test_chips_with_a_colour_table(own: Space) -> None:
    for number, path in enumerate(sorted((own.root / "chips").rglob("*.png"))):
        Image.fromarray(picture(number)).quantize(16).save(path)
    result = own.rvbuild("chip")
    assert result.status == 0 and "has a colour table" in result.out + result.err
    assert json.loads((own.root / "cache/p/chip/train/index.json").read_text())["bands"] == 1
    own.edit('folder = "chips"', 'folder = "chips", palette = true')
    result = own.rvbuild("chip")
    assert result.status == 0 and "has a colour table" not in result.out + result.err
    assert json.loads((own.root / "cache/p/chip/train/index.json").read_text())["bands"] == 3
