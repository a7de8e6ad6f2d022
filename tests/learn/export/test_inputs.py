from __future__ import annotations

import numpy as np
import pytest

from rvbuild.learn.export.inputs import as_input, input_type


def test_bytes_are_divided_by_255_and_others_stay():
    image = np.array([0, 51, 255], dtype=np.uint8).reshape(1, 1, 1, 3)
    assert as_input(image, None).ravel().tolist() == [0.0, np.float32(0.2), 1.0]
    assert as_input(image.astype(np.uint16), None).ravel().tolist() == [0.0, 51.0, 255.0]


@pytest.mark.parametrize(("dtype", "kind"), [("uint8", "float32"), ("int16", "float32"), ("float64", "float64")])
def test_pixels_without_data_are_nan(dtype, kind):
    image = np.ones((2, 1, 1, 2), dtype=dtype)
    valid = np.array([True, False, True, True]).reshape(image.shape)
    values = as_input(image, valid)
    assert values.dtype == kind == input_type(dtype)
    assert np.isnan(values).ravel().tolist() == [False, True, False, False]
    assert (image == 1).all()
