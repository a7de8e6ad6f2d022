"""STAC items and item collections, and the files of their assets, by the specification at https://stacspec.org."""

from __future__ import annotations

import itertools
import json
import posixpath
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from rvbuild.errors import nearest
from rvbuild.files.address import is_url
from rvbuild.files.identity import CONTENT, UnreachableError
from rvbuild.files.readers import reason
from rvbuild.project.toml.keys import show
from rvbuild.settings.image import LayerDefaults, LayerSettings, Reduce, StackSettings

_RASTERS = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")
"""Prefixes of the media types of rasters."""

MAX_BYTES = 64 << 20
"""Maximum size of a local file of items; for remote files, see `rvbuild.files.fetch`."""


class StacError(ValueError):
    """An invalid item; the message describes the problem."""


class AssetError(StacError):
    """The assets that a project names do not exist in its items."""


@dataclass(frozen=True)
class Items:
    """The assets of items.

    Attributes
    ----------
    assets : tuple of str
        The names of the assets, in order.
    hrefs : tuple of tuple of str
        For each item, the file of each asset: an address, or a path if the item's own file is a path.
    """

    assets: tuple[str, ...]
    hrefs: tuple[tuple[str, ...], ...]


def parse(content: bytes, where: str, assets: Sequence[str] | None = None) -> Items:
    """Parse an item, or an item collection.

    Parameters
    ----------
    content
        The JSON.
    where
        Its path or address, the base of relative links.
    assets
        The assets to use. Default: those with the role `data`, or else all whose media type is a raster.

    Raises
    ------
    StacError
        It is neither an item nor an item collection, or a link cannot be read.
    AssetError
        An item lacks an asset.
    """
    items = features(content)
    names = tuple(assets) if assets is not None else data_assets(items[0])
    return Items(names, tuple(hrefs_of(item, names, where) for item in items))


def features(content: bytes) -> list[dict[str, object]]:
    """Return the items in a file: one, or those of a collection of items.

    Raises
    ------
    StacError
        It is neither an item nor an item collection.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StacError(f"is not JSON: {reason(error)}") from None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("Catalog", "Collection"):
        raise StacError(f"is a STAC {kind}; expected an item or an item collection; use one of its items")
    items = value.get("features") if kind == "FeatureCollection" else [value] if kind == "Feature" else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise StacError(
            "is neither a STAC item (a Feature with assets) nor a collection of items (a FeatureCollection)"
        )
    if not items:
        raise StacError("is an item collection without items")
    return items


def assets_of(item: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Return the assets of an item by name."""
    assets = item.get("assets")
    if not isinstance(assets, dict) or not all(isinstance(asset, dict) for asset in assets.values()):
        raise StacError(f"item {show(item.get('id', '?'))} has no assets")
    return assets


def roles_of(asset: Mapping[str, object]) -> Sequence[object]:
    """Return the roles of an asset, by the specification a list of strings."""
    roles = asset.get("roles")
    return roles if isinstance(roles, list) else ()


