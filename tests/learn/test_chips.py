import json
import pickle

import numpy as np
import pytest
import safetensors.numpy

from rvbuild.errors import DataError
from rvbuild.learn.chips import dataset as module
from rvbuild.learn.chips.dataset import Chips
from tests.learn.chipmaker import OPS, chip_arrays, write_chips


@pytest.fixture
def scenes(tmp_path):
    made = {}
    for seed, (name, count) in enumerate([("b", 7), ("a", 4), ("empty", 0)]):
        images, labels = chip_arrays(count, seed=seed)
        valid = images > 60 if name == "a" else None
        made[f"chips/train/{name}"] = write_chips(tmp_path / name, name, images, labels, per_shard=3, valid=valid)
    return made


def test_scenes_follow_each_other_in_the_order_of_roles(scenes):
    chips = Chips(scenes, OPS)
    images, labels = (np.concatenate(part) for part in zip(chip_arrays(4, seed=1), chip_arrays(7, seed=0), strict=True))
    assert len(chips) == 11 and (chips.bands, chips.dtype, chips.size_px) == (3, "uint8", 16)
    assert chips.scene_counts == {"a": 4, "b": 7, "empty": 0}
    assert chips.class_counts.tolist() == np.bincount(labels.ravel()).tolist()
    for position in [10, 0, 3, 4, 7, 2]:
        sample = chips[position]
        assert np.array_equal(sample.image, images[position])
        assert np.array_equal(sample.target["labels"], labels[position])
        if position < 4:
            assert np.array_equal(sample.valid, images[position] > 60)
        else:
            assert sample.valid is None


def test_some_are_chosen_by_the_seed_and_fewer_are_among_more(scenes):
    whole = Chips(scenes, OPS)
    images = [whole[n].image for n in range(len(whole))]

    def chosen(most, seed=3):
        chips = Chips(scenes, OPS)
        chips.choose(most, seed)
        chips = pickle.loads(pickle.dumps(chips))
        samples = [
            next(i for i, image in enumerate(images) if np.array_equal(chips[n].image, image))
            for n in range(len(chips))
        ]
        counts = [np.bincount(chips[n].target["labels"].ravel(), minlength=3) for n in range(len(chips))]
        assert chips.class_counts.tolist() == np.sum(counts, axis=0).tolist()
        assert chips.chip_class_counts.tolist() == np.array(counts).tolist()
        return samples

    assert [len(chosen(most)) for most in (1, 4, 11)] == [1, 4, 11]
    assert set(chosen(4)) < set(chosen(8)) and chosen(8) == sorted(chosen(8))
    assert chosen(4) == chosen(4) != chosen(4, seed=4)


def test_few_shards_stay_open(scenes, monkeypatch):
    monkeypatch.setattr(module, "OPEN_SHARDS", 2)
    chips = Chips(scenes, OPS)
    first = [chips[n].image for n in range(len(chips))]
    assert len(chips._open) == 2
    assert all(np.array_equal(chips[n].image, image) for n, image in enumerate(first))


def test_each_shard_is_looked_at_once(scenes, monkeypatch):
    monkeypatch.setattr(module, "OPEN_SHARDS", 1)
    looked_at = []
    check = module.check_labels
    monkeypatch.setattr(module, "check_labels", lambda path, *rest: (looked_at.append(path), check(path, *rest)))
    chips = Chips(scenes, OPS)
    for n in (0, 10, 0, 10, 5):
        chips[n]
    assert len(looked_at) == len(set(looked_at)) == 3


def test_labels_that_are_no_class_or_missing_are_refused(tmp_path):
    images, labels = chip_arrays(3)
    labels[2, 0, 0] = 3
    paths = write_chips(tmp_path, "a", images, labels.clip(0, 2))
    shard = tmp_path / "labels-00000.safetensors"
    safetensors.numpy.save_file({"labels": labels}, shard)
    with pytest.raises(DataError, match="expected class ids from 0 to 2, found 3; build the chips again"):
        Chips({"chips/train/a": paths}, OPS)[0]
    safetensors.numpy.save_file({"classes": np.zeros(3, np.uint8)}, shard)
    with pytest.raises(DataError, match=r"labels-00000\.safetensors: has no labels; build the chips again"):
        Chips({"chips/train/a": paths}, OPS)[0]


def test_goes_to_another_process_without_its_maps(scenes):
    chips = Chips(scenes, OPS)
    image = chips[5].image
    sent = pickle.dumps(chips)
    assert len(sent) < 5000
    assert np.array_equal(pickle.loads(sent)[5].image, image)


def test_no_chips_at_all(tmp_path, scenes):
    chips = Chips({}, OPS)
    assert len(chips) == 0 and chips.class_counts.tolist() == []


@pytest.mark.parametrize("change", [{"bands": 2}, {"dtype": "uint16"}, {"size": 24}])
def test_scenes_that_differ(tmp_path, scenes, change):
    scenes["chips/train/c"] = write_chips(tmp_path / "c", "c", *chip_arrays(2, **change))
    with pytest.raises(DataError, match=r"differs between scenes: .* in a, .* in c; "):
        Chips(scenes, OPS)


def test_damaged_index(tmp_path, scenes):
    index = tmp_path / "a/index.json"
    content = json.loads(index.read_text())
    index.write_text("{")
    with pytest.raises(DataError, match=r"a/index.json: cannot be read"):
        Chips(scenes, OPS)
    index.write_text("{}")
    with pytest.raises(DataError, match="lacks bands, class_counts, classes"):
        Chips(scenes, OPS)
    index.write_text(json.dumps({**content, "shards": [{**content["shards"][0], "images": "gone"}]}))
    with pytest.raises(DataError, match=r"the chips of scene a have no file gone, only images-00000.safetensors"):
        Chips(scenes, OPS)
    index.write_text(json.dumps({**content, "shards": [{**content["shards"][0], "count": 2}]}))
    with pytest.raises(DataError, match=r"expected images \(2, 3, 16, 16\) uint8 for scene a"):
        Chips(scenes, OPS)[0]
