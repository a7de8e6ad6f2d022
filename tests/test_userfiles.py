import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from rvbuild.errors import CodeError
from rvbuild.language.user_code import Code, load_object, serve_code

CODE = """
import json, os, pathlib, sqlite3, tempfile
HERE = pathlib.Path(__file__).parent
def read(name): return (HERE / name).read_text()
def descriptor(name): return os.read(os.open(HERE / name, os.O_RDONLY), 9)
def library(name): return json.load(open(HERE / name))
def database(name): return sqlite3.connect(HERE / name)
def write(name): (HERE / name).write_text("1")
def swallow(name):
    try: return read(name)
    except Exception: return None
"""


@pytest.fixture
def serve(tmp_path):
    (tmp_path / "own_x.py").write_text(CODE)
    (tmp_path / "table.json").write_text("1")

    def serve(files=(), arguments=()):
        paths = tuple(str(tmp_path / name) for name in files)
        return serve_code(Code(str(tmp_path), {"own_x": str(tmp_path / "own_x.py")}, paths), map(str, arguments))

    yield serve
    serve_code(None)


def call(name, *args):
    return load_object(f"own_x:{name}", "x")(*args)


@pytest.mark.parametrize("function", ["read", "descriptor", "library", "database"])
def test_a_file_of_the_workspace_that_is_in_no_key_is_refused(serve, function):
    watch = serve()
    with pytest.raises(CodeError, match=r'own_x\.py reads table\.json, .* depends = \["table\.json"\]'):
        call(function, "table.json")
    assert len(watch.refused) == 1


def test_what_keys_hold_and_what_a_stage_is_given_may_be_read(serve, tmp_path):
    serve(files=["table.json"])
    assert call("read", "table.json") == "1"
    serve(arguments=[tmp_path / "table.json"])
    assert call("read", "table.json") == "1"
    (tmp_path / "made").mkdir()
    (tmp_path / "made/x").write_text("2")
    serve(arguments=[tmp_path / "made"])
    assert call("read", "made/x") == "2"


def test_what_is_refused_is_known_whatever_the_code_makes_of_it(serve):
    watch = serve()
    assert call("swallow", "table.json") is None
    assert len(watch.refused) == 1


def test_what_is_written_or_not_there_or_read_by_others_is_no_input(serve, tmp_path):
    watch = serve()
    call("write", "new.txt")
    with pytest.raises(FileNotFoundError):
        call("read", "nowhere.txt")
    assert (tmp_path / "table.json").read_text() == "1"
    assert not watch.refused and not watch.outside


def test_a_link_counts_as_what_it_points_to(serve, tmp_path):
    (tmp_path / "link.json").symlink_to("table.json")
    watch = serve(files=["table.json"])
    assert call("read", "link.json") == "1"
    assert not watch.refused


def test_what_lies_outside_is_noted(tmp_path):
    # In a process of its own, whose directory for temporary files is another.
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "table.json").write_text("1")
    (inside / "own_x.py").write_text(CODE)
    script = (
        "from rvbuild.language.user_code import Code, load_object, serve_code\n"
        f"watch = serve_code(Code({str(inside)!r}, {{'own_x': {str(inside / 'own_x.py')!r}}}))\n"
        f"load_object('own_x:read', 'x')({str(outside / 'table.json')!r})\n"
        "import numpy\n"
        "print(list(watch.outside), watch.refused)\n"
    )
    environment = {"TMPDIR": str(inside), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{[str(outside / 'table.json')]} []"


def test_databases_are_asked_for_by_their_path_alone(serve):
    serve()
    with closing(sqlite3.connect(":memory:")) as database:
        assert database.execute("select 1").fetchone() == (1,)