def data_assets(item: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of the assets with the role `data`, or else of those whose media type is a raster."""
    assets = assets_of(item)
    data = [name for name, asset in assets.items() if "data" in roles_of(asset)]
    rasters = [name for name, asset in assets.items() if str(asset.get("type", "")).lower().startswith(_RASTERS)]
    if not (names := data or rasters):
        raise AssetError(
            f"item {show(item.get('id', '?'))} has no asset with the role data, and none whose type is a "
            f"raster; list the assets to use, of {listed(assets)}"
        )
    return tuple(names)


def listed(names: Iterable[str]) -> str:
    """Return the names of assets for a message."""
    first = list(itertools.islice(names, _MOST_NAMED + 1))
    return ", ".join(first[:_MOST_NAMED]) + (", …" if len(first) > _MOST_NAMED else "") or "none"


_MOST_NAMED = 20
"""Maximum number of assets in a message."""


def hrefs_of(item: Mapping[str, object], names: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the files of the assets of an item; `where` is the base of relative links."""
    assets, id_ = assets_of(item), item.get("id", "?")
    hrefs = []
    for name in names:
        if name not in assets:
            hint = nearest(name, itertools.islice(assets, _COMPARED)) or f"; its assets are {listed(assets)}"
            raise AssetError(f"item {show(id_)} has no asset {show(name)}{hint}")
        href = assets[name].get("href")
        if not isinstance(href, str) or not href.strip():
            raise StacError(f"item {show(id_)}: asset {show(name)} has no href")
        try:
            hrefs.append(_resolved(href, where))
        except ValueError:
            raise StacError(
                f"item {show(id_)}: asset {show(name)} has an href that cannot be read: {show(href)}"
            ) from None
    return tuple(hrefs)


_COMPARED = 1000
"""Maximum number of assets to search for the nearest name."""


def _resolved(href: str, where: str) -> str:
    """Return the file that a link of an item refers to; raise a ValueError if the link is invalid."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in href):
        raise ValueError
    for virtual, scheme in (("/vsicurl/", ""), ("/vsis3/", "s3://"), ("/vsigs/", "gs://")):
        if href.startswith(virtual):
            href = scheme + href.removeprefix(virtual)
    if is_url(href):
        return href
    if href.startswith("file://") and not is_url(where):
        path = unquote(urlsplit(href).path)
        if not path.startswith("/") or "\0" in path:
            raise ValueError
        return path
    if "://" in href or href.startswith("/vsi"):
        raise ValueError
    if is_url(where):
        return _joined(where, href)
    return posixpath.normpath(posixpath.join(posixpath.dirname(where), href))


def _joined(address: str, href: str) -> str:
    """Return an absolute link; urljoin only supports http."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{urljoin(f'http://{rest}', href).removeprefix('http://')}"


def layout(
    items: Items, reduce: Reduce | None, primary: int, layer: LayerDefaults
) -> tuple[tuple[str, ...], StackSettings | None]:
    """Return the files of items in order, and the settings that combine them; None for one mosaic.

    Parameters
    ----------
    items
        The items: parts of one mosaic, or times.
    reduce
        How times become one image; None for a mosaic.
    primary
        The asset that defines the grid.
    layer
        The settings of every layer.
    """
    count = len(items.hrefs)
    nodata, resample = layer["nodata"], layer["resample"]
    bands: list[LayerSettings] = [
        {"files": 1, "channels": None, "nodata": nodata, "resample": resample, "name": name} for name in items.assets
    ]
    if reduce is None:
        files = tuple(hrefs[number] for number in range(len(items.assets)) for hrefs in items.hrefs)
        if len(items.assets) == 1:
            return files, None
        layers: list[LayerSettings] = [{**band, "files": count} for band in bands]
        return files, {"layers": layers, "primary": primary, "reduce": None}
    files = tuple(href for hrefs in items.hrefs for href in hrefs)
    time = bands[0]
    if len(bands) > 1:
        time = {**bands[0], "files": len(bands), "layers": bands, "primary": primary}
        del time["name"]
    return files, {"layers": [time] * count, "primary": 0, "reduce": reduce}


class StacReader:
    """Reads the files of items, each once, and records the state in which they were read.

    Attributes
    ----------
    reads : dict
        See `Project.reads`.
    """

    def __init__(self) -> None:
        self.reads: dict[str, tuple[int, int, int, int] | str | None] = {}
        self._contents: dict[str, bytes] = {}

    def items(self, workspace: Path, path: str, assets: Sequence[str] | None) -> Items:
        """Return the items in the file at `path`, which is an address, or relative to the workspace.

        Raises
        ------
        StacError
            The file cannot be read, or see `parse`.
        """
        return parse(self.content(workspace, path), path, assets)

    def content(self, workspace: Path, path: str) -> bytes:
        """Return the content of the file at `path`, which is an address, or relative to the workspace.

        Raises
        ------
        StacError
            The file cannot be read.
        """
        if path not in self._contents:
            self._contents[path] = self._remote(path) if is_url(path) else self._local(workspace / path)
        return self._contents[path]

    def _local(self, path: Path) -> bytes:
        try:
            status = path.stat()
            self.reads[str(path)] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            if status.st_size > MAX_BYTES:
                raise StacError(f"is larger than {MAX_BYTES >> 20} MiB; split it into several files")
            return path.read_bytes()
        except FileNotFoundError:
            raise StacError("no such file") from None
        except OSError as error:
            raise StacError(f"cannot be read ({error.strerror})") from None

    def _remote(self, url: str) -> bytes:
        from rvbuild.files import fetch  # imported late: only needed for remote files

        try:
            identity = fetch.identity(url)
            content = fetch.read(url)
        except UnreachableError as error:
            raise StacError(f"cannot be reached: {error}") from None
        if content is None:
            raise StacError("not found on the server")
        self.reads[url] = None if identity is None or identity.by == CONTENT else identity.digest
        return content
