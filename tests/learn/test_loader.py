import threading

import numpy as np
import pytest
import torch

from rvbuild.learn.chips.augment import Augmenter
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.chips.loader import BatchMaker, Loader, Request, epoch_requests, plain_requests
from tests.learn.chipmaker import OPS, chip_arrays, write_chips

SCALE = {"kind": "scale", "max": 255}


@pytest.fixture
def maker(tmp_path):
    images, labels = chip_arrays(9)
    valid = np.ones(images.shape, dtype=bool)
    valid[2, 0, 3:5] = False
    chips = Chips({"chips/train/a": write_chips(tmp_path, "a", images, labels, valid=valid)}, OPS)
    return BatchMaker({"train": chips}, OPS, Augmenter(["flip", "rotate90", "brightness"], SCALE, "uint8", 3, OPS), 3)


def test_plain_batches_are_the_chips(maker):
    images, labels = chip_arrays(9)
    batch = maker[Request("train", [8, 2, 0], None)]
    assert np.array_equal(batch.images, images[[8, 2, 0]]) and np.array_equal(
        batch.targets["labels"], labels[[8, 2, 0]]
    )
    assert batch.valid.sum() == 3 * 3 * 256 - 32 and not batch.valid[1, 0, 3:5].any()


def test_a_chip_is_augmented_the_same_in_any_batch(maker):
    single = maker[Request("train", [1, 4], 2)]
    other = maker[Request("train", [4, 7, 8], 2)]
    assert torch.equal(single.images[1], other.images[0])
    assert not torch.equal(single.images[1], maker[Request("train", [4], 3)].images[0])


@pytest.mark.slow
def test_threads_and_processes_give_the_same_batches(maker):
    requests = epoch_requests(9, 2, 3, 1)
    expected = [maker[request] for request in requests]
    for loader in (Loader(maker, 0), Loader(maker, 0, ahead=False), Loader(maker, 2)):
        state = torch.get_rng_state()
        for _ in range(2):
            batches = list(loader.batches(requests))
            assert len(batches) == len(expected)
            for first, second in zip(batches, expected, strict=True):
                assert torch.equal(first.images, second.images)
                assert torch.equal(first.targets["labels"], second.targets["labels"])
                assert (first.valid is None) == (second.valid is None)
        assert torch.equal(torch.get_rng_state(), state), "a loader drew from the global generator"


def test_an_error_in_the_thread_reaches_the_caller(maker):
    with pytest.raises(IndexError):
        list(Loader(maker, 0).batches([Request("train", [0], None), Request("train", [99], None)]))


def test_leaving_early_stops_the_thread(maker):
    batches = Loader(maker, 0).batches(plain_requests("train", range(9), 1))
    next(batches)
    assert any(thread.name.startswith("rvbuild-chips") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("rvbuild-chips") for thread in threading.enumerate())


def test_epochs_are_permutations_that_differ():
    orders = [[n for r in epoch_requests(10, 4, 5, epoch) for n in r.chips] for epoch in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10)) and orders[0] != orders[1]
    assert [[n for r in epoch_requests(10, 4, 5, 1) for n in r.chips]] == orders[:1]


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (1, 4, [1]), (3, 1, [1, 1, 1]), (3, 8, [3]), (2, 1, [1, 1])],
)
def test_only_a_last_single_chip_is_dropped(count, batch_size, sizes):
    assert [len(r.chips) for r in epoch_requests(count, batch_size, 0, 1)] == sizes
