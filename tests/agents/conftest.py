"""Small environments that the tests of the agents share."""

import pytest

SMALL = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.6, "warm_volumes": 1.0, "workloads": "zipf-0.9"}


@pytest.fixture
def small():
    """Arguments of a small file system."""
    return {**SMALL, "episode_volumes": 2.0}


@pytest.fixture
def one_thread():
    """One torch thread, as in every training."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
