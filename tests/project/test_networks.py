"""The networks of other packages by name, and what project files that name them may say."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

from rvbuild.project.networks import encoders, timm
from tests.project.conftest import BASE, Loader, Problems

CELLS = BASE.replace("semantic_segmentation", "chip_classification").replace(
    'labels = { raster = "data/{id}_label.tif" }',
    'labels = { vector = "data/{id}.geojson", class = "car", cell_px = 50 }',
)
BOXES = BASE.replace("semantic_segmentation", "object_detection").replace(
    'labels = { raster = "data/{id}_label.tif" }', 'labels = { vector = "data/{id}.geojson", class = "car" }'
)


def test_examples() -> None:
    assert doctest.testmod(timm).failed == doctest.testmod(encoders).failed == 0


def test_the_table_is_of_all_networks() -> None:
    networks = timm.networks()
    assert len(networks) > 1300 and sum(bool(network.strides) for network in networks.values()) > 1000
    assert networks["resnet50"].parameters == 25_557_032
    assert networks["resnet50"].strides == (2, 4, 8, 16, 32)
    assert next(iter(networks["convnext_tiny"].weights)) == "in12k_ft_in1k"


@pytest.mark.slow
def test_the_table_is_of_the_version_that_is_installed() -> None:
    import timm as package

    if package.__version__ == "1.0.31":
        assert sorted(timm.networks()) == sorted(package.list_models())
    for name in ("resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):
        cfg = package.get_pretrained_cfg(name)
        assert timm.with_weights(f"timm/{name}") == f"timm/{name}.{cfg.tag}"
        assert timm.licence(f"timm/{name}") == cfg.license


def test_licences_are_those_of_the_weights() -> None:
    assert timm.licence("timm/convnext_tiny") == "apache-2.0"
    assert timm.licence("timm/convnext_tiny.dinov3_lvd1689m") == "dinov3-license"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('model = "unet"\nencoder = "timm/resnet81"', 'timm has no network "resnet81"; did you mean "timm/resnet18"?'),
        ('model = "unet"\nencoder = "resnet18"', 'did you mean "timm/resnet18" or "torchvision/resnet18"?'),
        ('model = "unet"\nencoder = "torchvision/vit_b_16"', 'unknown encoder "torchvision/vit_b_16"'),
        (
            'model = "unet"\nencoder = "timm/resnet18.a1_in2k"',
            'timm\'s "resnet18" has no weights "a1_in2k"; did you mean "a1_in1k"?',
        ),
        ('model = "fpn"', '"fpn" needs an encoder, for example encoder = "timm/convnext_tiny"'),
        (
            'model = "fcn_resnet50"\nencoder = "timm/resnet18"',
            '"fcn_resnet50" takes no encoder; with an encoder: unet,',
        ),
        ('model = "fpnn"\nencoder = "timm/resnet18"', 'unknown model "fpnn"; did you mean "fpn"?'),
        ('encoder = "timm/resnet18"', '"deeplabv3_resnet50" takes no encoder; did you mean "deeplabv3"?'),
        (
            'model = "unet"\nencoder = "timm/resnet18"\nmodel_args = { decoder_chanels = [1] }',
            '"unet" with an encoder has no such argument; did you mean "decoder_channels"?',
        ),
        ('model = "unet"\nmodel_args = { encoder = "timm/resnet18" }', "is a key of its own: set train.encoder"),
        ('model = "a.b:c"\nencoder = "timm/resnet18"', 'has no effect with your own model "a.b:c"'),
        (
            'model = "timm/resnet18"',
            'is a model of chip_classification; set model = "unet", for example, and encoder = "timm/resnet18"',
        ),
        (
            'model = "unet"\nencoder = "timm/test_mambaout"\npretrained = true',
            '"timm/test_mambaout" has no pretrained weights; give a path to a file, or remove the key',
        ),
    ],
)
def test_wrong_encoders(problems: Problems, lines: str, expected: str) -> None:
    found = problems(f"{BASE}[train]\n{lines}\n")
    assert len(found) == 1 and expected in found[0]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('model = "fcos"', '"fcos" needs an encoder, for example encoder = "timm/convnext_tiny"'),
        (
            'model = "ssdlite_mobilenet_v3_large"\nencoder = "timm/resnet18"',
            '"ssdlite_mobilenet_v3_large" takes no encoder; with an encoder: fasterrcnn, retinanet, fcos',
        ),
        (
            'model = "retinanet_resnet50_fpn"\nencoder = "timm/resnet18"',
            '"retinanet_resnet50_fpn" takes no encoder; did you mean "retinanet"?',
        ),
        ('model = "unet"\nencoder = "timm/resnet18"', '"unet" takes no encoder; with an encoder: fasterrcnn,'),
        ('model = "fasterrcn"\nencoder = "timm/resnet18"', 'unknown model "fasterrcn"; did you mean "fasterrcnn"?'),
        (
            'model = "fcos"\nencoder = "timm/resnet18"\nmodel_args = { norm = "group" }',
            '"fcos" with an encoder has no such argument; it takes anchor_px, fpn_channels, detections',
        ),
        ('model = "fcos"\nencoder = "timm/resnet81"', 'timm has no network "resnet81"; did you mean "timm/resnet18"?'),
        (
            'model = "timm/resnet18"',
            'is a model of chip_classification; set model = "fasterrcnn", for example, and encoder = "timm/resnet18"',
        ),
    ],
)
def test_wrong_encoders_of_detectors(problems: Problems, lines: str, expected: str) -> None:
    found = problems(f"{BOXES}[train]\n{lines}\n")
    assert len(found) == 1 and expected in found[0]


def test_wrong_classifiers(problems: Problems) -> None:
    (found,) = problems(f'{CELLS}[train]\nmodel = "timm/resnet81"\n')
    assert 'timm has no network "resnet81"; did you mean "timm/resnet18"?' in found
    (found,) = problems(f'{CELLS}[train]\nencoder = "timm/resnet18"\n')
    assert "does not apply to chip_classification; encoders belong to semantic_segmentation and" in found


def test_settings(loaded: Loader) -> None:
    text = f'{BASE}[train]\nmodel = "unet"\nencoder = "timm/resnet18"\n'
    settings = loaded(text).train.stage_settings()
    assert settings["pretrained"] is True
    # The weights have a name, in case that timm takes others by default one day.
    assert settings["model_args"] == {"encoder": "timm/resnet18.a1_in1k"}
    settings = loaded(f"{text}pretrained = false\n").train.stage_settings()
    assert settings["model_args"] == {"encoder": "timm/resnet18"}
    settings = loaded(f'{CELLS}[train]\nmodel = "timm/resnet18"\n').train.stage_settings()
    assert (settings["model"], settings["pretrained"]) == ("timm/resnet18.a1_in1k", True)
    settings = loaded(f'{BASE}[train]\nmodel = "unet"\n').train.stage_settings()
    assert (settings["pretrained"], settings["model_args"], "encoder" in settings) == (False, {}, False)


def test_names_are_checked_without_the_packages() -> None:
    code = (
        "import sys; from rvbuild.project.tables.train import TrainTable; from rvbuild.project.networks import timm;"
        "assert timm.problem('timm/resnet18', encoder=True) is None;"
        "assert not {'torch', 'timm', 'numpy', 'segmentation_models_pytorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arguments_of_decoders_are_those_of_the_package() -> None:
    import inspect

    smp = pytest.importorskip("segmentation_models_pytorch")
    from rvbuild.project.tasks.segmentation import DECODERS

    left_out = {"encoder_name", "encoder_weights", "encoder_output_stride", "in_channels", "classes"}
    left_out |= {"self", "activation", "aux_params", "kwargs", "upsampling"}
    for name, arguments in DECODERS.items():
        signature = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[name].__init__)
        # The others are made for five levels, or give a coarser map than they say.
        own = left_out if name in ("unet", "unetplusplus", "manet", "linknet") else left_out | {"encoder_depth"}
        assert set(arguments) == set(signature.parameters) - own, name
