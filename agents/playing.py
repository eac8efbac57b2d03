"""Let policies play: the same episodes for all of them, every seed of a workload in one native vector environment.

An episode is fixed by environment, arguments, workload and seed; the user's writes in it do not depend on who cleans.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from agents.baselines import PACING, VICTIM, Array, Contender, Policy, PolicyMaker, State
from agents.results import CHARGED_COST, EVERYTHING, METRICS, Evaluation
from agents.statistics import FloatArray
from agents.vector_env import NativeEnv, make_native_env
from kml_envs.envs.domains import comparison_of
from kml_envs.errors import UserError
from kml_envs.lfs.oracle import OracleKind, can_play, oracle_costs


def evaluate(contender: Contender, workloads: Sequence[str], seeds: Sequence[int]) -> Evaluation:
    """Let one policy play.

    Args:
        contender: The policy and its environment.
        workloads: Names as `kml_envs.suites.make_workload` takes them.
        seeds: One episode each, on every workload.
    """
    if is_asked_often(contender.env_id):
        summaries = _play_side_by_side(contender, workloads, seeds)
    else:
        summaries = [play(contender, workload, seeds) for workload in workloads]
    values = {name: np.array([[summary[name] for summary in summaries]]) for name in summaries[0]}
    return Evaluation((contender.name,), tuple(workloads), tuple(seeds), values)


def evaluate_together(contender: Contender, workloads: Sequence[str], seeds: Sequence[int]) -> Evaluation:
    """`evaluate` in one environment of all episodes, for long ones of agents that are asked often.

    With so few rows a step costs as much in one environment as in that of a single workload. The episodes are others
    than those of `evaluate`: an environment's warm volumes are numbered over all of its workloads.

    Args:
        contender: The policy and its environment.
        workloads: Names.
        seeds: One episode each, on every workload.
    """
    rows, each = len(workloads) * len(seeds), list(seeds) * len(workloads)
    environment = _make_environment(contender.env_id, contender.env_kwargs, workloads, rows)
    vector: Any = environment.unwrapped
    recommend = Recommender(vector, contender.make_policy(environment.single_action_space))
    for place, workload in enumerate(workloads):
        mask = np.arange(rows) // len(seeds) == place
        observations, _ = vector.reset(seed=each, options={"workload": workload, "reset_mask": mask})
    finished = np.zeros(rows, np.bool_)
    infos: dict[str, Any] = {}
    while not finished.all():
        observations, _, _, finished, infos = vector.step(recommend(observations))
    told = {**_told(infos, EVERYTHING), CHARGED_COST: charged(environment)}
    environment.close()
    values = {name: column.reshape(1, len(workloads), len(seeds)) for name, column in told.items()}
    return Evaluation((contender.name,), tuple(workloads), tuple(seeds), values)


def evaluate_oracle(
    kind: OracleKind,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    workloads: Sequence[str],
    seeds: Sequence[int],
    *,
    victims_only: bool = False,
) -> Evaluation:
    """Let an oracle play the episodes of an environment, each from the volume that the agent finds.

    Workloads that the oracle knows nothing about (the informed one on traces) stay NaN. With `victims_only` it leaves
    placement to the environment.
    """
    values = {name: np.full((1, len(workloads), len(seeds)), np.nan) for name in (*METRICS, CHARGED_COST)}
    for column, workload in enumerate(workloads):
        environment = make_environment(env_id, env_kwargs, workload, 1)
        proxy: Any = getattr(environment.unwrapped, "proxy")  # noqa: B009 (Gymnasium's type has none)
        warm, episode = proxy.subsystem.warm, proxy.options.episode_progress
        environment.close()
        if can_play(kind, warm.workloads[0]):
            costs = oracle_costs(warm, 0, episode_seeds(seeds), episode, kind, victims_only)
            values["moved_blocks"][0, column] = values[CHARGED_COST][0, column] = costs
            values["user_blocks"][0, column] = episode
            values["write_amplification"][0, column] = 1.0 + costs / episode
    return Evaluation((kind.value,), tuple(workloads), tuple(seeds), values)


def play(
    contender: Contender, workload: str, seeds: Sequence[int], metrics: Sequence[str] = EVERYTHING
) -> dict[str, Array]:
    """One episode per seed on one workload, side by side.

    Args:
        contender: The policy and its environment.
        workload: Name.
        seeds: One episode each.
        metrics: What is wanted; what the environment does not say is left out.

    Returns:
        (S,) each: what the environment says at the end of an episode, and `CHARGED_COST`.
    """
    environment = make_environment(contender.env_id, contender.env_kwargs, workload, len(seeds))
    infos, charged = play_out(environment, contender.make_policy, seeds)
    return {**_told(infos, metrics), CHARGED_COST: charged}


def is_asked_often(env_id: str) -> bool:
    """Whether an agent of an environment is asked at every operation, ten thousand times in an episode and more."""
    return env_id in (VICTIM, PACING)


def _play_side_by_side(contender: Contender, workloads: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Array]]:
    """`play` all workloads, with one recommendation for all: with so few rows it costs more than a step does."""
    shards = [make_environment(contender.env_id, contender.env_kwargs, workload, len(seeds)) for workload in workloads]
    together = _SideBySide([shard.unwrapped for shard in shards])
    recommend = Recommender(together, contender.make_policy(shards[0].single_action_space))
    observations = together.reset(list(seeds))
    while together.running:
        observations = together.step(recommend(observations))
    found = [
        {**_told(infos, EVERYTHING), CHARGED_COST: charged(shard)}
        for shard, infos in zip(shards, together.infos, strict=True)
    ]
    for shard in shards:
        shard.close()
    return found


def _told(infos: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Array]:
    return {name: np.asarray(infos[name], np.float64) for name in metrics if name in infos}


def charged(environment: NativeEnv) -> FloatArray:
    """(S,) what the proxy has charged for the episodes that are over."""
    proxy: Any = getattr(environment.unwrapped, "proxy")  # noqa: B009 (Gymnasium's type has none)
    return np.asarray(proxy.course.paid(), np.float64)


class _SideBySide:
    """Environments of one kind whose rows stand still at the end of their episodes, as one to a `Recommender`."""

    def __init__(self, environments: Sequence[Any]) -> None:
        self._environments = environments
        rows = environments[0].num_envs
        self._slices = [slice(place * rows, (place + 1) * rows) for place in range(len(environments))]
        self.num_envs = rows * len(environments)
        self.single_action_space = environments[0].single_action_space
        self.infos: list[dict[str, Any]] = [{} for _ in environments]
        self._finished = [False] * len(environments)
        self._observations: Array = np.zeros(0)

    @property
    def running(self) -> bool:
        return not all(self._finished)

    def reset(self, seeds: list[int]) -> Array:
        self._observations = np.concatenate([environment.reset(seed=seeds)[0] for environment in self._environments])
        return self._observations

    def step(self, actions: Array) -> Array:
        self._observations = self._observations.copy()
        for place, (environment, rows) in enumerate(zip(self._environments, self._slices, strict=True)):
            if not self._finished[place]:
                seen, _, _, finished, self.infos[place] = environment.step(actions[rows])
                self._observations[rows] = seen
                self._finished[place] = bool(finished.all())
        return self._observations

    def action_masks(self) -> Array:
        return np.concatenate([environment.action_masks() for environment in self._environments])


def play_out(environment: NativeEnv, make_policy: PolicyMaker, seeds: Sequence[int]) -> tuple[dict[str, Any], Array]:
    """One episode per seed in an environment whose rows stand still at the end of theirs; it is closed then.

    Returns:
        The infos of the last step, and the costs (S,) of the episodes, in the subsystem's unit.
    """
    recommend = Recommender(environment.unwrapped, make_policy(environment.single_action_space))
    seed: Any = list(seeds)  # Gymnasium's annotation knows only one seed for all rows
    observations, _ = environment.reset(seed=seed)
    finished = np.zeros(len(seeds), np.bool_)
    infos: dict[str, Any] = {}
    while not finished.all():
        observations, _, _, finished, infos = environment.step(recommend(observations))
    paid = charged(environment)
    environment.close()
    return infos, paid


def make_environment(env_id: str, env_kwargs: Mapping[str, Any], workload: str | None, instances: int) -> NativeEnv:
    """The native vector environment of one workload, whose rows stand still at the end of their episodes.

    No efficiency is estimated: the savings against the built-in algorithm follow from its own row of the comparison.
    A seed names the same episode under every mode.

    Args:
        env_id: The environment.
        env_kwargs: Its arguments, but for workload, efficiency and autoreset mode.
        workload: Name; None: the environment has no workloads to choose from.
        instances: Rows.

    Raises:
        UserError: The id or an argument is not known, or a value is out of range.
    """
    return _make_environment(env_id, env_kwargs, [] if workload is None else [workload], instances)


def check_arguments(env_id: str, env_kwargs: Mapping[str, Any], workload: str | None) -> None:
    """Find out whether an environment takes the arguments that the user gives, before some of them are replaced.

    Where policies play, efficiency and autoreset mode are ours, and where a built-in algorithm plays, so are the mode
    and what belongs to it, and `builtin`. A mistake in these is one all the same.

    Args:
        env_id: The environment.
        env_kwargs: Its arguments as they were given.
        workload: Name of one that is to be played; None: the environment has none to choose from.

    Raises:
        UserError: The id or an argument is not known, a value is out of range, or arguments contradict each other.
    """
    chosen = {} if workload is None else {"workloads": [workload]}
    arguments = {"efficiency": "none", "autoreset_mode": "disabled", **env_kwargs, **chosen}
    domains, _ = comparison_of(env_id, env_kwargs)
    make_native_env(env_id, domains, arguments).close()


def check_rivals(rivals: Sequence[Contender], workload: str) -> None:
    """Find out whether all that a policy is compared with can play, before the first of them does.

    Args:
        rivals: Who they are; other placements have more logs, for which a small volume may have no room.
        workload: Name of one that is to be played.

    Raises:
        UserError: One cannot.
    """
    for rival in rivals:
        try:
            make_environment(rival.env_id, rival.env_kwargs, workload, 1).close()
        except UserError as error:
            raise UserError(f"{rival.name}, which is compared too: {error}") from None


def _make_environment(
    env_id: str, env_kwargs: Mapping[str, Any], workloads: Sequence[str], instances: int
) -> NativeEnv:
    chosen = {"workloads": list(workloads)} if workloads else {}
    arguments = {**env_kwargs, **chosen, "efficiency": "none", "autoreset_mode": "disabled"}
    environment = make_native_env(env_id, instances, arguments)
    vector: Any = environment.unwrapped
    vector.play_every_seed()
    return environment


def episode_seeds(seeds: Sequence[int]) -> npt.NDArray[np.uint64]:
    """(S,) uint64: what the environments draw from a seed given to `reset` and begin an episode with."""
    return np.array([seeding.np_random(int(seed))[0].integers(2**63) for seed in seeds], np.uint64)


class Recommender:
    """A policy at work in a native vector environment: from observations to actions, without exploration."""

    def __init__(self, environment: Any, policy: Policy) -> None:  # noqa: ANN401 (Gymnasium's type has no masks)
        """Let a policy act from the beginning of an episode in every row on.

        Args:
            environment: The environment, below any wrapper.
            policy: The policy; it is told the masks of discrete actions, if its `predict` takes them.
        """
        self._predict: Any = policy.predict
        self._state: State = None
        self._begins = np.ones(environment.num_envs, np.bool_)
        chooses = isinstance(environment.single_action_space, gymnasium.spaces.Discrete)
        wants_masks = "action_masks" in inspect.signature(policy.predict).parameters
        self._masks: Callable[[], Array] | None = environment.action_masks if chooses and wants_masks else None

    def __call__(self, observations: Array) -> Array:
        """Recommend for observations (N, F); returns actions (N,) or (N, A)."""
        masks = {} if self._masks is None else {"action_masks": self._masks()}
        actions, self._state = self._predict(
            observations, state=self._state, episode_start=self._begins, deterministic=True, **masks
        )
        self._begins = np.zeros_like(self._begins)
        return np.asarray(actions)
