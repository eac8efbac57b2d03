"""A policy for `kml/LfsPacing-v0` that decides in parts: whether to clean now, which candidate, how much of it.

A plain network has to learn anew for each of the 14 choices what most of them have in common. Here the score of a
choice is a sum of parts: how urgent cleaning is, against waiting; how likely each candidate is, given that something is
cleaned; and how likely each quota is. Every part begins as a linear rule of few numbers (`PaceRule`), which
`python -m agents.pace_search` finds on the training workloads, plus a network that begins near zero; both are learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from agents.logits_policy import LogitsActorCritic, check_spaces
from agents.standardize import Standardize
from kml_envs.errors import unknown_name
from kml_envs.lfs.observation import CANDIDATE_FEATURES
from kml_envs.lfs.pace import CANDIDATES, CHOICES, CONTEXT, FEATURE_NAMES, FIRST, PER_CANDIDATE, QUOTAS, TIME

SHARPNESS = 20.0
"""The numbers of a rule lie within -1 and 1; scores are so many times as large, so that the best choice stands out."""

VICTIM_NUMBERS = tuple(f"victim_{name}" for name in CANDIDATE_FEATURES[1:])
"""Weights of a candidate's own features; the first says that there is a candidate."""

URGENCY_FEATURES = ("free_sections", "mean_burst_writes", "mean_gap", "burst_writes", "last_interval", "backlog")
SITUATIONS = ("background", "foreground")
URGENCY_NUMBERS = tuple(f"{situation}_{name}" for situation in SITUATIONS for name in ("bias", *URGENCY_FEATURES))
QUOTA_NUMBERS = ("background_quarter", "foreground_quarter", "foreground_quarter_free_sections")
RULE_NUMBERS = (*VICTIM_NUMBERS, *URGENCY_NUMBERS, *QUOTA_NUMBERS)
"""What a rule consists of; numbers that are not given are zero."""

BUILTIN_SCORE = -5.0
"""Where the score of doing what the built-in algorithm does begins, on the scale on which waiting has 0."""

_NEVER = -1e8  # the score of an empty slot; what MaskablePPO itself gives to masked actions
_FEATURE = {name: column for column, name in enumerate(FEATURE_NAMES)}
_URGENCY_COLUMNS = [_FEATURE[name] for name in URGENCY_FEATURES]
_PRESENT = CANDIDATE_FEATURES.index("present")
_VICTIMS, _URGENCY = len(VICTIM_NUMBERS), 1 + len(URGENCY_FEATURES)
_PARTS = 2 + len(QUOTAS) + CANDIDATES  # outputs of the network: built-in, urgency, quotas, candidates
_LARGE_QUOTA = 1.0  # a quota that no rule wants stays so far behind


def rule_vector(numbers: Mapping[str, float]) -> torch.Tensor:
    """The numbers of a rule in order, (P,) float32.

    Raises:
        UserError: There is no such number.
    """
    for name in numbers:
        if name not in RULE_NUMBERS:
            raise unknown_name("number of the pacing rule", name, RULE_NUMBERS)
    return torch.tensor([float(numbers.get(name, 0.0)) for name in RULE_NUMBERS])


