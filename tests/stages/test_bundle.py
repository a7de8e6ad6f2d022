from __future__ import annotations

import json
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.checkpoint import read_info, write_info
from rvbuild.progress import Silent
from rvbuild.stages import bundle, bundle_reader, bundle_zip, predict
from rvbuild.stages.bundle_reader import open_bundle, predict_images
from tests.stages.sample_scenes import digests, empty, image_array, predict_settings, write_model, write_raster

MEMBERS = ["manifest.json", "model.json", "model.safetensors", "project.json", "stats.json"]

CODE = """\
import torch
from torch import nn


def small(in_channels, num_classes):
    torch.manual_seed(0)
    return nn.Conv2d(in_channels, num_classes, 3, padding=1)
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def settings(**predict_: Any) -> dict[str, Any]:
    return {"project": "demo", **predict_settings(**predict_)}


def pack(folder: Path, model: list[Path], **predict_: Any) -> Path:
    """Run the stage; return the zip."""
    stats = folder / "stats.json"
    stats.write_text('{"bands": [], "dtype": "uint8"}\n')
    outputs = empty(folder / "packed")
    bundle.run({"model": model, "stats": [stats], "code": []}, settings(**predict_), outputs, Silent())
    return outputs / "bundle.zip"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its bundle, made once."""
    folder = tmp_path_factory.mktemp("made")
    pack(folder, write_model(folder / "model"))
    return folder


@pytest.fixture
def packed(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path, dirs_exist_ok=True)) / "packed" / "bundle.zip"


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, members: dict[str, bytes], *, manifest: bool = True) -> Path:
    """Write a bundle with other members; with a manifest that fits them, or the one that is among them."""
    out = path.with_name("changed.zip")
    if manifest:
        bundle_zip.write_zip(out, {k: v for k, v in members.items() if k != "manifest.json"}, lambda: None)
        return out
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out


def refuse(path: Path, into: Path, message: str) -> None:
    into.mkdir(exist_ok=True)
    before = set(into.parent.rglob("*")) | {into}
    with pytest.raises(DataError, match=message) as caught:
        open_bundle(path, into)
    assert str(path) in str(caught.value)
    assert {p for p in into.parent.rglob("*") if not p.is_relative_to(into)} <= before


# The stage


def test_what_is_in_a_bundle(packed: Path, tmp_path: Path) -> None:
    members = contents(packed)
    assert sorted(members) == MEMBERS
    assert members["model.safetensors"] == (tmp_path / "model" / "model.safetensors").read_bytes()
    assert json.loads(members["project.json"]) == settings()
    manifest = json.loads(members.pop("manifest.json"))
    assert manifest == {
        "format": "rvbuild bundle 1",
        "members": {
            name: {"size": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}
            for name, content in members.items()
        },
    }


