import contextlib

import torch


@contextlib.contextmanager
def threads(count):
    """Let torch compute with so many threads in a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
