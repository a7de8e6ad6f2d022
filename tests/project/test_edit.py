"""Edits of a project file change one value and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.project.toml.edit import EditError, set_value, toml_text

FILE = """\
# A project.
[project]
task = "semantic_segmentation"   # the task

[scenes]
train = [
    "a",  # first
    "b",
]
validation = { fraction = 0.2, by = "block" }  # some blocks

[train]
lr = 1e-3 # tried 3e-3
model_args.width = 2

# how chips are cut
[[predict.vectors]]
class = "x"
[[predict.vectors]]
class = "y" # second
"""


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        (("train", "lr"), 0.01, "lr = 1e-3 # tried", "lr = 0.01 # tried"),
        (("train", "epochs"), 5, "width = 2\n", "width = 2\nepochs = 5\n"),
        (("train", "model_args", "width"), 3, "width = 2", "width = 3"),
        (("train", "model_args", "depth"), 1, "width = 2\n", "width = 2\nmodel_args.depth = 1\n"),
        (("scenes", "train"), ["b"], '[\n    "a",  # first\n    "b",\n]', '["b"]'),
        (("scenes", "validation", "fraction"), 0.3, "fraction = 0.2", "fraction = 0.3"),
        (("scenes", "validation", "seed"), 1, '"block" }', '"block", seed = 1 }'),
        (("predict", "vectors", 1, "class"), "z", '"y" # second', '"z" # second'),
        (("chip", "size_px"), 64, '"y" # second\n', '"y" # second\n\n[chip]\nsize_px = 64\n'),
        (("train", "losses"), {"dice": 0.5}, "width = 2\n", "width = 2\nlosses = { dice = 0.5 }\n"),
    ],
)
def test_one_place_changes(key: tuple[str | int, ...], value: object, old: str, new: str) -> None:
    assert FILE.count(old) == 1
    assert set_value(FILE, key, value) == FILE.replace(old, new)
    windows = FILE.replace("\n", "\r\n")
    assert set_value(windows, key, value) == windows.replace(old.replace("\n", "\r\n"), new.replace("\n", "\r\n"))


@pytest.mark.parametrize(
    ("text", "key", "old", "new"),
    [
        # dotted keys of the file, and of a table
        ('train.lr = 1  # fast\nname = "x"\n', "train.epochs", "# fast\n", "# fast\ntrain.epochs = 7\n"),
        ("train.args.crop.min = 1\n[chip]\n", "train.args.noise.std", "[chip]", "train.args.noise.std = 7\n[chip]"),
        ("train.args.crop.min = 1\n[chip]\n", "train.lr", "[chip]", "train.lr = 7\n[chip]"),
        ("[train]\nargs.min = 1\nlr = 2\n", "train.args.max", "lr", "args.max = 7\nlr"),
        # inline tables
        ("train = { lr = 1 }  # all\n", "train.args.noise.std", "1 }", "1, args.noise.std = 7 }"),
        ("train = { args.crop.min = 1, lr = 2 }\n", "train.args.crop.max", "2 }", "2, args.crop.max = 7 }"),
        ("train = {} # all\n", "train.args.max", "{}", "{ args.max = 7 }"),
        ("train = { lr = 1, steps = [\n1, # one\n2] }\n", "train.epochs", "2] }", "2], epochs = 7 }"),
        # lists and tables in them
        ("[scene]\nchannels = [3, 0 , 1] # three\n", "scene.channels.1", "3, 0 ,", "3, 7 ,"),
        ("[[labels]]\nid = 1\n[[labels]]\nid = 2\n", "labels.0.burn", "1\n", "1\nburn = 7\n"),
        ("labels = [{ id = 1 }, # one\n { id = 2 }]\n", "labels.1.burn", "id = 2 }", "id = 2, burn = 7 }"),
        # tables that are only opened further down
        ("[train.args.crop]\nmin = 1\n", "train.args.seed", "min = 1\n", "min = 1\n\n[train.args]\nseed = 7\n"),
        ("# a licence\nseed = 1\n[train]\n", "threads", "seed = 1\n", "seed = 1\nthreads = 7\n"),
    ],
)
def test_new_keys_are_written_in_the_form_of_their_table(text: str, key: str, old: str, new: str) -> None:
    steps = tuple(int(step) if step.isdecimal() else step for step in key.split("."))
    assert text.count(old) == 1
    assert set_value(text, steps, 7) == text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train = {\n  lr = 1, # fast\n}\n", "train = {\n  lr = 1, # fast\n  epochs = 7,\n}\n"),
        ("train = {\n\tlr = 1 # fast, or so\n}\n", "train = {\n\tlr = 1, # fast, or so\n\tepochs = 7,\n}\n"),
    ],
)
def test_inline_tables_of_several_lines_get_a_line(text: str, expected: str) -> None:
    try:
        tomli.loads(text)
    except ValueError:
        pytest.skip("TOML 1.1 is newer than this tomli")
    assert set_value(text, ("train", "epochs"), 7) == expected


def test_what_cannot_be_set_is_refused() -> None:
    with pytest.raises(EditError, match=r'without rewriting a table; set it by hand to \["c"\]'):
        set_value("[scenes]\nvalidation.fraction = 0.2\n", ("scenes", "validation"), ["c"])
    with pytest.raises(EditError, match=r"train\.lr is no table"):
        set_value('[train]\nlr = "x"\n', ("train", "lr", "x"), 1)
    with pytest.raises(EditError, match="by hand to 1"):
        set_value("[train]\nmodel_args = {}\n[train.more]\n", ("train", "more2", 0), 1)
    with pytest.raises(EditError, match="end in two ways"):
        set_value("a = 1\r\nb = 2\n", ("a",), 2)


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_values_are_read_as_they_were(value: object) -> None:
    try:
        text = f"value = {toml_text(value)}"
        text.encode()
    except UnicodeEncodeError:
        return  # surrogates, which no file holds
    assert tomli.loads(text) == {"value": value}


KEYS = st.sampled_from(
    [("train", "lr"), ("train", "new"), ("scenes", "validation", "by"), ("scenes", "train"), ("new", "key"), ("top",)]
)


@given(st.lists(st.tuples(KEYS, st.integers() | st.text("ab\"'\\#", max_size=4)), max_size=4))
def test_edits_keep_comments_and_all_other_values(edits: list[tuple[tuple[str, ...], Any]]) -> None:
    text, data = FILE, tomli.loads(FILE)
    for key, value in edits:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            continue
        text = set_value(text, key, value)
        table = data
        for step in key[:-1]:
            table = table.setdefault(step, {})
        table[key[-1]] = value
    assert tomli.loads(text) == data
    for comment in ("# A project.", "# the task", "# tried 3e-3", "# how chips are cut", "# second", "# some blocks"):
        assert comment in text