def rule_parts(observations: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a linear rule makes of observations.

    Args:
        observations: (N, 75) float32.
        numbers: (P,) or (N, P): one rule, or one for each row.

    Returns:
        Urgency (N,), scores of the quotas (N, 3) and of the candidates (N, 4).
    """
    foreground = observations[:, _FEATURE["foreground"]]
    victim = numbers[..., :_VICTIMS]
    background, writer = (
        numbers[..., _VICTIMS + place * _URGENCY : _VICTIMS + (place + 1) * _URGENCY] for place in range(2)
    )
    quarter = numbers[..., -len(QUOTA_NUMBERS) :]
    seen = observations[:, _URGENCY_COLUMNS]
    urgencies = [each[..., 0] + (seen * each[..., 1:]).sum(dim=-1) for each in (background, writer)]
    urgency = torch.where(foreground > 0.5, urgencies[1], urgencies[0])
    # In the background the full quota, while a write waits the smallest, and a quarter where a rule wants it.
    free = observations[:, _FEATURE["free_sections"]]
    wanted, never = torch.zeros_like(free), torch.full_like(free, -_LARGE_QUOTA)
    background_quarter = wanted + quarter[..., 0] - 0.5
    foreground_quarter = quarter[..., 1] + quarter[..., 2] * free - 0.5
    quotas = torch.where(
        foreground[:, None] > 0.5,
        torch.stack([never, foreground_quarter, wanted], dim=-1),
        torch.stack([wanted, background_quarter, never], dim=-1),
    )
    candidates = _candidates(observations)[..., 1:]
    victims = (candidates * victim[..., None, :]).sum(dim=-1)
    return SHARPNESS * urgency, SHARPNESS * quotas, SHARPNESS * victims


def scores_of_choices(
    observations: torch.Tensor,
    builtin: torch.Tensor,
    urgency: torch.Tensor,
    quotas: torch.Tensor,
    victims: torch.Tensor,
) -> torch.Tensor:
    """Put the parts together.

    Args:
        observations: (N, 75) float32.
        builtin: (N,) score of what the built-in algorithm does, against that of waiting, which is 0.
        urgency: (N,) score of cleaning.
        quotas: (N, 3) scores of the quotas.
        victims: (N, 4) scores of the candidates; empty slots are left out.

    Returns:
        (N, 14) scores; those of empty slots are never chosen.
    """
    present = _candidates(observations)[..., _PRESENT] > 0.5
    victims = torch.where(present, victims, _NEVER).log_softmax(dim=1)
    victims = torch.where(present, victims, _NEVER)
    cleaning = urgency[:, None, None] + victims[:, :, None] + quotas.log_softmax(dim=1)[:, None, :]
    return torch.cat([builtin[:, None], torch.zeros_like(builtin)[:, None], cleaning.flatten(1)], dim=1)


class PacingExtractor(nn.Module):
    """What Stable-Baselines3 calls the extractor of an actor-critic policy: here the actor's latent are its logits."""

    def __init__(
        self, observation_space: spaces.Space[Any], hidden: int, value_hidden: int, initial_rule: Mapping[str, float]
    ) -> None:
        """Build actor and critic, each of two layers, over standardized observations."""
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = CHOICES, value_hidden
        self.standardize = Standardize(observation_space)
        self.rule = nn.Parameter(rule_vector(initial_rule))
        features = len(FEATURE_NAMES)
        self.actor = _network(features, hidden)
        self.parts = nn.Linear(hidden, _PARTS)
        self.critic = _network(features, value_hidden)
        nn.init.orthogonal_(self.parts.weight, 0.01)
        nn.init.zeros_(self.parts.bias)
        with torch.no_grad():
            self.parts.bias[0] = BUILTIN_SCORE

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, 14) and latent value features."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, 14)."""
        builtin, urgency, quotas, victims = self.parts(self.actor(self.standardize(features))).split(
            [1, 1, len(QUOTAS), CANDIDATES], dim=1
        )
        rule_urgency, rule_quotas, rule_victims = rule_parts(features, self.rule)
        return scores_of_choices(
            features, builtin[:, 0], urgency[:, 0] + rule_urgency, quotas + rule_quotas, victims + rule_victims
        )

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """Latent value features (N, value_hidden)."""
        latent: torch.Tensor = self.critic(self.standardize(features))
        return latent


class _PacingActorCritic(LogitsActorCritic):
    def __init__(
        self,
        *args: Any,
        hidden: int = 64,
        value_hidden: int = 64,
        initial_rule: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        own = {"hidden": hidden, "value_hidden": value_hidden, "initial_rule": dict(initial_rule or {})}
        super().__init__(*args, extractor_arguments=own, **kwargs)

    def make_extractor(self) -> PacingExtractor:
        wanted = (len(FEATURE_NAMES), CHOICES)
        check_spaces("pacing", "kml/LfsPacing-v0", wanted, self.observation_space, self.action_space)
        return PacingExtractor(self.observation_space, **self.extractor_arguments)


class PacingActorCriticPolicy(_PacingActorCritic, ActorCriticPolicy):
    """For PPO and A2C; empty slots are recognised by their features and never chosen."""


class MaskablePacingActorCriticPolicy(_PacingActorCritic, MaskableActorCriticPolicy):
    """For MaskablePPO."""


def _candidates(observations: torch.Tensor) -> torch.Tensor:
    """(N, 4, 8) the features of the candidates, as a view."""
    return observations[:, CONTEXT + TIME :].reshape(-1, CANDIDATES, PER_CANDIDATE)


def _network(features: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())


assert FIRST == 2  # the order in which `scores_of_choices` puts the choices
