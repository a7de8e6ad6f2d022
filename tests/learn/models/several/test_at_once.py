import pytest
import torch

from rvbuild.learn.models.several.at_once import computed, workers
from tests.learn.threads import threads


def test_the_most_expensive_networks_start_first_and_results_keep_their_order():
    started = []

    def compute(number):
        started.append(number)
        return torch.tensor(float(number))

    with threads(2):
        assert [float(result) for result in computed(compute, [1, 3, 2], 1)] == [0, 1, 2]
        assert started == [0, 1, 2]
        started.clear()
        assert [float(result) for result in computed(compute, [1, 3, 2], 2)] == [0, 1, 2]
    assert set(started[:2]) == {1, 2}


def test_each_thread_has_its_part_of_the_threads_and_the_modes_of_its_caller():
    def compute(number):
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        states.append((torch.get_num_threads(), torch.is_inference_mode_enabled(), torch.is_grad_enabled(), half))
        return torch.zeros(())

    states = []
    with threads(4):
        computed(compute, [1, 1], 2)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            computed(compute, [1, 1], 2)
        with torch.inference_mode():
            computed(compute, [1, 1], 2)
        assert torch.get_num_threads() == 4
    assert states[::2] == [(2, False, True, None), (2, False, False, torch.bfloat16), (2, True, False, None)]


def test_an_error_in_one_network_is_raised():
    def compute(number):
        if number:
            raise ZeroDivisionError
        return torch.zeros(())

    with threads(2), pytest.raises(ZeroDivisionError):
        computed(compute, [1, 1], 2)


def test_a_network_that_does_not_learn_beside_one_that_does():
    weight = torch.ones((), requires_grad=True)
    with threads(2):
        learning, other = computed(lambda number: 2 * weight if number == 0 else torch.ones(()), [1, 1], 2)
        (learning + other).backward()
    assert weight.grad == 2


def test_one_after_the_other_where_threads_cannot_be():
    class Counts(torch.nn.Module):
        def forward(self, images):
            at_once.append(workers(3, images))
            return images + 1

    at_once, images = [], torch.zeros(1, 3, 8, 8)
    with threads(2):
        assert workers(1, images) == 1
        Counts()(images)
        Counts()(torch.zeros(1, 3, 8, 8, requires_grad=True))
        Counts()(torch.zeros(1, 3, 8, 8, device="meta"))
        torch.export.export(Counts(), (images,))
    assert at_once[:3] == [2, 1, 1] and set(at_once[3:]) == {1}
