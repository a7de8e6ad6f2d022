from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from rvbuild.engine.run import watched
from rvbuild.errors import DataError, LabelValueError
from rvbuild.files import readers
from rvbuild.files.readers import reading, reason


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no number"), "a.csv: cannot be read as a table: no number"),
        (ValueError("Exceeds the limit (4300 digits) for …"), "it holds a number with too many digits"),
        (KeyError("x"), "cannot be read as a table: KeyError: 'x'"),
        (TypeError(), "cannot be read as a table: TypeError"),
        (OSError(5, "Input/output error"), "cannot be read as a table: Input/output error"),
        (RecursionError("maximum …"), "it is nested too deeply"),
        (MemoryError(), "it does not fit into memory"),
        (json.JSONDecodeError("Expecting value", "[", 1), r"Expecting value: line 1 column 2"),
    ],
)
def test_whatever_a_reader_raises_is_a_message_about_the_file(error: Exception, message: str) -> None:
    with pytest.raises(DataError, match=message), reading(Path("a.csv"), "as a table"):
        raise error


def test_what_is_for_the_user_already_and_what_ends_the_process_stay() -> None:
    for error in (LabelValueError("said", {"3": 4}), KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(error)) as caught, reading("a", "as a table"):
            raise error
        assert caught.value is error


def test_a_dead_process_leaves_what_it_was_reading(tmp_path: Path) -> None:
    log = tmp_path / "worker-1.log"
    began, go_on = threading.Event(), threading.Event()

    def read() -> None:
        with reading(b"/data/\xff.gpkg".decode("utf-8", "surrogateescape"), "as a vector file"):
            began.set()
            go_on.wait(20)

    thread = threading.Thread(target=read)
    watched.begin(log)
    try:
        assert watched.last(log) == []
        with reading("/data/a.tif", "as a raster"):
            thread.start()
            began.wait(20)
            assert [os.fsencode(path) for path in watched.last(log)] == [b"/data/a.tif", b"/data/\xff.gpkg"]
        assert len(watched.last(log)) == 1
        go_on.set()
        thread.join()
        assert watched.last(log) == []
        with reading("x" * 9000, "as a raster"):
            assert watched.last(log) == ["x" * 4095]
    finally:
        go_on.set()
        readers.watch(None)
    assert watched.last(tmp_path / "other.log") == []


def test_reasons_are_short() -> None:
    assert reason(RuntimeError()) == "RuntimeError"
    assert reason(EOFError("Compressed file ended")) == "Compressed file ended"
