import pytest

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.models.arguments import check_names, whole_number

TASK = "semantic_segmentation"


def test_names():
    assert set(models.names(TASK)) == {
        "deeplabv3_resnet50",
        "deeplabv3_resnet101",
        "deeplabv3_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large",
        "fcn_resnet50",
        "unet",
    }
    assert models.names("other") == ()


def test_unknown_model():
    with pytest.raises(ModelError, match=r'no model "unett" for .*; did you mean "unet"\?; the models are'):
        models.build(TASK, "unett", bands=3, outputs=2, args={})


def test_arguments():
    with pytest.raises(ModelError, match='has no argument "widht"; did you mean "width"\\?; it takes width, depth'):
        check_names("unet", {"widht": 1}, ("width", "depth"))
    with pytest.raises(ModelError, match="it takes no arguments"):
        models.build(TASK, "fcn_resnet50", bands=3, outputs=2, args={"width": 1})
    for value in (0, 9, 2.0, True, "3"):
        with pytest.raises(ModelError, match="expects a whole number from 1 to 8"):
            whole_number("unet", {"depth": value}, "depth", 4, 1, 8)
