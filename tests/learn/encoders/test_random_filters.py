"""The encoder without weights, and features as small integers."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash

from rvbuild.learn.encoders.encoder import LIMIT, leaves
from rvbuild.learn.encoders.open import open_encoder


def encoder_of(bands=3, stride_px=4):
    return open_encoder({"encoder": "random", "stride_px": stride_px}, None, bands, lambda line: None)


def image_of(bands, height, width, seed=0):
    return np.random.default_rng(seed).random((bands, height, width), dtype=np.float32)


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("stride_px", [2, 4, 8])
def test_features_have_the_shape_of_cells(bands, stride_px):
    encoder = encoder_of(bands, stride_px)
    features = encoder(image_of(bands, 64, 128))
    assert features.shape == (64 // stride_px, 128 // stride_px, len(encoder.encoder.names))
    assert features.dtype == np.int8


def test_features_of_photographs_are_spread_and_seldom_clipped():
    features = encoder_of()(leaves(3, 256)).reshape(-1, 156).astype(float)
    assert np.abs(features.mean(axis=0)).max() < 1
    assert np.abs(features.std(axis=0) - 16).max() < 2
    assert (np.abs(features) == LIMIT).mean() < 0.002


def test_neighbours_in_another_tile_have_the_same_features():
    encoder = encoder_of()
    image = image_of(3, 256, 256)
    whole, part = encoder(image), encoder(np.ascontiguousarray(image[:, 32:256, 0:224]))
    margin = encoder.encoder.margin_px // 4
    assert (whole[8 + margin : -margin, margin : 56 - margin] == part[margin:-margin, margin:-margin]).all()


def test_features_are_the_same_bytes_everywhere():
    features = encoder_of()(leaves(3, 64))
    assert xxhash.xxh3_64_hexdigest(features.tobytes()) == "ebcd65ec9bb8253f"
