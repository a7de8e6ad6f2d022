import sys

import pytest
import safetensors.torch
import torch
import torchvision

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.fold import fold_batchnorm
from rvbuild.learn.models.expected import expected
from rvbuild.project.networks import timm as names
from rvbuild.project.tasks.segmentation import DECODERS

PIXELS, CELLS = "semantic_segmentation", "chip_classification"

FAMILIES = ("resnet", "convnext", "efficientnet", "vit", "vit3", "maxvit", "mambaout", "nfnet", "byobnet", "coatnet")
"""timm has a small network of each kind for tests: convolutions, windows, patches, one stride or many."""


def segmenter(encoder, model="fpn", bands=3, chip_px=64, pretrained=False, note=pytest.fail, **args):
    small = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32} if model == "fpn" else {}
    return models.build(
        PIXELS,
        model,
        bands=bands,
        outputs=2,
        args={**small, **args, "encoder": encoder},
        pretrained=pretrained,
        note=note,
        chip_px=chip_px,
    )


def classifier(name, bands=3, chip_px=64, pretrained=False, note=pytest.fail):
    return models.build(CELLS, name, bands=bands, outputs=2, args={}, pretrained=pretrained, note=note, chip_px=chip_px)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("bands", "chip_px"), [(1, 64), (13, 50)])
def test_every_kind_of_encoder_learns_from_any_bands_and_sides(family, bands, chip_px):
    model = segmenter(f"timm/test_{family}", bands=bands, chip_px=chip_px)
    images = torch.rand(2, bands, chip_px, chip_px)
    logits = model(images)
    assert logits.shape == (2, 2, chip_px, chip_px)
    logits.square().mean().backward()
    first = next(p for p in model.encoder.parameters() if p.dim() == 4 and p.shape[1] % bands == 0)
    assert first.grad.abs().sum() > 0
    again = segmenter(f"timm/test_{family}", bands=bands, chip_px=chip_px)
    again.load_state_dict(model.state_dict())
    with torch.inference_mode():
        assert torch.equal(again.eval()(images), model.eval()(images))
        assert torch.allclose(fold_batchnorm(again)(images), model(images), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(DECODERS))
@pytest.mark.parametrize("encoder", ["timm/test_vit", "torchvision/mobilenet_v2"])
def test_every_decoder(model, encoder):
    network = segmenter(encoder, model, bands=4, chip_px=128).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 4, 120, 127)).shape == (1, 2, 120, 127)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize(
    "encoder", ["torchvision/resnet18", "torchvision/mobilenet_v2", *(f"timm/test_{name}" for name in FAMILIES[:5])]
)
def test_a_shallow_encoder_is_the_first_levels_of_the_whole_one(encoder, depth):
    shallow = segmenter(encoder, "unet", encoder_depth=depth, decoder_channels=[8] * depth).eval()
    whole = segmenter(encoder, "unet", decoder_channels=[8] * 5).eval()
    state = whole.encoder.state_dict()
    shallow.encoder.load_state_dict({name: state[name] for name in shallow.encoder.state_dict()})
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        levels, all_levels = shallow.encoder(images), whole.encoder(images)
        assert len(levels) == 1 + depth < len(all_levels)
        assert all(torch.equal(level, same) for level, same in zip(levels, all_levels, strict=False))
        assert shallow(torch.rand(1, 3, 60, 51)).shape == (1, 2, 60, 51)
    if "vit" not in encoder and "efficientnet" not in encoder:  # of those timm keeps all blocks
        shallow.train()(images).square().mean().backward()
        assert all(parameter.grad is not None for parameter in shallow.parameters())
        assert len(shallow.encoder.state_dict()) < len(state)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("model", [name for name, args in sorted(DECODERS.items()) if "encoder_depth" in args])
def test_decoders_of_shallow_encoders(model, depth):
    args = {} if model == "linknet" else {"decoder_channels": [32, 16, 16, 8][-depth:]}
    network = segmenter("torchvision/mobilenet_v2", model, encoder_depth=depth, **args).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 60, 51)).shape == (1, 2, 60, 51)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["test_vit3", "test_resnet", "swin_tiny_patch4_window7_224", "deit_tiny_distilled_patch16_224"]
)
def test_classifiers_take_any_bands_and_sides(name):
    for bands, chip_px in ((1, 50), (4, 64)):
        model = classifier(f"timm/{name}", bands, chip_px)
        assert model(torch.rand(2, bands, chip_px, chip_px)).shape == (2, 2)
        assert model.eval()(torch.rand(2, bands, chip_px, chip_px)).shape == (2, 2)