def test_runs_are_equal_byte_for_byte(tmp_path: Path) -> None:
    one, other = (pack(empty(tmp_path / name), write_model(tmp_path / name / "model")) for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_entries_have_no_dates_of_their_own(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = [entry.filename for entry in archive.infolist()]
        assert names == [*sorted(set(names) - {"manifest.json"}), "manifest.json"]
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.compress_type == zipfile.ZIP_STORED
            assert stat.filemode(entry.external_attr >> 16) == "-rw-r--r--"


# Opening


def test_opening_gives_the_settings_and_the_files(packed: Path, tmp_path: Path) -> None:
    into = empty(tmp_path / "into")
    assert open_bundle(packed, into) == settings()
    assert sorted(path.name for path in into.iterdir()) == sorted(set(MEMBERS) - {"manifest.json"})
    assert (into / "model.json").read_bytes() == (tmp_path / "model" / "model.json").read_bytes()


def test_no_such_file(tmp_path: Path) -> None:
    refuse(tmp_path / "none.zip", tmp_path / "into", "there is no such file")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_file_that_is_cut_off(packed: Path, tmp_path: Path, keep: float) -> None:
    data = packed.read_bytes()
    short = tmp_path / "short.zip"
    short.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    refuse(short, tmp_path / "into", "cannot be read as a bundle")


def test_no_flipped_bit_goes_unnoticed(packed: Path, tmp_path: Path) -> None:
    """Wherever it is: it is refused, or it is in what has no meaning and the members are the same."""
    data = packed.read_bytes()
    expected = contents(packed)
    for position in {*range(0, len(data), len(data) // 150), *range(len(data) - 400, len(data), 3)}:
        broken = tmp_path / "broken.zip"
        broken.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        into = empty(tmp_path / f"into{position}")
        try:
            open_bundle(broken, into)
        except DataError:
            continue
        assert all((into / path.name).read_bytes() == expected[path.name] for path in into.iterdir())


def test_a_changed_member_is_noticed(packed: Path, tmp_path: Path) -> None:
    members = contents(packed)
    members["stats.json"] = members["stats.json"].replace(b"uint8", b"uint9")
    refuse(rewrite(packed, members, manifest=False), tmp_path / "into", r"damaged or was changed: .*stats\.json")


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "stats.json", "project.json", "manifest.json"])
def test_a_missing_member(packed: Path, tmp_path: Path, name: str) -> None:
    members = {key: value for key, value in contents(packed).items() if key != name}
    refuse(rewrite(packed, members, manifest=False), tmp_path / "into", f"lacks {name}")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/tmp/evil.json",
        "code/../../evil.py",
        "code/../model.json",
        "code\\..\\..\\evil.py",
        "C:/evil.py",
        "code/a.py/../../b.py",
        "code//a.py",
        "code/.py",
        "code/a.PY",
        "code/a.py\n",
        "stats.json ",
        "extra.txt",
        "code/",
        "code/sub/",
    ],
)
def test_unknown_and_hostile_names(packed: Path, tmp_path: Path, name: str) -> None:
    refuse(rewrite(packed, {**contents(packed), name: b"x"}, manifest=False), tmp_path / "into", "unexpected member")


def test_a_name_with_a_nul(packed: Path, tmp_path: Path) -> None:
    """Python's zipfile cuts names at a NUL: the checked name must be the whole one."""
    path = rewrite(packed, {**contents(packed), "stats.jsonXevil": b"x"}, manifest=False)
    path.write_bytes(path.read_bytes().replace(b"stats.jsonXevil", b"stats.json\x00evil"))
    refuse(path, tmp_path / "into", "unexpected member")


def test_a_member_that_is_there_twice(packed: Path, tmp_path: Path) -> None:
    path = rewrite(packed, contents(packed), manifest=False)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("project.json", b"{}")
    refuse(path, tmp_path / "into", '"project.json" is there twice')


