"""Encoders with weights: torchvision's models, cut and frozen."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision

from rvbuild.errors import ModelError
from rvbuild.learn.encoders.encoder import leaves
from rvbuild.learn.encoders.open import open_encoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")

    def write(name, **change):
        path = folder / f"{name}-{len(change)}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            state = torchvision.models.get_model(name, weights=None).state_dict()
            state = {key: value for key, value in state.items() if not key.startswith(("classifier", "fc."))}
            safetensors.torch.save_file({**state, **change}, path)
        return path

    return write


def encoder_of(name, weights, count=3, **settings):
    options = {"encoder": name, "stride_px": 4, **settings}
    return open_encoder(options, weights, count, lambda line: None)


def image_of(bands, side=128):
    return np.random.default_rng(0).random((bands, side, side), dtype=np.float32)


def test_a_mobilenet_gives_168_features_beside_those_of_the_bands(weights_of):
    encoder = encoder_of("mobilenet_v2", weights_of("mobilenet_v2"))
    names = encoder.encoder.names
    smoothed = [name.removesuffix(", smoothed") for name in names if name.endswith(", smoothed")]
    assert len(smoothed) == 6 + 16 + 24 + 32 + 96
    assert list(names[: 6 + 16]) == smoothed[: 6 + 16]  # of finer detail than a cell of 4 px
    features = encoder(leaves(3, 128))
    assert features.shape == (32, 32, 6 + 16 + 174)
    assert (features.reshape(-1, len(names)).std(axis=0) > 0).all()


def test_many_channels_are_summed_at_random(weights_of):
    encoder = encoder_of("resnet18", weights_of("resnet18"))
    assert len(encoder.encoder.names) == 6 + 64 + 6 + 64 + 64 + 96 + 96
    assert encoder(image_of(3)).shape == (32, 32, 396)


def test_features_do_not_depend_on_the_threads_of_torch(weights_of):
    before = torch.get_num_threads()
    try:
        features = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            features.append(encoder_of("mobilenet_v2", weights_of("mobilenet_v2"))(image_of(3)))
    finally:
        torch.set_num_threads(before)
    assert (features[0] == features[1]).all()


def test_bands_are_those_that_are_named(weights_of):
    weights, image = weights_of("mobilenet_v2"), image_of(5)
    named = encoder_of("mobilenet_v2", weights, 5, bands=[4, 0, 2])
    assert len(named.encoder.names) == 10 + 16 + 10 + 168
    alone = encoder_of("mobilenet_v2", weights, 3)

    def of_model(encoder, bands):
        return encoder.encoder(np.ascontiguousarray(bands))[-168:]

    assert (of_model(named, image) == of_model(alone, image[[4, 0, 2]])).all()
    assert (of_model(encoder_of("mobilenet_v2", weights, 5), image) == of_model(alone, image[:3])).all()
    assert (of_model(encoder_of("mobilenet_v2", weights, 1), image[:1]) == of_model(alone, image[[0, 0, 0]])).all()
    with pytest.raises(ModelError, match=r"draft\.bands: there is no band 4; the image has bands 0 to 2"):
        encoder_of("mobilenet_v2", weights, 3, bands=[4, 0, 2])


def test_other_weights_are_refused(weights_of, tmp_path):
    with pytest.raises(
        ModelError, match=r"draft\.weights: .* torchvision's \"mobilenet_v2\"; the file lacks 260 of 312"
    ):
        encoder_of("mobilenet_v2", weights_of("resnet18"))
    wrong = weights_of("mobilenet_v2", **{"features.0.0.weight": torch.zeros(32, 4, 3, 3)})
    with pytest.raises(ModelError, match=r"has in another shape 1 of 312 tensors, for example features\.0\.0\.weight"):
        encoder_of("mobilenet_v2", wrong)
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"draft\.weights: .* cannot be read as weights"):
        encoder_of("mobilenet_v2", tmp_path / "w.pth")