def test_a_side_that_patches_do_not_divide_is_resized_and_not_cut():
    from rvbuild.learn.models import timm_networks

    assert "timm/aimv2_large_patch14_224" and names.find("timm/aimv2_large_patch14_224").strides == (14, 14, 14)
    options = (("features_only", True),)
    assert timm_networks._fitted("test_vit", options, 64) == ({}, None)
    assert timm_networks._fitted("test_vit", options, 50) == ({}, 64)
    assert timm_networks._fitted("test_vit3", options, 64) == ({"img_size": 64}, 64)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"needs the package timm; install it with: pip install 'rvbuild\[timm\]'"):
        classifier("timm/test_resnet")
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(
        ModelError, match=r"segmentation-models-pytorch; install it with: pip install 'rvbuild\[timm\]'"
    ):
        segmenter("torchvision/resnet18")


def test_names_from_files_are_checked_again():
    with pytest.raises(ModelError, match=r'train\.encoder: timm has no network "resnet81"'):
        segmenter("timm/resnet81")
    with pytest.raises(ModelError, match=r'train\.model: timm has no network "resnet81"'):
        classifier("timm/resnet81")
    with pytest.raises(ModelError, match='model "fpn" has no argument "width"'):
        segmenter("timm/test_resnet", width=3)
    with pytest.raises(ModelError, match=r'train\.model_args: "unet" cannot be made with decoder_channels = 3'):
        segmenter("timm/test_resnet", "unet", decoder_channels=3)
    with pytest.raises(
        ModelError, match=r'train\.model_args: "unet" cannot be made with encoder_depth = 4: .* 5 blocks'
    ):
        segmenter("timm/test_resnet", "unet", encoder_depth=4)
    message = r'train\.model_args\.encoder_depth: model "unet" expects a whole number from 3 to 5, found 2'
    with pytest.raises(ModelError, match=message):
        segmenter("timm/test_resnet", "unet", encoder_depth=2)


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_weights_of_a_whole_network_become_those_of_its_features(tmp_path, bands):
    torch.manual_seed(3)
    source = classifier("timm/test_convnext").model
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    notes = []
    model = segmenter("timm/test_convnext", bands=bands, pretrained=tmp_path / "w.safetensors", note=notes.append)
    assert torch.equal(model.encoder.model.stages_2.blocks[0].mlp.fc1.weight, source.stages[2].blocks[0].mlp.fc1.weight)
    kept = min(bands, 3)
    assert torch.equal(model.encoder.model.stem_0.weight[:, :kept], source.stem[0].weight[:, :kept])
    assert "tensors are taken by name" in notes[0]
    assert len(notes) == 1


@pytest.mark.slow
def test_weights_under_other_names_are_taken_in_order(tmp_path):
    torch.manual_seed(3)
    source = torchvision.models.mobilenet_v2(weights=None).features.state_dict()
    torch.save({f"t{number}": value for number, value in enumerate(source.values())}, tmp_path / "w.pt")
    notes = []
    model = segmenter("torchvision/mobilenet_v2", pretrained=tmp_path / "w.pt", note=notes.append)
    own = model.encoder.model.net.features.state_dict()
    assert all(torch.equal(own[name], value) for name, value in source.items() if "tracked" not in name)
    assert notes == ["w.pt: 260 of 260 tensors are taken in their order, by shape"]


@pytest.mark.slow
def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(classifier("timm/test_resnet").model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"w.pt does not hold the weights of this network: \d+ of \d+ tensors fit"):
        segmenter("timm/test_efficientnet", pretrained=tmp_path / "w.pt", note=lambda _: None)
    with pytest.raises(ModelError, match=r"w.pt does not hold the weights of this network: \d+ of 260 tensors fit"):
        segmenter("torchvision/mobilenet_v2", pretrained=tmp_path / "w.pt", note=lambda _: None)


@pytest.mark.slow
def test_a_whole_model_from_a_file(tmp_path):
    first = segmenter("timm/test_resnet", bands=4)
    safetensors.torch.save_file(first.state_dict(), tmp_path / "w.safetensors")
    second = segmenter("timm/test_resnet", bands=4, pretrained=tmp_path / "w.safetensors")
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.slow
def test_a_failed_download_says_what_to_do(monkeypatch):
    import timm

    real = timm.create_model

    def create(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no network")
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(ModelError) as error:
        segmenter("timm/test_resnet", pretrained=True)
    assert "the weights of timm/test_resnet.r160_in1k could not be downloaded from https://huggingface.co/timm/" in str(
        error.value
    )
    assert '`pretrained = "path/to/model.safetensors"`' in str(error.value)


def test_weights_say_how_images_are_normalised():
    assert expected("unet", {"encoder": "timm/test_vit"}) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert expected("unet", {"encoder": "torchvision/resnet18"})[0] == (0.485, 0.456, 0.406)
