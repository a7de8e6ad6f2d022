import os
import pickle
import sys

import pytest

from rvbuild.errors import CodeError, ModelError
from rvbuild.language.user_code import Code, Served, forget_modules, load_object, serve_code, sources


@pytest.fixture
def files(tmp_path):
    (tmp_path / "ours_x/deep").mkdir(parents=True)
    (tmp_path / "ours_x/__init__.py").write_text("def top(): return 'top'\n")
    (tmp_path / "ours_x/other.py").write_text("")
    (tmp_path / "ours_x/deep/net.py").write_text("from ours_x import top\ndef make(): return top()\nnumber = 3\n")
    (tmp_path / "single_x.py").write_text("def make(): return 1\n")
    (tmp_path / "broken_x.py").write_text("import nothing_like_this\n")
    (tmp_path / "raises_x.py").write_text("1 / 0\n")
    (tmp_path / "dynamic_x.py").write_text("import importlib\nimportlib.import_module('ours_x.other')\n")
    names = ("ours_x.deep.net", "single_x", "broken_x", "raises_x", "dynamic_x")
    paths = {name: str(tmp_path / f"{name.replace('.', '/')}.py") for name in names}
    return {**paths, "ours_x": str(tmp_path / "ours_x/__init__.py")}


@pytest.fixture
def workspace(tmp_path, files):
    serve_code(Code(str(tmp_path), files))
    yield tmp_path
    serve_code(None)


def test_loads(workspace):
    assert load_object("ours_x.deep.net:make", "train.model")() == "top"
    assert load_object("single_x:make", "train.model")() == 1


def test_what_was_edited_is_imported_anew_once_it_is_forgotten(workspace):
    assert load_object("ours_x.deep.net:make", "train.model")() == "top"
    (workspace / "ours_x/__init__.py").write_text("def top(): return 'edited'\n")
    assert load_object("ours_x.deep.net:make", "train.model")() == "top"
    forget_modules()
    assert load_object("ours_x.deep.net:make", "train.model")() == "edited"
    assert "pytest" in sys.modules


def test_what_is_served_no_more_is_not_there(workspace, files):
    load_object("ours_x.deep.net:make", "x")
    serve_code(Code(str(workspace), {"single_x": files["single_x"]}))
    assert load_object("single_x:make", "x")() == 1
    assert not [name for name in sys.modules if name.startswith("ours_x")]
    with pytest.raises(ModelError, match='there is no module "ours_x"'):
        load_object("ours_x.deep.net:make", "x")


def test_a_module_is_the_file_that_was_served_last(workspace, tmp_path_factory):
    assert load_object("single_x:make", "x")() == 1
    other = tmp_path_factory.mktemp("other")
    (other / "single_x.py").write_text("def make(): return 2\n")
    serve_code(Code(str(other), {"single_x": str(other / "single_x.py")}))
    assert load_object("single_x:make", "x")() == 2


def test_bytecode_beside_the_source_does_not_count(workspace, files):
    import py_compile

    source = workspace / "single_x.py"
    times = source.stat()
    source.write_text("def make(): return 2\n")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    py_compile.compile(str(source))
    source.write_text("def make(): return 1\n")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load_object("single_x:make", "x")() == 1
    load_object("ours_x.deep.net:make", "x")
    assert not (workspace / "ours_x/__pycache__").exists()


def test_a_module_that_is_in_no_key_is_not_imported(workspace):
    with pytest.raises(CodeError, match=r"ours_x/other\.py is imported as ours_x\.other .* `depends`"):
        load_object("dynamic_x:make", "x")
    assert "ours_x.other" not in sys.modules


def test_another_process_serves_the_same(workspace, files):
    sent = pickle.dumps((Served(), "what follows"))
    serve_code(None)
    with pytest.raises(ModelError):
        load_object("single_x:make", "x")
    pickle.loads(sent)
    assert load_object("single_x:make", "x")() == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("single_x:mak", 'train.model: "single_x:mak": mak does not exist in single_x; did you mean "make"'),
        ("ours_x.deep.net:number", "number is not callable"),
        ("nowhere_x:make", 'there is no module "nowhere_x"; modules are searched in the workspace'),
        ("broken_x:make", 'there is no module "nothing_like_this"'),
        ("raises_x:make", "importing raises_x failed: ZeroDivisionError"),
        ("os:kill", "os is a module of Python itself"),
        ("os.path:join", r"os\.path is a module of Python itself"),
        ("builtins:exec", "builtins is a module of Python itself"),
        ("__main__:main", "__main__ is a module of Python itself"),
        ("single_x", 'expected "package.module:name", found "single_x"'),
        ("single_x:a b", "expected"),
        ("../x:make", "expected"),
    ],
)
def test_what_cannot_be_loaded(workspace, spec, message):
    with pytest.raises(ModelError, match=message):
        load_object(spec, "train.model")


def test_sources_by_dotted_name(workspace, files):
    paths = [workspace / "ours_x/deep/net.py", workspace / "ours_x/__init__.py", workspace / "single_x.py"]
    for module in ("ours_x.deep.net", "ours_x", "single_x"):
        assert set(sources(module, paths)) == {"ours_x", "ours_x.deep.net", "single_x"}
    assert sources("json", paths) is None
    assert sources("broken_x", paths) is None


def test_embedded_code_comes_first_and_leaves_no_trace(workspace):
    assert load_object("single_x:make", "x")() == 1
    code = {"single_x": "from other_x.inner import value\ndef make(): return value\n", "other_x.inner": "value = 2\n"}
    assert load_object("single_x:make", "x", code)() == 2
    assert load_object("single_x:make", "x")() == 1
    assert "other_x" not in sys.modules and "other_x.inner" not in sys.modules
    with pytest.raises(ModelError, match="importing single_x failed: NameError"):
        load_object("single_x:make", "x", {"single_x": "nonsense\n"})
    assert load_object("single_x:make", "x")() == 1