def with_entry(packed: Path, name: str, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """Write the bundle with one entry changed before it is written."""
    out = packed.with_name("changed.zip")
    with zipfile.ZipFile(out, "w") as archive:
        for member, content in contents(packed).items():
            entry = zipfile.ZipInfo(member)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            if member == name:
                change(entry)
            archive.writestr(entry, content)
    return out


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_symbolic_links_and_other_things(packed: Path, tmp_path: Path, kind: int) -> None:
    def change(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = (kind | 0o777) << 16

    refuse(with_entry(packed, "stats.json", change), tmp_path / "into", '"stats.json" is not a plain file')


def test_compressed_members(packed: Path, tmp_path: Path) -> None:
    """So there can be no bomb."""

    def change(entry: zipfile.ZipInfo) -> None:
        entry.compress_type = zipfile.ZIP_DEFLATED

    refuse(with_entry(packed, "stats.json", change), tmp_path / "into", '"stats.json" is compressed')


def central(path: Path, name: str, offset: int, value: bytes) -> Path:
    """Overwrite bytes of a member's entry in the central directory."""
    data = bytearray(path.read_bytes())
    start = data.rindex(name.encode()) - 46
    assert data[start : start + 4] == b"PK\x01\x02"
    data[start + offset : start + offset + len(value)] = value
    out = path.with_name("changed.zip")
    out.write_bytes(bytes(data))
    return out


def test_encrypted_members(packed: Path, tmp_path: Path) -> None:
    refuse(central(packed, "stats.json", 8, b"\x01\x00"), tmp_path / "into", '"stats.json" is encrypted')


def test_sizes_that_the_file_cannot_hold(packed: Path, tmp_path: Path) -> None:
    huge = struct.pack("<II", 3_000_000_000, 3_000_000_000)
    path = central(packed, "model.safetensors", 20, huge)
    refuse(path, tmp_path / "into", r"claim 3,000,0.* bytes, the file has")


def test_a_text_that_is_too_long(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_zip, "MAX_TEXT_BYTES", 100)
    refuse(packed, tmp_path / "into", r'"model\.json" has .* bytes; expected at most 100')


def test_too_many_members(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_zip, "MAX_MEMBERS", 4)
    refuse(packed, tmp_path / "into", "it has 5 members, a bundle at most 4")


def test_another_zip_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    refuse(path, tmp_path / "into", 'not a bundle of rvbuild: it has an unexpected member "photo.jpg"')


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{", "cannot be read as a bundle"),
        (b"[]", r"expected the format"),
        (b"[" * 100_000, "cannot be read as a bundle"),
        (b'{"format": "rvbuild bundle 9", "members": {}}', "found 'rvbuild bundle 9'"),
        (b'{"format": "rvbuild bundle 1", "members": {}}', "expected exactly the members"),
        (b'{"format": "rvbuild bundle 1"}', "expected exactly the members"),
    ],
)
def test_a_manifest_of_another_form(packed: Path, tmp_path: Path, manifest: bytes, message: str) -> None:
    members = {**contents(packed), "manifest.json": manifest}
    refuse(rewrite(packed, members, manifest=False), tmp_path / "into", message)


def change_settings(packed: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    members = contents(packed)
    content = json.loads(members["project.json"])
    change(content)
    return rewrite(packed, {**members, "project.json": json.dumps(content).encode()})


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("chip_px", "16", "chip_px: expected a whole number"),
        ("chip_px", 10**9, "chip_px: expected a whole number"),
        ("chip_px", True, "chip_px: expected a whole number"),
        ("task", "drive_car", "unknown task 'drive_car'"),
        ("channels", [], "channels: expected null or a list"),
        ("channels", [-1], "channels: expected null or a list"),
        ("image", [], "image: expected an object"),
        ("image.nodata", "0", r"image\.nodata: expected null"),
        ("predict.stride_px", 0, r"predict\.stride_px: expected a whole number"),
        ("predict.blend", "max", r"predict\.blend: expected one of"),
        ("predict.scores", 0, r"predict\.scores: expected one of"),
        ("predict.vectors", [{"class": "car"}], r"predict\.vectors\[0\]\.format is missing"),
        ("predict.device", None, r"predict\.device: expected a text"),
        ("null_id", 9, "one of which is null_id"),
        ("classes", [], "at least two classes"),
        ("classes", [1, 2], "at least two classes"),
    ],
)
def test_settings_of_another_form(packed: Path, tmp_path: Path, keys: str, value: Any, message: str) -> None:
    def change(content: dict[str, Any]) -> None:
        *outer, last = keys.split(".")
        for key in outer:
            content = content[key]
        content[last] = value

    refuse(change_settings(packed, change), tmp_path / "into", rf"project\.json: .*{message}")


@pytest.mark.parametrize("name", ["../../car", "a/b", "", ".hidden", "a\\b", "x" * 300, "a\x00b"])
def test_class_names_that_are_paths(packed: Path, tmp_path: Path, name: str) -> None:
    """Polygons are written to a file with the name of the class."""

    def change(content: dict[str, Any]) -> None:
        content["classes"][0]["name"] = name

    refuse(change_settings(packed, change), tmp_path / "into", r"classes\[0\]\.name: expected a name without /")


def test_settings_and_model_of_two_trainings(packed: Path, tmp_path: Path) -> None:
    refuse(change_settings(packed, lambda s: s.update(chip_px=32)), tmp_path / "into", "chip_px differs between")


@pytest.mark.parametrize("name", ["model.json", "project.json", "stats.json"])
@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe", b"{}"])
def test_members_that_are_not_their_json(packed: Path, tmp_path: Path, name: str, content: bytes) -> None:
    if (name, content) == ("stats.json", b"{}"):
        pytest.skip("prediction takes its normalisation from the model")
    refuse(rewrite(packed, {**contents(packed), name: content}), tmp_path / "into", name)


# Predicting


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "new.tif", image_array(40, 50, seed=5))


