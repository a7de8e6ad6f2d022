"""Modules of the user's: found, followed, and refused where an edit would not be seen."""

import ast
import sys
from pathlib import Path

import pytest

from rvbuild.engine.keys.data_files import texts
from rvbuild.engine.keys.modules import closure


def write(root, **files):
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def closure_paths(root, *modules):
    result = closure(root, {module: "train.model" for module in modules})
    assert not result.problems
    return {name: path.relative_to(root).as_posix() for name, path in result.modules.items()}


def test_imports_are_followed_wherever_they_stand(tmp_path):
    write(
        tmp_path,
        nets="def make():\n    from tools import scale\n    import helpers.deep\n",
        tools__scale="from . import base\nfrom .more import *\n",
        tools__base="",
        tools__more="",
        helpers__deep="import numpy, torch.nn",
        other="",
    )
    (tmp_path / "helpers/__init__.py").write_text("from other import x")
    assert closure_paths(tmp_path, "nets") == {
        "nets": "nets.py",
        "tools.scale": "tools/scale.py",
        "tools.base": "tools/base.py",
        "tools.more": "tools/more.py",
        "helpers": "helpers/__init__.py",
        "helpers.deep": "helpers/deep.py",
        "other": "other.py",
    }


def test_a_star_imports_all_modules_of_a_package(tmp_path):
    write(tmp_path, nets="from parts import *", parts__a="", parts__b="")
    (tmp_path / "parts/__init__.py").write_text("__all__ = ['a', 'b']")
    assert set(closure_paths(tmp_path, "nets")) == {"nets", "parts", "parts.a", "parts.b"}


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("open('log.txt', 'a')", False),
        ("open(HERE / 'log.txt', 'wb')", False),
        ("open('log.txt', mode='x')", False),
        ("Path('log.txt').open('a')", False),
        ("Path('log.txt').write_text('now')", False),
        ("open('log.txt', 'a+')", True),
        ("open('log.txt')", True),
        ("open('log.txt', mode)", True),
        ("open('log.txt', 'a'); open('log.txt')", True),
        ("Path('log.txt').read_text()", True),
        ("np.load('log.txt', 'w')", True),
    ],
)
def test_a_file_that_is_only_written_is_no_input(line, counts):
    assert ("log.txt" in texts(ast.parse(line))) == counts


def test_src_is_looked_into(tmp_path):
    write(tmp_path, src__mynets__net="from mynets.blocks import block", src__mynets__blocks="", src__lone="")
    assert closure_paths(tmp_path, "mynets.net") == {
        "mynets.net": "src/mynets/net.py",
        "mynets.blocks": "src/mynets/blocks.py",
    }
    assert closure_paths(tmp_path, "src.lone") == {"src.lone": "src/lone.py"}


@pytest.mark.parametrize("by", ["path", "finder"])
def test_modules_elsewhere_that_are_not_installed_are_followed(tmp_path, monkeypatch, by):
    root, library = tmp_path / "ws", tmp_path / "lib"
    write(root, nets="import lib_x.deep")
    write(library, lib_x__deep="", lib_x__dynamic="")
    (library / "lib_x/__init__.py").write_text("")
    if by == "path":
        monkeypatch.syspath_prepend(str(library))
    else:
        from importlib.util import spec_from_file_location

        class Editable:
            @staticmethod
            def find_spec(name, path=None, target=None):
                place = str(library / "lib_x")
                if name == "lib_x":
                    return spec_from_file_location(name, f"{place}/__init__.py", submodule_search_locations=[place])
                return None

        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable])
    result = closure(root, {"nets": "train.model"})
    assert not result.problems
    assert result.modules == {
        "nets": root / "nets.py",
        "lib_x": library / "lib_x/__init__.py",
        "lib_x.deep": library / "lib_x/deep.py",
    }


def test_an_installed_module_counts_by_its_version(tmp_path):
    import torch

    result = closure(tmp_path, {"torch.nn": "train.loss"})
    assert (result.modules, result.problems) == ({}, [])
    assert result.packages == {"torch": torch.__version__} or result.packages.keys() == {"torch"}


def test_an_environment_in_the_workspace_is_no_part_of_it(tmp_path, monkeypatch):
    packages = tmp_path / "venv/lib/python3/site-packages"
    write(packages, big_x="import big_x_parts")
    write(tmp_path, nets="import big_x")
    monkeypatch.syspath_prepend(str(packages))
    assert closure_paths(tmp_path, "nets") == {"nets": "nets.py"}


