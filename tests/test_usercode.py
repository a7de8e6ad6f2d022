import sys

import pytest

from rvbuild.errors import ModelError
from rvbuild.usercode import forget_modules, load_object, sources


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (tmp_path / "ours_x/deep").mkdir(parents=True)
    (tmp_path / "ours_x/__init__.py").write_text("def top(): return 'top'\n")
    (tmp_path / "ours_x/deep/net.py").write_text("from ours_x import top\ndef make(): return top()\nnumber = 3\n")
    (tmp_path / "single_x.py").write_text("def make(): return 1\n")
    (tmp_path / "broken_x.py").write_text("import nothing_like_this\n")
    (tmp_path / "raises_x.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in {"ours_x", "single_x"}]:
        del sys.modules[name]


def test_loads(workspace):
    assert load_object("ours_x.deep.net:make", "train.model")() == "top"
    assert load_object("single_x:make", "train.model")() == 1


def test_what_was_edited_is_imported_anew_once_it_is_forgotten(workspace):
    assert load_object("ours_x.deep.net:make", "train.model")() == "top"
    (workspace / "ours_x/__init__.py").write_text("def top(): return 'edited'\n")
    assert load_object("ours_x.deep.net:make", "train.model")() == "top"
    forget_modules(workspace)
    assert load_object("ours_x.deep.net:make", "train.model")() == "edited"
    assert "pytest" in sys.modules


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("single_x:mak", 'train.model: "single_x:mak": mak does not exist in single_x; did you mean "make"'),
        ("ours_x.deep.net:number", "number is not callable"),
        ("nowhere_x:make", 'there is no module "nowhere_x"; modules are looked for in the workspace'),
        ("broken_x:make", 'there is no module "nothing_like_this"'),
        ("raises_x:make", "importing raises_x failed: ZeroDivisionError"),
        ("single_x", 'expected "package.module:name", found "single_x"'),
        ("single_x:a b", "expected"),
        ("../x:make", "expected"),
    ],
)
def test_what_cannot_be_loaded(workspace, spec, message):
    with pytest.raises(ModelError, match=message):
        load_object(spec, "train.model")


def test_sources_by_dotted_name(workspace):
    load_object("ours_x.deep.net:make", "x")
    load_object("single_x:make", "x")
    files = [workspace / "ours_x/deep/net.py", workspace / "ours_x/__init__.py", workspace / "single_x.py"]
    for module in ("ours_x.deep.net", "ours_x", "single_x"):
        assert set(sources(module, files)) == {"ours_x", "ours_x.deep.net", "single_x"}
    assert sources("json", files) is None


def test_embedded_code_comes_first_and_leaves_no_trace(workspace):
    assert load_object("single_x:make", "x")() == 1
    code = {"single_x": "from other_x.inner import value\ndef make(): return value\n", "other_x.inner": "value = 2\n"}
    assert load_object("single_x:make", "x", code)() == 2
    assert load_object("single_x:make", "x")() == 1
    assert "other_x" not in sys.modules and "other_x.inner" not in sys.modules
    with pytest.raises(ModelError, match="importing single_x failed: NameError"):
        load_object("single_x:make", "x", {"single_x": "nonsense\n"})
    assert load_object("single_x:make", "x")() == 1