def test_predictions_equal_those_of_the_stage(tmp_path: Path, image: Path) -> None:
    vectors = [
        {"class": name, "format": form, "min_area_units": 1.0, "simplify_px": 0.0, "denoise_px": 2}
        for name, form in (("car", "geojson"), ("tree", "gpkg"))
    ]
    model = write_model(tmp_path / "model")
    how: dict[str, Any] = {"scores": "uint8", "rgb": True, "vectors": vectors, "blend": "cosine"}
    staged = empty(tmp_path / "staged")
    predict.run({"image": [image], "aoi": [], "model": model}, predict_settings(**how), staged, Silent())

    found = predict_images(pack(tmp_path, model, **how), [image], tmp_path / "out", Silent())

    assert found == [tmp_path / "out" / "new"]
    assert digests(found[0]) == digests(staged)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert stat.S_IMODE(found[0].stat().st_mode) == stat.S_IMODE(staged.stat().st_mode)


def test_several_images(packed: Path, tmp_path: Path, image: Path) -> None:
    other = write_raster(empty(tmp_path / "elsewhere") / "other.tif", image_array(20, 20, seed=6))
    found = predict_images(packed, [image, other], tmp_path / "out", Silent())
    assert [path.name for path in found] == ["new", "other"]
    assert all([file.name for file in path.iterdir()] == ["labels.tif"] for path in found)


def test_an_earlier_result_is_replaced(packed: Path, tmp_path: Path, image: Path) -> None:
    (target,) = predict_images(packed, [image], tmp_path / "out", Silent())
    first = digests(target)
    (target / "labels.tif").write_bytes(b"old")
    (target / "car.geojson").write_bytes(b"old")
    predict_images(packed, [image], tmp_path / "out", Silent())
    assert digests(target) == first


def test_an_earlier_result_stays_if_prediction_fails(packed: Path, tmp_path: Path, image: Path) -> None:
    (target,) = predict_images(packed, [image], tmp_path / "out", Silent())
    first = digests(target)
    write_raster(image, image_array(40, 50, bands=5))
    with pytest.raises(DataError, match="expected 3 bands of type uint8"):
        predict_images(packed, [image], tmp_path / "out", Silent())
    assert digests(target) == first
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


def test_an_earlier_result_stays_if_replacing_fails(
    packed: Path, tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target,) = predict_images(packed, [image], tmp_path / "out", Silent())
    first = digests(target)
    rename, calls = Path.rename, 0

    def fail_second(self: Path, other: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError("no")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail_second)
    with pytest.raises(OSError, match="no"):
        predict_images(packed, [image], tmp_path / "out", Silent())
    assert digests(target) == first


def test_what_is_no_result_is_never_replaced(packed: Path, tmp_path: Path, image: Path) -> None:
    mine = empty(tmp_path / "out" / "new") / "notes.txt"
    mine.write_text("precious")
    with pytest.raises(DataError, match=r"new: holds notes\.txt"):
        predict_images(packed, [image], tmp_path / "out", Silent())
    assert mine.read_text() == "precious"


def test_an_image_beside_its_result_is_never_replaced(packed: Path, tmp_path: Path) -> None:
    folder = empty(tmp_path / "out" / "scene")
    image = write_raster(folder / "scene.tif", image_array(20, 20))
    label = write_raster(empty(tmp_path / "out" / "labels") / "labels.tif", image_array(20, 20))
    for path in (image, label):
        before = path.read_bytes()
        with pytest.raises(DataError, match=rf"{path.name}: lies where its result would be written"):
            predict_images(packed, [path], tmp_path / "out", Silent())
        assert path.read_bytes() == before


def test_rasters_and_vectors_of_other_names_are_never_replaced(packed: Path, tmp_path: Path, image: Path) -> None:
    target = empty(tmp_path / "out" / "new")
    for name in ("dem.tif", "roads.gpkg"):
        (target / name).write_bytes(b"precious")
        with pytest.raises(DataError, match=name):
            predict_images(packed, [image], tmp_path / "out", Silent())
        (target / name).unlink()


def test_a_file_in_the_way(packed: Path, tmp_path: Path, image: Path) -> None:
    (empty(tmp_path / "out") / "new").write_text("x")
    with pytest.raises(DataError, match="is in the way"):
        predict_images(packed, [image], tmp_path / "out", Silent())


