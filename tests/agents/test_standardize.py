"""Standardizing inside the policy: the right statistics, frozen in time, and saved with the model."""

import torch
from gymnasium import spaces

from agents.standardize import Standardize, standardization


def test_statistics_of_several_batches_are_those_of_all_and_then_freeze():
    module = Standardize(spaces.Box(0, 1, (3,)), samples=100)
    data = torch.rand(150, 3, generator=torch.Generator().manual_seed(0))
    module(data)
    assert module.running_count == 0, "it learns only where it is told to"
    with standardization(torch.nn.Sequential(module), learning=True):
        for batch in data[:120].split(30):
            module(batch)
        seen = module(data[:120])
        module(data[120:] + 5.0)
    torch.testing.assert_close(module.running_mean, data[:120].mean(dim=0))
    torch.testing.assert_close(module.running_var, data[:120].var(dim=0, unbiased=False))
    torch.testing.assert_close(seen.std(dim=0, unbiased=False), torch.ones(3))
    assert not module.learning
    other = Standardize(spaces.Box(0, 1, (3,)))
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(data), module(data))


def test_constant_features_stay_small():
    module = Standardize(spaces.Box(0, 1, (2,)), samples=10)
    with standardization(module, learning=True):
        module(torch.full((10, 2), 0.5))
    assert module(torch.full((1, 2), 0.51)).abs().max() <= 0.5 + 1e-6
