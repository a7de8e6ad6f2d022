import subprocess
import sys

import pytest

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.models import cnn, torchvision_classification, torchvision_segmentation, unet
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


def test_names_are_those_of_the_families():
    assert sorted(models.names(TASK)) == sorted((*torchvision_segmentation.NAMES, *unet.NAMES))
    assert sorted(models.names("chip_classification")) == sorted((*torchvision_classification.NAMES, *cnn.NAMES))


@pytest.mark.slow
def test_what_needs_no_torchvision_does_not_import_it():
    script = (
        "import sys, torch\n"
        "from rvbuild.stages import network\n"
        "from rvbuild.learn import models\n"
        "for task, name in (('semantic_segmentation', 'unet'), ('chip_classification', 'cnn')):\n"
        "    model = models.build(task, name, bands=3, outputs=2, args={}).eval()\n"
        "    with torch.inference_mode(): model(torch.zeros(1, 3, 64, 64))\n"
        "print(sorted({'torchvision', 'torch._dynamo', 'timm'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


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
