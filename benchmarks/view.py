"""`rvbuild view` on an image of 20 000² pixels, three bands: how long the first tile takes, and memory of the server.

The first tile is the first answer with pixels after the server has said its address: the file is opened for it. Tiles
of the view that a screen shows at first follow, several at a time as a browser asks for them.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.bar import Cost, Figure, cpu_of
from benchmarks.command import ENVIRONMENT

SIDE, ROWS = 20_000, 256
FIRST_STEP, SCREEN_STEP = 128, 16
AT_ONCE = 6

PROJECT = """\
[project]
task = "semantic_segmentation"

[classes]
building = "#ff0000"
ground = "#00ff00"

[scenes]
train = ["striped"]
validation = ["cog"]

[scene]
image = "{id}.tif"
labels = { vector = "labels.geojson", class = "building", background = "ground" }
"""


def run(folder: Path) -> list[Figure]:
    folder.mkdir()
    _write(folder)
    (folder / "p.toml").write_text(PROJECT)
    (folder / "labels.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    figures = []
    for scene, layout, bar in (("striped", "in strips, without overviews", 2.0), ("cog", "cloud-optimized", 0.3)):
        _forget(folder / f"{scene}.tif")
        server = Server(folder)
        try:
            started = server.cpu()
            first = server.tile(scene, FIRST_STEP, 0, 0)
            places = [(row, col) for row in range(5) for col in range(5)]
            start = time.perf_counter()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                waiting = [pool.submit(server.tile, scene, SCREEN_STEP, *place) for place in places]
            for tile in waiting:
                tile.result()
            screen = time.perf_counter() - start
            memory = server.most_memory() / 1e6
            cost = Cost("tile", (server.cpu() - started) / (1 + len(places)))
        finally:
            server.end()
        note = f"20 000² px, 3 bands, disk cache cold; the 25 tiles of a screen after it in {screen:.2f} s"
        figures.append(Figure(f"first tile of an image {layout}", first, bar, "s", True, note, cost))
        figures.append(
            Figure(f"memory of the page's server, image {layout}", memory, 500, "MB", True, "after these tiles")
        )
    return figures


class Server:
    """A server in a process of its own, and what asks it."""

    def __init__(self, folder: Path) -> None:
        words = [sys.executable, "-P", "-m", "rvbuild", "view", "--no-open", "p.toml"]
        self._process = subprocess.Popen(words, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self._address = urlsplit(self._process.stderr.readline().split()[-1])
        connection = http.client.HTTPConnection(self._address.netloc)
        connection.request("GET", f"/?{self._address.query}")
        self._cookie = (connection.getresponse().headers["set-cookie"] or "").partition(";")[0]
        connection.close()

    def tile(self, scene: str, step: int, row: int, col: int) -> float:
        """Return the seconds until a tile is there."""
        start = time.perf_counter()
        connection = http.client.HTTPConnection(self._address.netloc)
        connection.request("GET", f"/tile/image/{step}/{row}/{col}?scene={scene}", headers={"Cookie": self._cookie})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {content.decode()}")
        return time.perf_counter() - start

    def most_memory(self) -> int:
        """Return the highest resident memory so far, in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def cpu(self) -> float:
        """Return the CPU seconds that it has used so far."""
        return cpu_of(self._process.pid)

    def end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


def _write(folder: Path) -> None:
    """Write the same noisy image in strips and as a cloud-optimized GeoTIFF."""
    noise = np.random.default_rng(0).integers(0, 200, (3, ROWS, SIDE), dtype=np.uint8)
    place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5800000, 0.5, 0.5)}
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8"}
    with rasterio.open(folder / "striped.tif", "w", **profile, **place) as file:
        for row in range(0, SIDE, ROWS):
            rows = min(ROWS, SIDE - row)
            file.write(noise[:, :rows] + np.uint8(row // 400), window=Window(0, row, SIDE, rows))
    rasterio.shutil.copy(folder / "striped.tif", folder / "cog.tif", driver="COG", compress="deflate", level="1")


def _forget(path: Path) -> None:
    """Let the system forget what it has read of a file, as far as it allows."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
