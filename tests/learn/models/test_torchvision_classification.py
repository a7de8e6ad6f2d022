import pytest
import torch
import torchvision

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.models import torchvision_classification as families

TASK = "chip_classification"
#: The smallest of each family, and what it must be told.
SMALLEST = {
    "alexnet": {},
    "convnext_tiny": {},
    "densenet121": {},
    "efficientnet_b0": {},
    "efficientnet_v2_s": {},
    "googlenet": {},
    "inception_v3": {},
    "maxvit_t": {"image_size": 64},
    "mnasnet0_5": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "regnet_x_400mf": {},
    "regnet_y_400mf": {},
    "resnet18": {},
    "resnext50_32x4d": {},
    "shufflenet_v2_x0_5": {},
    "squeezenet1_1": {},
    "swin_t": {},
    "swin_v2_t": {},
    "vgg11": {},
    "vit_b_32": {"image_size": 64},
    "wide_resnet50_2": {},
}


@pytest.fixture
def quick_start(monkeypatch):
    """Leave weights as torch makes them: drawing those of large networks again takes most of the time."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "trunc_normal_", "normal_", "xavier_uniform_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


def build(name, bands=3, outputs=2, pretrained=False, note=pytest.fail, **args):
    return models.build(TASK, name, bands=bands, outputs=outputs, args=args, pretrained=pretrained, note=note)


def test_every_classifier_of_torchvision_has_a_name():
    assert sorted(families.NAMES) == sorted(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.parametrize("name", SMALLEST)
def test_every_family_takes_any_bands_and_classes(name, quick_start):
    model = build(name, bands=5, outputs=3, **SMALLEST[name]).eval()
    size = 75 if name == "inception_v3" else 64
    with torch.inference_mode():
        assert model(torch.zeros(2, 5, size, size)).shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in families.NAMES if not n.startswith(("regnet", "vit_h"))])
def test_every_network_has_a_head_and_a_first_convolution(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **families_options(name))
    last = model.get_submodule(families.last_layer(model))
    assert 7 in (getattr(last, "out_features", None), getattr(last, "out_channels", None))
    assert families.first_conv(model)[1].in_channels == 3


def families_options(name):
    quiet = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return {"num_classes": 7, **quiet}


@pytest.mark.parametrize("name", families.NAMES)
def test_every_network_has_pretrained_weights(name):
    assert families.weights_url(name).startswith("https://download.pytorch.org/models/")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
@pytest.mark.parametrize("bands", [2, 3, 4])
def test_weights_of_other_classes_and_bands_from_a_file(tmp_path, name, bands):
    source = torchvision.models.get_model(name, weights=None)
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "w.pth")
    notes = []
    weights = build(name, bands, outputs=2, pretrained=tmp_path / "w.pth", note=notes.append).state_dict()
    first, head = families.first_conv(source)[0], families.last_layer(source)
    for key, value in source.state_dict().items():
        if key.rsplit(".", 1)[0] not in (first, head):
            assert torch.equal(weights[key], value), key
    kept = min(bands, 3)
    assert torch.equal(weights[f"{first}.weight"][:, :kept], source.state_dict()[f"{first}.weight"][:, :kept])
    assert len(notes) == 1 and "for another number of classes" in notes[0]


def test_pretrained_weights_are_asked_for_by_their_fixed_name(monkeypatch):
    source = torchvision.models.shufflenet_v2_x0_5(weights=None)
    asked = []
    monkeypatch.setattr(families, "fetch", lambda url, note: asked.append(url) or source.state_dict())
    model = build("shufflenet_v2_x0_5", pretrained=True)
    assert asked == ["https://download.pytorch.org/models/shufflenetv2_x0.5-f707e7126e.pth"]
    assert torch.equal(model.conv1[0].weight, source.conv1[0].weight)


def test_old_names_of_densenets():
    tensor = torch.ones(1)
    state = {
        "features.denseblock1.denselayer2.norm.1.weight": tensor,
        "features.norm0.weight": tensor,
        "classifier.bias": tensor,
    }
    assert set(families._current_names(state)) == {
        "features.denseblock1.denselayer2.norm1.weight",
        "features.norm0.weight",
        "classifier.bias",
    }


@pytest.mark.slow
def test_position_embeddings_follow_the_image_size(tmp_path, quick_start):
    state = torchvision.models.vit_b_32(weights=None, image_size=96, num_classes=2).state_dict()
    torch.save({name: torch.zeros_like(value) for name, value in state.items()}, tmp_path / "w.pth")
    model = build("vit_b_32", pretrained=tmp_path / "w.pth", note=lambda _: None, image_size=64).eval()
    assert model.encoder.pos_embedding.shape[1] == 2 * 2 + 1
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.parametrize(("name", "step"), [("vit_b_16", 16), ("maxvit_t", 32)])
def test_image_sizes_that_do_not_fit_the_patches(name, step):
    with pytest.raises(ModelError, match=rf"image_size.*multiple of {step}, found 50"):
        build(name, image_size=50)


def test_arguments_of_others_are_refused():
    with pytest.raises(ModelError, match='"resnet18" has no argument "image_size"'):
        build("resnet18", image_size=64)
