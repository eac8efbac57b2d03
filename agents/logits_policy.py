"""What policies have in common whose actor gives the logits of the choices itself, in place of a linear layer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from kml_envs.errors import UserError


class LogitsActorCritic:
    """To stand before an actor-critic policy, maskable or not; these share no ancestor that would do."""

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]

    def __init__(self, *args: Any, extractor_arguments: Mapping[str, Any], **kwargs: Any) -> None:
        """Build the policy; `extractor_arguments` are the subclass's own arguments, which it is saved with."""
        self.extractor_arguments = dict(extractor_arguments)
        # Orthogonal initialisation of the whole policy would overwrite where the scores begin.
        super().__init__(*args, **{**kwargs, "ortho_init": False})

    def make_extractor(self) -> nn.Module:
        """Make actor and critic for the spaces.

        Raises:
            UserError: The spaces are not what the policy is made for.
        """
        raise NotImplementedError

    def _build_mlp_extractor(self) -> None:
        policy: Any = self
        policy.mlp_extractor = self.make_extractor()

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        policy: Any = self
        policy.action_net = nn.Identity()  # the actor's latent are the logits already
        # The optimizer that was just built still holds the replaced layer's parameters.
        policy.optimizer = policy.optimizer_class(policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        inherited: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        return {**inherited, **self.extractor_arguments}


def check_spaces(
    name: str,
    env_id: str,
    wanted: tuple[int, int],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> None:
    """Refuse environments that a policy is not made for.

    Args:
        name: What the policy is called.
        env_id: The environment that it is made for.
        wanted: Features and choices there.
        observation_space: What is given.
        action_space: Likewise.

    Raises:
        UserError: They differ.
    """
    features, choices = wanted
    if observation_space.shape != (features,) or action_space != spaces.Discrete(choices):
        raise UserError(
            f"the {name} policy needs Discrete({choices}) and observations of shape {(features,)}, as "
            f"{env_id} has them; this environment has {action_space} and {observation_space.shape}: choose "
            "policy 'MlpPolicy'"
        )