def test_images_of_one_name(packed: Path, tmp_path: Path, image: Path) -> None:
    other = Path(shutil.copy(image, empty(tmp_path / "other") / "NEW.png"))
    with pytest.raises(DataError, match=r"new\.tif and .*NEW\.png: both results would be written to"):
        predict_images(packed, [image, other], tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


def test_an_image_that_does_not_exist(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tif: there is no such file; expected an image"):
        predict_images(packed, [tmp_path / "none.tif"], tmp_path / "out", Silent())


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint16")])
def test_an_image_unlike_the_training(packed: Path, tmp_path: Path, bands: int, dtype: str) -> None:
    image = write_raster(tmp_path / "odd.tif", image_array(20, 20, bands=bands, dtype=dtype))
    with pytest.raises(DataError, match=rf"odd\.tif: expected 3 bands of type uint8.*found {bands} of type {dtype}"):
        predict_images(packed, [image], tmp_path / "out", Silent())
    assert list((tmp_path / "out").iterdir()) == []


def test_the_device_can_be_chosen(tmp_path: Path, image: Path) -> None:
    path = pack(tmp_path, write_model(tmp_path / "model"), device="cuda:99")
    with pytest.raises(ModelError, match="cuda:99"):
        predict_images(path, [image], tmp_path / "out", Silent())
    assert predict_images(path, [image], tmp_path / "out", Silent(), device="cpu")


# Code


def with_code(folder: Path, code: dict[str, str] | None, name: str = "nets.small:small") -> list[Path]:
    """Write a model that is made by the user's own Python."""
    from dataclasses import replace

    from safetensors.torch import save_file

    weights, description = write_model(folder)
    info = replace(read_info(description), model=name, model_args={}, code=code)
    write_info(description, info)
    save_file({"weight": torch.ones(2, 3, 3, 3), "bias": torch.tensor([0.0, 1.0])}, weights)
    return [weights, description]


def test_code_is_packed_to_be_read(tmp_path: Path) -> None:
    path = pack(tmp_path, with_code(tmp_path / "model", {"nets.small": CODE, "nets": ""}))
    members = contents(path)
    assert members["code/nets/small.py"].decode() == CODE
    assert members["code/nets.py"] == b""
    open_bundle(path, empty(tmp_path / "into"))
    assert (tmp_path / "into" / "code" / "nets" / "small.py").read_text() == CODE


def test_code_runs_only_if_it_is_allowed(tmp_path: Path, image: Path) -> None:
    marker = tmp_path / "marker"
    code = CODE + f"\nopen({str(marker)!r}, 'w').close()\n"
    path = pack(tmp_path, with_code(tmp_path / "model", {"nets.small": code}))
    with pytest.raises(ModelError, match=r'"nets\.small:small" is made by Python code .* allow it with --allow-code'):
        predict_images(path, [image], tmp_path / "out", Silent())
    assert not marker.exists()
    (target,) = predict_images(path, [image], tmp_path / "out", Silent(), allow_code=True)
    assert marker.exists()
    assert (target / "labels.tif").exists()


def test_an_installed_factory_is_code_too(tmp_path: Path, image: Path) -> None:
    """`os:system` is a factory that any Python has."""
    path = pack(tmp_path, with_code(tmp_path / "model", None, "os:system"))
    with pytest.raises(ModelError, match="is made by Python code"):
        predict_images(path, [image], tmp_path / "out", Silent())


def test_code_that_differs_from_what_would_run(tmp_path: Path) -> None:
    path = pack(tmp_path, with_code(tmp_path / "model", {"nets.small": CODE}))
    members = contents(path)
    harmless = {**members, "code/nets/small.py": b"def small(): ...\n"}
    refuse(rewrite(path, harmless), tmp_path / "into", r"code/nets/small\.py differs from the module")
    more = {**members, "code/more.py": b""}
    refuse(rewrite(path, more), tmp_path / "into2", "not the modules that model.json embeds")
    del members["code/nets/small.py"]
    refuse(rewrite(path, members), tmp_path / "into3", "not the modules that model.json embeds")


def test_the_members_are_known_in_one_place() -> None:
    assert sorted({*bundle_reader.MEMBERS, bundle_zip.MANIFEST}) == MEMBERS
