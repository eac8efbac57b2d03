"""Watch a policy while it plays, and let it play changed: in what it sees, or in what it recommends."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.baselines import Array, Contender, Policy, State
from agents.playing import make_environment, play_out

Look = Callable[[Any, Array, Array], None]
"""Told at each decision: the subsystem, the observations (S, F), and the actions (S,) or (S, A) that follow."""


@dataclass(frozen=True)
class Decisions:
    """What a policy saw and recommended on one workload.

    Attributes:
        observations: (T, S, F) float32.
        actions: (T, S) or (T, S, A).
        masks: (T, S, K) bool, of discrete actions; else None.
    """

    observations: Array
    actions: Array
    masks: Array | None


class Changed:
    """A policy that sees something else, or of whose recommendation something else is made."""

    def __init__(
        self,
        policy: Policy,
        *,
        see: Callable[[Array], Array] = lambda observation: observation,
        recommend: Callable[[Array], Array] = lambda action: action,
        note: Callable[[Array, Array, Array | None], None] = lambda observation, action, masks: None,
    ) -> None:
        """Change a policy.

        Args:
            policy: The policy.
            see: What it sees instead of observations (N, F).
            recommend: What becomes of its actions.
            note: Told observations, actions and masks.
        """
        self._policy, self._see, self._change, self._note = policy, see, recommend, note
        self._wants_masks = "action_masks" in inspect.signature(policy.predict).parameters

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
        action_masks: Array | None = None,
    ) -> tuple[Array, State]:
        """As the policy does, but for the changes."""
        predict: Any = self._policy.predict
        masks = {"action_masks": action_masks} if self._wants_masks and action_masks is not None else {}
        action, state = predict(self._see(observation), state, episode_start, deterministic, **masks)
        action = self._change(action)
        self._note(observation, action, action_masks)
        return action, state


def watch(contender: Contender, workload: str, seeds: Sequence[int], look: Look) -> dict[str, Any]:
    """Let a policy play one episode per seed on a workload, and look at every decision.

    Returns:
        The infos of the last step.
    """
    environment = make_environment(contender.env_id, contender.env_kwargs, workload, len(seeds))
    proxy: Any = getattr(environment.unwrapped, "proxy")  # noqa: B009 (Gymnasium's type has none)

    def note(observation: Array, action: Array, masks: Array | None) -> None:
        look(proxy.subsystem, observation, action)

    infos, _ = play_out(environment, lambda space: Changed(contender.make_policy(space), note=note), seeds)
    return infos


def decisions_of(contender: Contender, workload: str, seeds: Sequence[int]) -> tuple[Decisions, Mapping[str, Array]]:
    """Let a policy play, and keep all that it saw and recommended.

    Returns:
        The decisions, and what the environment says of the episodes, (S,) each.
    """
    seen: list[tuple[Array, Array, Array | None]] = []

    def note(observation: Array, action: Array, masks: Array | None) -> None:
        seen.append((observation.copy(), np.array(action), None if masks is None else masks.copy()))

    environment = make_environment(contender.env_id, contender.env_kwargs, workload, len(seeds))
    infos, _ = play_out(environment, lambda space: Changed(contender.make_policy(space), note=note), seeds)
    masks = [each for _, _, each in seen if each is not None]
    observations, actions = np.stack([each for each, _, _ in seen]), np.stack([each for _, each, _ in seen])
    return Decisions(observations, actions, np.stack(masks) if masks else None), infos
