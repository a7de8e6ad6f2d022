"""One input of each kind that rvbuild keeps itself or receives from others: mutated, read as builds do, and judged.

Bytes are mutated, and so are values inside of JSON, which goes deeper. A reader may refuse with a message; what it
accepts must be plain, and nothing outside of the input's own folder may change.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy

from rvbuild.engine.keys.artifact import digest
from rvbuild.engine.plan import seal
from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.store import inside, ownership
from rvbuild.engine.store.action import Action
from rvbuild.engine.store.leases import OwnLease, leases
from rvbuild.engine.store.state import Output, Record, State
from rvbuild.engine.store.store import Store
from rvbuild.engine.workspace import is_output_path
from rvbuild.errors import RvbuildError
from rvbuild.learn.chips.index import check_images, check_labels, read_index
from rvbuild.learn.chips.shards import open_shard
from rvbuild.progress import Silent
from tests.fuzz.fuzzing import mutated

PATHS = ["../x", "/etc/passwd", "a/../../b", "..", ".", "", "a\0b", "a\\b", "x" * 300, "cache/p/../../../outside"]
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        -(2**63),
        10**30,
        1.5,
        1e308,
        float("inf"),
        float("nan"),
        "",
        "x",
        "é",
    ),
    *("\ud800", [], {}, [[]], [1, 2, 3], {"a": 1}, [None], "0" * 32, "f" * 64, [0] * 50, *PATHS),
]
WORDS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"NaN",
    b"1e999",
    b"../../",
    b"\0",
    b"\xff",
    b"9" * 400,
    b"[" * 3000,
    b",",
]


def changed(source: random.Random, value: Any, chance: float = 0.5) -> Any:
    """Return JSON data with some value in it replaced, removed, doubled or renamed."""
    if isinstance(value, dict) and value and source.random() < 0.85:
        name = source.choice(sorted(value))
        kind = source.randrange(6)
        if kind == 0:
            return {key: item for key, item in value.items() if key != name}
        if kind == 1:
            return {**value, str(source.choice(PATHS)): value[name]}
        if kind == 2:
            return {(source.choice(PATHS) if key == name else key): item for key, item in value.items()}
        return {**value, name: changed(source, value[name])}
    if isinstance(value, list) and value and source.random() < 0.85:
        at = source.randrange(len(value))
        if source.random() < 0.2:
            return [*value[:at], *value[at + 1 :]]
        if source.random() < 0.1:
            return [*value, value[at]]
        return [*value[:at], changed(source, value[at]), *value[at + 1 :]]
    return source.choice(ODD)


def spoiled(source: random.Random, text: bytes) -> bytes:
    """Return a JSON text with bytes or values changed."""
    if source.random() < 0.4:
        return mutated(source, text, WORDS)
    data = json.loads(text)
    for _ in range(source.choice((1, 1, 2, 4))):
        data = changed(source, data)
    return json.dumps(data).encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def nothing_outside(folder: Path) -> Iterator[Path]:
    """Give a folder to work in; what is beside it must stay as it is."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    inner = folder / "inner"
    inner.mkdir()
    # Inputs are gone before a disk could lose them, and no seal here has to outlive a tick of the clock.
    with mock.patch("os.fsync"), mock.patch.object(seal, "_RACY_NS", 0):
        yield inner
    assert sorted(p.name for p in folder.iterdir()) == ["inner", "outside"], "something was written outside"
    assert [p.name for p in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "precious"


@functools.cache
def template(make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled, once for all inputs of this process."""
    folder = Path(tempfile.mkdtemp(prefix="rvbuild-fuzz-"))
    make(folder)
    return folder


# -- records of the store ---------------------------------------------------------------------------------------------

COMPONENTS = {
    "schema": 1,
    "stage": "chip",
    "version": 2,
    "settings": {"a": [1, {"b": 2.5}]},
    "inputs": [["image", "0"]],
}
KEY = digest(COMPONENTS)
ACTION = Action(KEY, COMPONENTS, {"a.tif": ("0" * 32, 5), "b.json": ("1" * 32, 7)}, 1.5, 2.5, {"numpy": "1"}, "2" * 32)


def require_plain(action: Action) -> None:
    """Hold an action that was believed against what may be in one."""
    assert action.key == KEY
    assert all(inside.is_plain(name) for name in action.outputs)
    assert all(len(d) == 32 and int(d, 16) >= 0 and size >= 0 for d, size in action.outputs.values())
    assert float(action.seconds) + float(action.at) == float(action.seconds + action.at)
    Action.decoded(action.encoded(), KEY)


def action(source: random.Random, folder: Path) -> None:
    """A record of the store, whose digest and signature are right or wrong."""
    text = ACTION.encoded()
    for _ in range(source.choice((1, 2))):
        with contextlib.suppress(ValueError, RecursionError):
            text = spoiled(source, text)
    decoded = Action.decoded(text, KEY)
    if decoded is not None:
        require_plain(decoded)


def signed_action(source: random.Random, folder: Path) -> None:
    """A record that is signed: whatever was changed in it is found."""
    secret = b"secret"
    text = ACTION.encoded(secret) if source.random() < 0.5 else ACTION.encoded(None, checked=True)
    decoded = Action.decoded(spoiled(source, text), KEY, secret)
    if decoded is not None and json.loads(text).get("signature"):
        # What has lost its signature altogether counts as one of an earlier rvbuild.
        require_plain(decoded)


# -- the state database -----------------------------------------------------------------------------------------------


def _make_state(folder: Path) -> None:
    state = State(folder / "state.db")
    for i in range(20):
        outputs = {f"o{j}.txt": Output(f"cache/p/s/{i}/o{j}.txt", f"{i:032x}", j, 1, 2, None) for j in range(3)}
        record = Record(
            f"{i:032x}", dict(COMPONENTS), {"image": [["a.tif", "0" * 32]]}, outputs, 1.0, 2.0, {"numpy": "1"}
        )
        state.succeed(f"chip:p:{i}", record, "built", ["never built here"], 1.0)
        state.remember_content_digest(f"{i:032x}", "view", "value")
    state.fail("train:p", "0" * 32, "no", 1.0)
    state.close()


def state(source: random.Random, folder: Path) -> None:
    """A state database with bytes changed, or with values in it."""
    with nothing_outside(folder) as inner:
        path = inner / "state.db"
        content = (template(_make_state) / "state.db").read_bytes()
        if source.random() < 0.5:
            path.write_bytes(mutated(source, content))
        else:
            path.write_bytes(content)
            with contextlib.closing(sqlite3.connect(path)) as db:
                column = source.choice(["json", "made"])
                rows = db.execute(f"select artifact, {column} from record").fetchall()
                for name, text in source.sample(rows, 3):
                    value = spoiled(source, text.encode()).decode("utf-8", "replace")
                    odd = source.choice([value, value, value, None, 7, b"\0"])
                    db.execute(f"update record set {column} = ? where artifact = ?", (odd, name))
                db.execute("update log set reasons = ? where id = 3", (source.choice(["{", "7", None, '["a"]']),))
                db.execute(
                    "update origin set sources = ? where artifact = 'chip:p:3'", (source.choice(["{", "7", "[]"]),)
                )
                db.commit()
        read = State(path)
        try:
            for name, record in read.records().items():
                for output_name, output in record.outputs.items():
                    assert inside.is_plain(output_name)
                    is_output_path(output.path)
                read.record(name)
                read.keys(name)
                read.sources(name, record.key)
                read.failure(name)
            list(read.log())
            read.names()
            read.last_seconds()
            read.file("x")
            read.content_digests(["0" * 32], "view")
        finally:
            read.close()


# -- seals, leases, the place of a cache ------------------------------------------------------------------------------


def a_seal(source: random.Random, folder: Path) -> None:
    """A seal: what is accepted says what the good one says, of files that are as they were."""
    with nothing_outside(folder) as inner:
        words = ["build", "p.toml"]
        (inner / ".stamp").touch()
        (inner / "file").write_text("x")
        info = (inner / "file").stat()
        path = Path(seal.path_of(inner, words))
        files = {str(inner / "file"): (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)}
        about: dict[str, Any] = {"directories": {}, "environment": {}, "packages": {}, "remote_files": {}}
        seal.write(path, words, files=files, lines=["nothing to do"], **about)
        assert seal.holds(path, words) == ["nothing to do"]
        content = path.read_bytes()
        text = content.rpartition(b"\n")[0]
        if source.random() < 0.3:
            spoilt = mutated(source, content)
            path.write_bytes(spoilt)
            if spoilt != content:
                assert seal.holds(path, words) is None
            return
        text = spoiled(source, text)
        path.write_bytes(text + b"\n%08x" % zlib.crc32(text))
        lines = seal.holds(path, words)
        assert lines is None or isinstance(lines, list)


def _make_lease(folder: Path) -> None:
    store = Store(folder / "store")
    store.prepare()
    state_ = template(_make_state) / "state.db"
    read = State(state_)
    OwnLease(store, folder).renew(read.records())
    read.close()
    store.close()


def lease(source: random.Random, folder: Path) -> None:
    """A lease of another workspace in a shared store."""
    with nothing_outside(folder) as inner:
        (good,) = (template(_make_lease) / "store/workspaces").iterdir()
        store = Store(inner / "store")
        store.prepare()
        head, *lines = good.read_bytes().split(b"\n")
        if source.random() < 0.5:
            head = spoiled(source, head)
        at = source.randrange(len(lines) - 1)
        lines[at] = spoiled(source, lines[at])
        (store.root / "workspaces" / good.name).write_bytes(b"\n".join([head, *lines]))
        for read in leases(store):
            read.counts(0.0)
            assert all(isinstance(d, str) for d in (*read.digests, *read.keys, *read.trajectories))


def place(source: random.Random, folder: Path) -> None:
    """What a cache says of its maker: a changed one is never this user's."""
    with nothing_outside(folder) as inner:
        ownership.claim(inner)
        (inner / "state.db").touch()
        path = inner / ownership.PLACE
        good = json.loads(path.read_bytes())
        content = spoiled(source, path.read_bytes())
        path.write_bytes(content)
        owner = ownership.standing(inner)
        try:
            now = json.loads(content)
        except (ValueError, RecursionError):
            now = None
        if owner is ownership.Standing.OWN:
            assert now["stamp"] == good["stamp"]
        (inner / ownership.STAMP).unlink()
        if ownership.standing(inner) is ownership.Standing.COPIED:
            assert json.dumps(now) == json.dumps(good), "a signature holds for other data"


# -- the store of somebody else ----------------------------------------------------------------------------------------


def foreign_store(source: random.Random, folder: Path) -> None:
    """A directory that somebody else has filled: names, records and contents."""
    import xxhash

    with nothing_outside(folder) as inner:
        content = b"hello"
        value = xxhash.xxh3_128_hexdigest(content)
        good = Action(KEY, COMPONENTS, {"a.tif": (value, 5)}, 1.0, 2.0)
        root = inner / "remote"
        record, thing = root / "actions" / KEY[:2] / f"{KEY}.json", root / "objects" / value[:2] / value[2:]
        for path, text in ((record, good.encoded()), (thing, content)):
            path.parent.mkdir(parents=True)
            path.write_bytes(text)
        kind = source.randrange(4)
        if kind == 0:
            record.write_bytes(spoiled(source, record.read_bytes()))
        elif kind == 1:
            thing.write_bytes(mutated(source, content))
        elif kind == 2:
            record.unlink()
            record.symlink_to(source.choice([folder / "outside/file", "/dev/zero", "nowhere", record.parent]))
        else:
            odd = source.choice(["x", "f" * 32, "f" * 32 + ".json", "ü", ".tmp", "a\nb", "f" * 31])
            (record.parent / odd).write_bytes(good.encoded())
        store = Store(inner / "store")
        store.prepare()
        remote = RemoteStore(str(root), None, ())
        moved = remote.pull(store, sorted({*remote.keys, KEY}), Silent())
        if moved.records:
            restored = store.restorable(KEY)
            assert restored is not None
            require_plain(restored)
            for d, size in restored.outputs.values():
                stored = store.object(d).read_bytes()
                assert (xxhash.xxh3_128_hexdigest(stored), len(stored)) == (d, size)
        store.close()


# -- chips ------------------------------------------------------------------------------------------------------------


@functools.cache
def _shard() -> bytes:
    tensors = {
        "images": np.zeros((2, 3, 8, 8), np.uint8),
        "windows": np.zeros((2, 4), np.int64),
        "digests": np.zeros((2, 16), np.uint8),
        "labels": np.zeros((2, 8, 8), np.uint8),
        "offsets": np.array([0, 1, 3]),
        "boxes": np.zeros((3, 4), np.float32),
        "classes": np.zeros(3, np.uint8),
        "valid": np.zeros((2, 3, 8, 1), np.uint8),
    }
    return safetensors.numpy.save(tensors)


def shard(source: random.Random, folder: Path) -> None:
    """A shard of chips: what is accepted has the shapes that it must have, and can be read to its end."""
    content = _shard()
    if source.random() < 0.5:
        length = int.from_bytes(content[:8], "little")
        header = spoiled(source, content[8 : 8 + length])
        content = len(header).to_bytes(8, "little") + header + content[8 + length :]
    else:
        content = mutated(source, content, WORDS)
    path = folder / "a.safetensors"
    path.write_bytes(content)
    tensors = open_shard(path)
    check_images(path, tensors, (2, 3, 8, 8), "uint8", "a")
    check_labels(path, tensors, 2, 8, 3)
    for values in tensors.values():
        values.sum()
    if "offsets" in tensors and "boxes" in tensors:
        assert tensors["boxes"][tensors["offsets"][1] : tensors["offsets"][2]].ndim == 2


def index(source: random.Random, folder: Path) -> None:
    """The index of a scene's chips."""
    good = {
        **{"scene": "a", "size_px": 8, "dtype": "uint8", "bands": 3, "classes": ["car", "background"], "count": 3},
        "shards": [{"images": "images-00000.safetensors", "labels": "labels-00000.safetensors", "count": 3}],
        "class_counts": [10, 182],
        "chip_class_counts": [[10, 54], [0, 64], [0, 64]],
    }
    path = folder / "index.json"
    path.write_bytes(spoiled(source, json.dumps(good).encode()))
    content = read_index(path)
    assert np.array(content["class_counts"], dtype=np.int64).shape == (len(content["classes"]),)
    assert all(entry["count"] > 0 and isinstance(entry["images"], str) for entry in content["shards"])


# -- bundles ----------------------------------------------------------------------------------------------------------


def _make_bundle(folder: Path) -> None:
    from tests.stages.sample_bundles import pack
    from tests.stages.sample_scenes import write_model

    vector = {"class": "car", "format": "geojson", "min_area_units": 1.0, "simplify_px": 0.0, "denoise_px": 2}
    pack(folder, write_model(folder / "model"), vectors=[vector])


def bundle(source: random.Random, folder: Path) -> None:
    """A bundle with bytes of the zip changed, or members whose manifest fits them."""
    from rvbuild.stages.bundle.predict import open_bundle
    from rvbuild.stages.bundle.zip import write_zip

    good = template(_make_bundle) / "packed/bundle.zip"
    with nothing_outside(folder) as inner:
        path, into = inner / "bundle.zip", inner / "into"
        into.mkdir()
        if source.random() < 0.4:
            content = good.read_bytes()
            # Most bytes are weights: what says something is at the end.
            cut = len(content) - 2000
            path.write_bytes(
                content[:cut] + mutated(source, content[cut:], [b"../x", b"PK\5\6", b"PK\1\2", b"\0", b"/"])
            )
        else:
            with zipfile.ZipFile(good) as archive:
                members: dict[str, Path | bytes] = {n: archive.read(n) for n in archive.namelist()[:-1]}
            name = source.choice(["project.json", "project.json", "model.json", "stats.json"])
            members[name] = spoiled(source, bytes(members[name]))  # type: ignore[arg-type]
            write_zip(path, members, lambda: None)
        settings = open_bundle(path, into)
        assert all(p.is_relative_to(into) for p in into.rglob("*"))
        assert all(isinstance(item["name"], str) and "/" not in item["name"] for item in settings["classes"])


# -- a store that a build reads ---------------------------------------------------------------------------------------


def _spoil_file(source: random.Random, path: Path) -> None:
    kind = source.randrange(6)
    content = path.read_bytes()
    path.chmod(0o644)
    if kind == 0:
        path.write_bytes(mutated(source, content, WORDS))
    elif kind == 1:
        path.write_bytes(content[: source.randrange(len(content) + 1)])
    elif kind == 2:
        path.unlink()
    elif kind == 3 and path.suffix == ".json":
        with contextlib.suppress(ValueError):
            path.write_bytes(spoiled(source, content.rpartition(b"\n")[0] if b"\n0" in content[-10:] else content))
    elif kind == 4:
        path.write_bytes(bytes(len(content)))
    else:
        path.rename(path.with_name(path.name[:-1] + source.choice("0123456789abcdef")))


def spoil_store(source: random.Random, cache: Path, outside: Path) -> None:
    """Change some of what a cache holds: contents, records, names, seals, the database, what is shown."""
    for _ in range(source.choice((1, 1, 2, 4))):
        files = sorted(
            p for p in cache.rglob("*") if p.is_file() and not p.is_symlink() and p.name not in (".stamp", "lock")
        )
        if files:
            _spoil_file(source, source.choice(files))
    if source.random() < 0.2:
        shutil.rmtree(cache / "p", ignore_errors=True)
    if source.random() < 0.05:
        victim = source.choice(sorted(p for p in (cache / "store").glob("*/*") if p.is_dir()) or [cache / "p"])
        shutil.rmtree(victim, ignore_errors=True)
        victim.parent.mkdir(exist_ok=True)
        if not victim.exists():
            victim.symlink_to(outside)


def unlink_links(cache: Path) -> None:
    """Remove the links in a cache, as the message of a build says."""
    for path in [p for p in cache.rglob("*") if p.is_symlink()]:
        path.unlink()


def build_after(source: random.Random, space: Any, expected: dict[str, bytes], outside: Path) -> None:
    """Spoil the cache of a workspace, build, and hold what is shown against what a clean build gives."""
    spoil_store(source, space.root / "cache", outside)
    for _ in range(3):
        # A link is named, and a database whose damage shows in the middle of a run is begun again: "run again".
        try:
            result = space.run(keep_going=True)
        except RvbuildError:
            result = {}
        if result and set(result.values()) <= {"built", "restored", "fresh"}:
            break
        unlink_links(space.root / "cache")
    else:
        raise AssertionError(f"builds fail again and again: {space.recorder.lines}")
    shown = {name: content for name, content in space.shown().items() if name in expected}
    assert shown == expected
    assert [p.name for p in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "precious"
