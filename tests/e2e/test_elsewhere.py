"""Images and labels elsewhere: asked for in every run, and never remembered for ever."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from rvbuild.files import fetch
from tests.e2e.conftest import Space, write_image
from tests.range_server import RangeServer, serving


@pytest.fixture
def server(space: Space, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setattr(fetch, "PAUSE_S", 0.01)
    away = space.root.parent / "away"
    shutil.move(space.root / "data", away)
    with serving(away) as server:
        space.edit('"data/{id}.tif"', f'"{server.url}/{{id}}.tif"')
        space.edit('"data/{id}.geojson"', f'"{server.url}/{{id}}.geojson"')
        yield server


def test_remote_images_and_labels(space: Space, server: RangeServer) -> None:
    words = ("chip", "projects/p.toml")
    result = space.process(*words)
    assert result.status == 0 and "3 built" in result.out, result.out + result.err

    # Its seal asks the server, and nothing else happens.
    before = len(server.log)
    result = space.process(*words)
    assert result.status == 0 and "nothing to do" in result.out, result.out + result.err
    new = server.log[before:]
    assert sorted(new) == sorted(("HEAD", f"/{scene}.{kind}", "") for scene in "abc" for kind in ("tif", "geojson"))
    out = space.rvbuild("why", "chip:a", "projects/p.toml").out
    assert f"{server.url}/a.tif is known by its ETag" in out and "is fresh" in out

    # A changed file is seen.
    write_image(server.root / "a.tif", [(5, 5, 25, 20)], seed=9)
    result = space.rvbuild(*words, "--json")
    assert result.did("built") == {"chip:a"}, result.out + result.err
    assert result.reasons("chip:a") == [f"image changed: {server.url}/a.tif (known by its ETag)"]

    # Without an ETag it is the time; the kind is said.
    server.tell(["changed"])
    assert "(known by its Last-Modified and size)" in space.rvbuild("why", "chip:a", "projects/p.toml").out
    server.tell([])
    assert "(known by its content)" in space.rvbuild("why", "chip:a", "projects/p.toml").out
    server.tell(["etag", "changed"])
    assert space.rvbuild(*words, "--json").did("fresh") == {"chip:a", "chip:b", "chip:c"}

    # What is not there, and a server that is down.
    (server.root / "b.tif").unlink()
    result = space.rvbuild(*words, "-k")
    assert result.status == 1
    assert f"chip:b: image is missing: {server.url}/b.tif (not found on the server)" in result.out
    server.close()
    result = space.rvbuild(*words, "-k")
    assert result.status == 1
    assert f"{server.url}/a.tif (cannot be reached: Connection refused; is the server up?)" in result.out
    assert "Traceback" not in result.out + result.err


def test_training_from_remote_scenes(space: Space, server: RangeServer) -> None:
    space.edit("[chip]\n", "[chip]\nstore = false\n")
    words = ("train", "projects/p.toml", "--json")
    assert "train" in space.rvbuild(*words).did("built")
    write_image(server.root / "a.tif", [(5, 5, 25, 20)], seed=9)
    result = space.rvbuild(*words)
    assert result.did("built") == {"analyze:a", "analyze", "chip:a", "train"}, result.out
