"""Observations brought to zero mean and unit variance inside the policy, so that a saved model needs nothing beside it.

The environments' features lie in 0..1, but many differ from one workload to another by a few hundredths only. A network
that begins with them as they are takes most of a short training to tell workloads apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

LEAST_DEVIATION = 0.02  # features that hardly vary are not blown up
LARGEST = 5.0


class Standardize(BaseFeaturesExtractor):
    """Standardizes flat observations with the statistics of the first ones that training collects, and then for good.

    Freezing keeps the policy that collects experience and the one that is updated the same function. The buffers are
    named as those of batch normalization, which Stable-Baselines3 copies into target networks.

    Attributes:
        learning: Whether what passes now counts; see `standardization`.
        samples: Observations after which the statistics are frozen.
        running_mean: (F,) float32.
        running_var: (F,) float32.
        running_count: () float32, observations seen so far.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    running_count: torch.Tensor

    def __init__(self, observation_space: spaces.Space[Any], samples: int = 2048) -> None:
        """Begin without statistics."""
        assert observation_space.shape is not None
        (features,) = observation_space.shape
        super().__init__(observation_space, features)
        self.samples = samples
        self.learning = False
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("running_count", torch.zeros(()))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Standardized observations (N, F) float32, within ±5."""
        if self.learning and self.running_count < self.samples:
            self._learn(observations.detach())
        deviation = self.running_var.sqrt().clamp_min(LEAST_DEVIATION)
        return ((observations - self.running_mean) / deviation).clamp(-LARGEST, LARGEST)

    def _learn(self, observations: torch.Tensor) -> None:
        """Merge a batch into the statistics (Chan, Golub and LeVeque 1979)."""
        count, added = self.running_count, torch.tensor(float(len(observations)))
        total = count + added
        difference = observations.mean(dim=0) - self.running_mean
        spread = self.running_var * count + observations.var(dim=0, unbiased=False) * added
        self.running_var.copy_((spread + difference**2 * count * added / total) / total)
        self.running_mean.add_(difference * added / total)
        self.running_count.copy_(total)


@contextmanager
def standardization(policy: nn.Module, learning: bool) -> Iterator[None]:
    """Let the policy's `Standardize` modules learn, or not, for a while."""
    modules = [module for module in policy.modules() if isinstance(module, Standardize)]
    before = [module.learning for module in modules]
    for module in modules:
        module.learning = learning
    try:
        yield
    finally:
        for module, was in zip(modules, before, strict=True):
            module.learning = was
