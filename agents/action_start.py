"""A policy of bounded numbers that begins at a given action instead of the middle of the box.

The start is found by `python -m agents.action_search` on the training workloads; training then adapts it to what the
agent sees. It is the human's part of the result, so tables show the constant action beside the agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from kml_envs.errors import UserError


class ActionStartPolicy(ActorCriticPolicy):
    """Stable-Baselines3's actor-critic policy whose mean action begins at `initial_action`, whatever it sees."""

    def __init__(self, *args: Any, initial_action: Sequence[float] | None = None, **kwargs: Any) -> None:
        """Build the policy.

        Args:
            *args: As for `ActorCriticPolicy`.
            initial_action: (A,) numbers within the action space; None: the middle of the box.
            **kwargs: As for `ActorCriticPolicy`.

        Raises:
            UserError: The numbers do not fit the action space.
        """
        self.initial_action = None if initial_action is None else [float(number) for number in initial_action]
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if self.initial_action is None:
            return
        if self.action_space.shape != (len(self.initial_action),):
            given, wanted = len(self.initial_action), self.action_space.shape
            raise UserError(f"initial_action: {given} numbers do not fit an action space of shape {wanted}")
        assert isinstance(self.action_net, nn.Linear)
        with torch.no_grad():
            self.action_net.weight.mul_(0.1)
            self.action_net.bias.copy_(torch.tensor(self.initial_action))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "initial_action": self.initial_action}
