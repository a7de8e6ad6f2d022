"""Files that cannot be read as a project."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rvbuild.errors import ProjectError, UsageError
from rvbuild.project import messages
from rvbuild.project.load import load
from rvbuild.project.toml.reading import shown
from rvbuild.project.workspaces import find_workspace


def complain(path: Path) -> list[str]:
    with pytest.raises(ProjectError) as caught:
        load(path)
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_status == 2
    return list(caught.value.problems)


def test_no_such_file(workspace: Path) -> None:
    (workspace / "projects" / "potsdam.toml").write_text("")
    assert complain(Path("projects/potsdm.toml")) == [
        'projects/potsdm.toml: no such project file; did you mean "projects/potsdam.toml"?'
    ]
    assert complain(Path("potsdam")) == ['potsdam: no such project file; did you mean "projects/potsdam.toml"?']
    assert complain(Path("elsewhere/x.toml")) == ["elsewhere/x.toml: no such project file"]
    assert complain(Path("projects/potsdam.toml/x.toml")) == [
        "projects/potsdam.toml/x.toml: cannot be read: Not a directory"
    ]


def test_a_directory(workspace: Path) -> None:
    assert complain(Path("projects")) == ["projects: is a directory; expected a project file (.toml)"]
    (workspace / "projects" / "b.toml").write_text("")
    (workspace / "projects" / "a.toml").write_text("")
    assert complain(Path("projects")) == [
        "projects: is a directory; expected a project file (.toml), for example projects/a.toml"
    ]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(workspace: Path) -> None:
    path = workspace / "projects" / "p.toml"
    path.write_text("")
    path.chmod(0)
    assert complain(path) == ["projects/p.toml: cannot be read: Permission denied"]


def test_not_utf8(workspace: Path) -> None:
    path = Path("projects/p.toml")
    path.write_bytes("[project]\nname = 'Gebäude'\n".encode("latin-1"))
    assert complain(path) == [
        "projects/p.toml:2: not UTF-8: byte 0xe4 at byte 12 of the line; save the file with the encoding UTF-8"
    ]
    path.write_bytes("[project]\n".encode("utf-16"))
    assert complain(path) == ["projects/p.toml: is UTF-16; TOML files are UTF-8: save it with that encoding"]


def test_a_byte_order_mark_is_fine(problems: Callable[..., list[str]], base: str) -> None:
    assert problems("\ufeff" + base) == []


def test_windows_line_ends(problems: Callable[..., list[str]], base: str) -> None:
    assert problems((base + "[chip]\nsise_px = 3\n").replace("\n", "\r\n")) == [
        'projects/p.toml:17: chip.sise_px: unknown key; did you mean "size_px"?'
    ]


def test_absurd_documents(workspace: Path) -> None:
    path = Path("projects/p.toml")
    path.write_text("x = " + 5000 * "[" + 5000 * "]")
    (line,) = complain(path)
    assert line.startswith("projects/p.toml: lists or tables are nested too deeply")
    for text in (
        "[a" + ".a" * 100_000 + "]",
        "x = 1\n'a'" + " . b" * 100_000 + " = 2",
        "x" + ".x" * 70 + " = 1",
        "x = " + "[" * 70 + "]" * 70,
    ):
        path.write_text(text)
        (line,) = complain(path)
        assert "lists or tables are nested too deeply" in line or "not valid TOML" in line
    path.write_text("x = '" + "a." * 500 + "a'\n" + "y = '" + "../" * 500 + "'\n")
    assert [line.split(": ")[2] for line in complain(path)][-2:] == ["unknown key; valid", "unknown key; valid"]
    path.write_text("x = " + 5000 * "1")
    assert complain(path) == ["projects/p.toml: a number has too many digits"]
    path.write_text("[chip]\nsize_px = 0x" + 5000 * "f" + "\nstride_px = -9223372036854775809\n")
    assert complain(path) == [
        f"projects/p.toml:{line}: chip.{key}: expected a whole number of at most 64 bits"
        for line, key in ((3, "stride_px"), (2, "size_px"))
    ]
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert complain(path) == ["projects/p.toml: is larger than 16 MiB; is it a project file?"]
    path.unlink()
    os.mkfifo(path)
    assert complain(path) == ["projects/p.toml: is not a plain file; expected a project file (.toml)"]
    path.unlink()
    path.write_text("x = 1\0")
    assert len(complain(path)) == 1
    path.write_text("")
    assert len(complain(path)) == 3


def test_paths_are_shown_relative_below_the_current_directory(workspace: Path) -> None:
    assert shown(workspace / "projects" / "p.toml") == "projects/p.toml"
    assert shown(Path("projects/p.toml")) == "projects/p.toml"
    assert shown(workspace.parent / "p.toml") == str(workspace.parent / "p.toml")


def test_workspace(workspace: Path) -> None:
    assert find_workspace(Path("projects/p.toml")) == str(workspace)
    assert find_workspace(Path("projects/2020/p.toml")) == str(workspace)
    assert find_workspace(Path("p.toml")) == str(workspace)
    assert find_workspace(workspace / "deep" / "p.toml") == str(workspace / "deep")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenes", "more", "line"),
    [
        ([*range(5000)], "", "scenes.train[0]: expected a string, found 0"),
        (["x"] * 5000, "", 'scenes.train[1]: scene "x" is listed twice'),
        (
            [f"a{i}" for i in range(5000)],
            "".join(f"[scenes.by_id.b{i}]\nimage='x.tif'\n" for i in range(5000)),
            'scenes.by_id.b0: no scene "b0"',
        ),
        (["a"], "[chip]\n" + "".join(f"k{i} = 1\n" for i in range(5000)), "chip.k0: unknown key"),
    ],
    ids=["types", "twice", "by_id", "keys"],
)
def test_thousands_of_problems_are_found_in_seconds_and_told_in_part(
    problems: Callable[..., list[str]], base: str, scenes: list[object], more: str, line: str
) -> None:
    start = time.thread_time()
    lines = problems(re.sub(r"train *= .*", f"train = {scenes}", base, count=1) + more)
    assert any(line in message for message in lines)
    assert len(lines) == 501 and lines[-1].endswith(" more problems")
    assert time.thread_time() - start < 10


def test_not_all_of_thousands_are_put_into_words(
    problems: Callable[..., list[str]], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    message_of = messages._message
    monkeypatch.setattr(messages, "_message", lambda item: written.append(item) or message_of(item))
    lines = problems(base + "[chip]\n" + "".join(f"k{i} = 1\n" for i in range(3000)))
    assert lines[-1] == "… and 2500 more problems" and 500 < len(written) <= messages.MOST


def test_too_many_classes_near_black(problems: Callable[..., list[str]], base: str) -> None:
    many = "".join(f'c{i} = "#{i:06x}"\n' for i in range(300))
    assert any("at most 254 besides" in line for line in problems(base.replace("[classes]\n", f"[classes]\n{many}")))
