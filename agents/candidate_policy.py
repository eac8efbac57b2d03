"""Policies that score each candidate with one shared network: for `kml/LfsVictim-v0`.

A plain network on the flat observation would have to learn every slot anew, and the order in which candidates are
listed would matter. Here the score of a candidate depends on its own features and the context only, so that
reordering the candidates reorders the scores, with fifty times fewer parameters.

A score begins as a documented rule, a weighted sum of the candidate's own features (`initial_weights`), plus a
network that begins near zero; both are learned. With `{"valid_share": -20}` training starts near greedy cleaning
instead of at random victims, which are far worse than any built-in algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from agents.logits_policy import LogitsActorCritic, check_spaces
from kml_envs.errors import unknown_name
from kml_envs.lfs.observation import CANDIDATE_FEATURES, CANDIDATES, CONTEXT_FEATURES

CONTEXT = len(CONTEXT_FEATURES)
PER_CANDIDATE = len(CANDIDATE_FEATURES)
_PRESENT = CANDIDATE_FEATURES.index("present")
_NEVER = -1e8  # the score of an empty slot; what MaskablePPO itself gives to masked actions


class CandidateScorer(nn.Module):
    """Scores the candidates of flat observations; equivariant to their order."""

    def __init__(
        self, hidden: int = 32, initial_weights: Mapping[str, float] | None = None, hide_empty: bool = True
    ) -> None:
        """Build the network.

        Args:
            hidden: Width of its two hidden layers.
            initial_weights: Where the score begins: weight by name of a candidate's feature.
            hide_empty: Whether empty slots get a score that is never chosen.

        Raises:
            UserError: There is no such feature.
        """
        super().__init__()
        self.hide_empty = hide_empty
        self.from_context = nn.Linear(CONTEXT, hidden)
        self.from_candidate = nn.Linear(PER_CANDIDATE, hidden, bias=False)
        self.hidden = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1)
        self.rule = nn.Linear(PER_CANDIDATE, 1, bias=False)
        for layer, gain in (
            (self.from_context, 1.0),
            (self.from_candidate, 1.0),
            (self.hidden, 1.0),
            (self.score, 0.01),
        ):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        weights = torch.zeros(PER_CANDIDATE)
        for name, weight in (initial_weights or {}).items():
            if name not in CANDIDATE_FEATURES:
                raise unknown_name("candidate feature", name, CANDIDATE_FEATURES)
            weights[CANDIDATE_FEATURES.index(name)] = weight
        with torch.no_grad():
            self.rule.weight.copy_(weights[None])

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Scores (N, K) float32 of observations (N, F)."""
        context, candidates = split_observation(observations)
        # The context is projected once per observation, not once per candidate.
        # Rectified, because a hyperbolic tangent of every candidate's layer would be half the cost of an update.
        first = torch.relu_(self.from_candidate(candidates).add_(self.from_context(context)[:, None]))
        second = torch.relu_(self.hidden(first))
        scores: torch.Tensor = (self.score(second) + self.rule(candidates))[..., 0]
        return _hide_empty(scores, candidates) if self.hide_empty else scores


class CandidateValue(nn.Module):
    """Latent value features (N, hidden): context with mean and maximum of the candidates' features."""

    def __init__(self, hidden: int = 64) -> None:
        """Build the network; `hidden` is the width of its two layers."""
        super().__init__()
        width = CONTEXT + 2 * PER_CANDIDATE
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Latent features (N, hidden) of observations (N, F)."""
        context, candidates = split_observation(observations)
        pooled = torch.cat([context, candidates.mean(dim=1), candidates.amax(dim=1)], dim=1)
        latent: torch.Tensor = self.network(pooled)
        return latent


class CandidateExtractor(nn.Module):
    """What Stable-Baselines3 calls the extractor of an actor-critic policy: here the actor's latent are its logits."""

    def __init__(self, hidden: int, value_hidden: int, initial_weights: Mapping[str, float] | None) -> None:
        """Build actor and critic."""
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = CANDIDATES, value_hidden
        self.actor = CandidateScorer(hidden, initial_weights)
        self.critic = CandidateValue(value_hidden)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, K) and latent value features."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, K)."""
        logits: torch.Tensor = self.actor(features)
        return logits

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """Latent value features (N, hidden)."""
        latent: torch.Tensor = self.critic(features)
        return latent


class _CandidateActorCritic(LogitsActorCritic):
    def __init__(
        self,
        *args: Any,
        hidden: int = 32,
        value_hidden: int = 64,
        initial_weights: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        own = {"hidden": hidden, "value_hidden": value_hidden, "initial_weights": dict(initial_weights or {})}
        super().__init__(*args, extractor_arguments=own, **kwargs)

    def make_extractor(self) -> CandidateExtractor:
        check_layout(self.observation_space, self.action_space)
        return CandidateExtractor(**self.extractor_arguments)


class CandidateActorCriticPolicy(_CandidateActorCritic, ActorCriticPolicy):
    """For PPO and A2C; empty slots are recognised by their features and never chosen."""


class MaskableCandidateActorCriticPolicy(_CandidateActorCritic, MaskableActorCriticPolicy):
    """For MaskablePPO."""


class CandidateQNetwork(QNetwork):
    """Value of each candidate, by the same shared network."""

    def __init__(
        self,
        *args: Any,
        hidden: int = 32,
        initial_weights: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Build the network in place of the flat one."""
        super().__init__(*args, **kwargs)
        check_layout(self.observation_space, self.action_space)
        self.q_net = CandidateScorer(hidden, initial_weights)  # type: ignore[assignment]


class CandidateDQNPolicy(DQNPolicy):
    """For DQN."""

    def __init__(
        self,
        *args: Any,
        hidden: int = 32,
        initial_weights: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Build online and target network."""
        self.candidate_arguments: dict[str, Any] = {
            "hidden": hidden,
            "initial_weights": dict(initial_weights or {}),
        }
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """One network, online or target."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return CandidateQNetwork(**arguments, **self.candidate_arguments).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.candidate_arguments}


def split_observation(observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Context (N, 29) and candidates (N, K, 8) of flat observations (N, 29 + 8 K), as views."""
    return observations[:, :CONTEXT], observations[:, CONTEXT:].reshape(-1, CANDIDATES, PER_CANDIDATE)


def check_layout(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Refuse environments that do not offer candidates.

    Raises:
        UserError: The spaces are not those of a choice among candidates.
    """
    wanted = (CONTEXT + CANDIDATES * PER_CANDIDATE, CANDIDATES)
    check_spaces("candidate", "kml/LfsVictim-v0", wanted, observation_space, action_space)


def _hide_empty(scores: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Give empty slots a score that is never chosen, unless all are empty, as at the end of an episode."""
    present = candidates[..., _PRESENT] > 0.5
    return torch.where(present | ~present.any(dim=1, keepdim=True), scores, _NEVER)
