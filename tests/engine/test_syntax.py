"""The text of syntax trees: code counts, its looks do not; and every version of Python gives the same."""

import ast
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rvbuild.engine.keys import syntax

ROOT = Path(syntax.__file__).parents[2]

#: Code whose trees `ast.dump` shows otherwise in one version of Python or another.
ODD = '''
"""Doc."""
x = "b" f"{a}" f"c{a:>{a}}d{{}}" "e" f"{a!r:}" f"{a=}" f"{a = !s:<5}" u"k" f"" rf"\\d{a}\\n"
def f(a, /, b=1, *c, d=2, **e) -> int:
    """Doc."""
    return lambda: (yield)
class C: pass
match x:
    case {"a": 1, **rest}: pass
    case [1, *_] | (2 as q): pass
try: pass
except* ValueError: pass
n = 1_000j, -0.0, 1e400, "\\ud800", b"\\xff", ..., None, True
async def g():
    async with a as b, c as d: await e
    return [i async for i in x if y]
'''
DIGEST = "import ast, hashlib, sys; sys.path.insert(0, sys.argv[1]); from syntax import tree_text; " + (
    "print(hashlib.sha256(tree_text(ast.parse(sys.stdin.buffer.read())).encode('utf-8', 'surrogatepass')).hexdigest())"
)


def text(source):
    return syntax.tree_text(ast.parse(source))


def test_comments_docstrings_and_formatting_do_not_count():
    assert text('"""Doc."""\ndef f(x):\n    """More."""\n    return x+1') == text(
        "def f( x ):  # same\n    return x + 1"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = '1'", "x = b'1'"),
        ("f'{x}'", "f'{x!r}'"),
        ("f(a, b)", "f(a, *b)"),
        ("def f(a, b): pass", "def f(a, *, b): pass"),
        ("x: int", "x: int = 0"),
        ("[]", "()"),
        ("a = ''", "a = ' '"),
    ],
)
def test_what_runs_counts(first, second):
    assert text(first) != text(second)


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_other_versions_of_python_give_the_same(version, tmp_path):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no Python {version} here")
    sources = [ODD.encode(), *(p.read_bytes() for p in sorted((ROOT / "rvbuild" / "cli").glob("*.py")))]
    for source in sources:
        tree = syntax.tree_text(ast.parse(source))
        ours = hashlib.sha256(tree.encode("utf-8", "surrogatepass")).hexdigest()
        command = [python, "-c", DIGEST, str(ROOT / "rvbuild" / "build")]
        done = subprocess.run(command, input=source, capture_output=True, check=True)
        assert done.stdout.decode().strip() == ours, sys.version