@pytest.mark.parametrize("name", ["queue", "json", "numpy", "yaml_x"])
@pytest.mark.parametrize("way", ["named", "imported"])
@pytest.mark.parametrize("where", ["", "src__"])
def test_what_is_called_like_another_module_is_an_error(tmp_path, monkeypatch, name, way, where):
    packages = tmp_path / "env/site-packages"
    write(packages, yaml_x="")
    monkeypatch.syspath_prepend(str(packages))
    root = tmp_path / "ws"
    write(root, nets=f"import {name}", **{f"{where}{name}": ""})
    result = closure(root, {name if way == "named" else "nets": "projects/p.toml:3: train.model"})
    (problem,) = result.problems
    assert problem.startswith("projects/p.toml:3: train.model: " if way == "named" else "nets.py: ")
    if way == "named" and name in ("queue", "json"):
        assert "is a module of Python itself" in problem
    else:
        assert f"{'src/' if where else ''}{name}.py has the name of " in problem and "rename it" in problem


def test_what_nobody_names_may_be_called_anything(tmp_path):
    write(tmp_path, nets="import numpy_like", queue="", numpy="", numpy_like="")
    assert set(closure_paths(tmp_path, "nets")) == {"nets", "numpy_like"}


@pytest.mark.slow
def test_a_module_in_an_archive_is_an_error(tmp_path, monkeypatch):
    import zipfile

    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("zipped_x.py", "")
    monkeypatch.syspath_prepend(str(tmp_path / "lib.zip"))
    write(tmp_path, nets="import zipped_x")
    for module in ("nets", "zipped_x"):
        (problem,) = closure(tmp_path, {module: "train.model"}).problems
        assert "where edits would not be noticed" in problem


def test_compiled_modules_are_followed(tmp_path):
    write(tmp_path, nets="from fast_x import f")
    compiled = tmp_path / "fast_x.pyc"
    compiled.write_bytes(b"\0")
    assert closure(tmp_path, {"nets": "train.model"}).modules == {"nets": tmp_path / "nets.py", "fast_x": compiled}


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("open('params.json')", ["params.json"]),
        ("HERE / 'bands.json'", ["tools/bands.json"]),
        ("HERE / 'tables' / 'a.csv'", ["tools/tables/a.csv"]),
        ("TABLES = HERE / 'tables'\nopen(TABLES / 'a.csv')", ["tools/tables/a.csv"]),
        ("os.path.join(HERE, 'tables', 'a.csv')", ["tools/tables/a.csv"]),
        ("HERE.joinpath('tables', 'a.csv')", ["tools/tables/a.csv"]),
        ("open(HERE + '/bands.json')", ["tools/bands.json"]),
        ("Path(__file__).with_suffix('.txt')", ["tools/t.txt"]),
        ("HERE.glob('tables/*.csv')", ["tools/tables/a.csv", "tools/tables/b.csv"]),
        ("'a docstring that names params.json'", []),
        ("x = 'nothing.json'; y = '*'; z = '.'", []),
        ("f'{name}.json'", []),
    ],
)
def test_files_that_the_source_names(tmp_path, source, read):
    write(tmp_path, tools__t=source)
    (tmp_path / "tools/tables").mkdir()
    for name in ("params.json", "tools/bands.json", "tools/tables/a.csv", "tools/tables/b.csv", "tools/t.txt"):
        (tmp_path / name).write_text("1")
    result = closure(tmp_path, {"tools.t": "image"})
    assert sorted(path.relative_to(tmp_path).as_posix() for path in result.files) == read


def test_a_new_file_for_a_pattern_is_looked_for(tmp_path):
    write(tmp_path, tools__t="HERE.glob('tables/*.csv')")
    (tmp_path / "tools/tables").mkdir()
    assert tmp_path / "tools/tables" in closure(tmp_path, {"tools.t": "image"}).folders
    assert {tmp_path} <= closure(tmp_path, {"tools.t": "image"}).folders


def test_texts_are_joined_as_paths_are():
    assert "a/b/c.json" in texts(ast.parse("x / 'a' / 'b' / 'c.json'"))
    assert Path("tables") / "a.csv" == Path("tables/a.csv")
