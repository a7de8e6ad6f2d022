import pytest

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.losses.weights import class_weights

NAMES = ["car", "tree", "road"]


def test_class_weights():
    assert class_weights("none", NAMES, [1, 2, 3]) is None
    assert class_weights({"tree": 2}, NAMES, [1, 2, 3]) == [1.0, 2.0, 1.0]
    balanced = class_weights("balanced", NAMES, [30, 0, 10])
    assert balanced == [pytest.approx(40 / 60), 0.0, 2.0]
    assert balanced[0] * 30 == balanced[2] * 10


def test_class_weights_that_cannot_be():
    with pytest.raises(ModelError, match='"balance"; did you mean "balanced"'):
        class_weights("balance", NAMES, [1, 2, 3])
    with pytest.raises(ModelError, match='no class "three"; did you mean "tree"'):
        class_weights({"three": 1.0}, NAMES, [1, 2, 3])
    with pytest.raises(ModelError, match="car: expected a number of at least 0, found -1"):
        class_weights({"car": -1}, NAMES, [1, 2, 3])
    with pytest.raises(DataError, match="every class that the training chips have weighs 0"):
        class_weights({"car": 0, "tree": 0}, NAMES, [1, 2, 0])
