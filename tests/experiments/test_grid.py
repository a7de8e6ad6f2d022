"""What a sweep tries: values, ranges, combinations and draws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.errors import UsageError
from rvbuild.session.experiments.grid import Choices, Range, parse, points
from rvbuild.session.experiments.points import point_id


def test_values_are_those_of_toml() -> None:
    axes = parse(
        [
            "train.lr=1e-4,3e-4",
            "train.encoder=timm/a, timm/b",
            'scenes.validation={ fraction = 0.2, by = "block" },["c", "d"]',
            "train.model=\"a,b\",'c'",
        ]
    )
    assert axes == {
        "train.lr": Choices((1e-4, 3e-4)),
        "train.encoder": Choices(("timm/a", "timm/b")),
        "scenes.validation": Choices(({"fraction": 0.2, "by": "block"}, ["c", "d"])),
        "train.model": Choices(("a,b", "c")),
    }


def test_all_combinations_in_the_order_of_the_words() -> None:
    every = points(parse(["a=1,2", "b=x,y"]), None, 0)
    assert every == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.lr", "expected KEY=VALUE"),
        ("train.lr=", "there are no values"),
        ("train.lr=1,,2", "no value between two commas"),
        ("train.lr=1,1.0", "there twice"),
        ("train.lr=5..1", "from a lower to a higher"),
        ("train.lr=0..1:log", "begins above 0"),
        ("train.lr=2020-01-01", "no value of a key"),
        ("train.lr=nan", "no value of a key"),
        ("project.name=a,b", "names the project"),
    ],
)
def test_one_message_for_each_mistake(argument: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse([argument])


def test_mistakes_are_told_together_and_ranges_need_a_number() -> None:
    with pytest.raises(UsageError) as raised:
        parse(["a", "b=2..1", "c=1", "c=2"])
    assert [line.partition(":")[0] for line in str(raised.value).splitlines()] == [
        "--grid a",
        "--grid b=2..1",
        "--grid c=2",
    ]
    with pytest.raises(UsageError, match="--random N"):
        points(parse(["a=1..2"]), None, 0)
    with pytest.raises(UsageError, match="at most"):
        points(parse([f"{key}={','.join(map(str, range(30)))}" for key in "abc"]), None, 0)


@given(st.integers(0, 5), st.integers(1, 12))
def test_draws_are_the_same_each_time_and_a_longer_one_continues_them(seed: int, count: int) -> None:
    axes = parse(["train.lr=1e-5..1e-2:log", "train.batch_size=2..5", "train.model=a,b"])
    drawn = points(axes, count, seed)
    assert len({point_id(keys) for keys in drawn}) == count
    assert points(axes, count + 5, seed)[:count] == drawn
    for keys in drawn:
        assert 1e-5 <= keys["train.lr"] <= 1e-2  # type: ignore[operator]
        assert keys["train.batch_size"] in (2, 3, 4, 5)
        assert keys["train.lr"] == float(f"{keys['train.lr']:.4g}")


def test_few_combinations_end_a_draw() -> None:
    assert len(points(parse(["a=1,2", "b=3"]), 50, 0)) == 2


def test_a_range_with_log_has_each_order_of_magnitude_as_often() -> None:
    drawn = points({"x": Range(1e-4, 1e-1, True)}, 600, 1)
    counts = [sum(math.floor(math.log10(keys["x"])) == power for keys in drawn) for power in (-4, -3, -2)]  # type: ignore[arg-type]
    assert min(counts) > 150
    plain = points({"x": Range(1e-4, 1e-1, False)}, 600, 1)
    assert sum(keys["x"] > 0.05 for keys in plain) > 250  # type: ignore[operator]


def test_ids_name_values_not_their_spelling() -> None:
    assert point_id({"a": 1, "b": 0.1}) == point_id({"b": 1e-1, "a": 1.0})
    assert point_id({"a": 1}) != point_id({"a": True})
