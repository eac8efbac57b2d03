"""Policies that learn nothing, under the interface of Stable-Baselines3's models, and the rows of a comparison.

A built-in algorithm acts by running the environment in mode `emergency`: the proxy then never asks, and the kernel
side decides everything itself. `BuiltinPolicy` says the same with recommendations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from agents.damon_environments import DAMON_ENVIRONMENTS, RECLAIM
from kml_envs.envs.lfs import BUILTIN_POLICIES, PLACEMENTS
from kml_envs.envs.lfs_pacing import BACKGROUNDS, PacingArguments
from kml_envs.errors import UserError, unknown_name
from kml_envs.lfs.config import LfsConfig, PlacementConfig
from kml_envs.lfs.oracle import OracleKind
from kml_envs.memory_suites import make_memory_workload, memory_workload_names
from kml_envs.suites import make_workload, workload_names

Array: TypeAlias = npt.NDArray[Any]
State: TypeAlias = tuple[Array, ...] | None

TUNE, VICTIM, PACING = "kml/LfsTune-v0", "kml/LfsVictim-v0", "kml/LfsPacing-v0"
TUNE_PLACEMENT = "age-threshold"
_TUNE_ONLY = ("interval_volumes", "age_thresholds")
COMPARED_BUILTINS = ("greedy", "cost-benefit", "cost-benefit-sqrt", "cost-benefit-f2fs", "atgc")
ORACLES = {"clairvoyant": OracleKind.CLAIRVOYANT, "informed": OracleKind.INFORMED}
COMPARED_WITH_SPLIT = ("greedy", "cost-benefit")
COMPARED_WITH_PLACEMENTS = ("cost-benefit/sepbit", "cost-benefit/dac")  # they split the user's blocks, as agents do
SPLIT = "user-gc-split"
LISTED_BUILTINS = ("greedy", "cost-benefit", "atgc", "fifo", "d-choices")
"""The narrower list that the goals name; all of them with user/GC split."""
WITH_USER_SPLITS = ("greedy", "cost-benefit", "cost-benefit-sqrt", "cost-benefit-f2fs", "cat")
"""Policies that are compared with each placement that splits the user's blocks too, where agents may do that."""


class Policy(Protocol):
    """What evaluation asks of a policy: the `predict` of Stable-Baselines3, over a batch."""

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, State]:
        """Recommend for observations (N, F); returns actions (N,) or (N, A) and the policy's state."""


class BuiltinPolicy:
    """Recommends what the built-in algorithm does: candidate 0, or NaN, which stands for its shipped settings.

    The proxy rejects NaN like any other damage and lets the built-in algorithm act, which is what is wanted here.
    """

    def __init__(self, action_space: gymnasium.Space[Any]) -> None:
        """Recommend in this action space of one instance."""
        self._action_space = action_space

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
        action_masks: Array | None = None,
    ) -> tuple[Array, State]:
        """The same recommendation in all rows."""
        if isinstance(self._action_space, gymnasium.spaces.Discrete):
            return np.zeros(len(observation), np.int64), state
        assert self._action_space.shape is not None
        return np.full((len(observation), *self._action_space.shape), np.nan, np.float32), state


class RandomPolicy:
    """Recommends anything with equal probability: any candidate that the mask allows, any number in the box."""

    def __init__(self, action_space: gymnasium.Space[Any], seed: int = 0) -> None:
        """Recommend in this action space of one instance."""
        self._action_space = action_space
        self._generator = np.random.default_rng(seed)

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
        action_masks: Array | None = None,
    ) -> tuple[Array, State]:
        """An independent draw in each row."""
        space = self._action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            allowed = np.ones((len(observation), int(space.n)), np.bool_) if action_masks is None else action_masks
            drawn = np.where(allowed, self._generator.random(allowed.shape), -1.0)
            return np.asarray(drawn.argmax(axis=1)), state
        assert isinstance(space, gymnasium.spaces.Box)
        shape = (len(observation), *space.shape)
        return self._generator.uniform(space.low, space.high, shape).astype(np.float32), state


class ConstantPolicy:
    """Recommends the same numbers always: a hand-tuned setting of `kml/LfsTune-v0`."""

    def __init__(self, action_space: gymnasium.Space[Any], action: tuple[float, ...]) -> None:
        """Recommend `action`; one number stands for all.

        Raises:
            UserError: The action space holds no numbers, or another count of them, or smaller ones.
        """
        if not isinstance(action_space, gymnasium.spaces.Box):
            raise UserError("a constant policy needs an environment whose actions are numbers, such as kml/LfsTune-v0")
        if len(action) not in (1, *action_space.shape):
            raise UserError(
                f"constant policy: {action_space.shape[0]} numbers (or one for all) needed, {len(action)} given"
            )
        low, high = action_space.low, action_space.high
        numbers = np.broadcast_to(np.array(action, np.float64), action_space.shape)
        if not ((low <= numbers) & (numbers <= high)).all():  # before float32, which some numbers are too large for
            raise UserError(
                f"constant policy {', '.join(f'{number:g}' for number in action)}: numbers must lie within the action "
                f"space, {low.min():g} to {high.max():g}"
            )
        self._action = numbers.astype(np.float32)

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
        action_masks: Array | None = None,
    ) -> tuple[Array, State]:
        """The same numbers in all rows."""
        return np.tile(self._action, (len(observation), 1)), state


PolicyMaker = Callable[[gymnasium.Space[Any]], Policy]


@dataclass(frozen=True)
class Contender:
    """One row of a comparison: a policy, and the environment that it plays in.

    Attributes:
        name: How tables call it.
        env_id: The environment.
        env_kwargs: Its arguments, but for the workload.
        make_policy: Makes the policy for an action space of one instance.
        builtin: Whether this is a built-in algorithm, which agents are measured against; an oracle, which is none,
            has true here too, since neither is deployed.
        oracle: The oracle that plays instead of a policy; None: a policy does.
    """

    name: str
    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    make_policy: PolicyMaker = BuiltinPolicy
    builtin: bool = False
    oracle: OracleKind | None = None


def builtin_contender(name: str, env_id: str, env_kwargs: Mapping[str, Any]) -> Contender:
    """A built-in algorithm in the place of the agent.

    Args:
        name: The algorithm, such as `cost-benefit`, for the placement of the environment; `cost-benefit/user-gc-split`
            for another placement.
        env_id: The agent's environment.
        env_kwargs: Its arguments.

    Returns:
        The contender. It starts from its own steady state, as the environment's `builtin` argument has it.

    Raises:
        UserError: There is no such algorithm or placement.
    """
    if env_id == PACING:
        return _pacing_contender(name, env_kwargs)
    if env_id in DAMON_ENVIRONMENTS:
        return _damon_contender(name, env_id, env_kwargs)
    policy, slash, placement = name.partition("/")
    if policy not in BUILTIN_POLICIES:
        raise unknown_name("policy", policy, policy_names())
    kwargs = {**env_kwargs, "builtin": policy, "mode": "emergency"}
    for units_only in ("share", "probes"):
        kwargs.pop(units_only, None)
    if slash and placement not in PLACEMENTS:
        raise unknown_name("placement", placement, PLACEMENTS)
    if placement and placement != env_placement(env_id, env_kwargs):
        # Both keep the same number of sections free: a comparison of placements, not of spare space.
        if kwargs.get("trigger_sections") is None:
            kwargs["trigger_sections"] = _trigger_sections(env_id, env_kwargs)
        # Only LfsVictim has a free choice of placement; under the built-in algorithm both are the same file system.
        if env_id == TUNE:
            kwargs = {key: value for key, value in kwargs.items() if key not in _TUNE_ONLY}
        env_id, kwargs["placement"] = VICTIM, placement
    return Contender(name, env_id, kwargs, builtin=True)


def compared_builtins(env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[Contender, ...]:
    """The built-in algorithms of a closing table: with the environment's placement, and with some others."""
    if env_id == PACING:
        return tuple(builtin_contender(name, env_id, env_kwargs) for name in BACKGROUNDS)
    if env_id in DAMON_ENVIRONMENTS:
        return tuple(builtin_contender(name, env_id, env_kwargs) for name in DAMON_ENVIRONMENTS[env_id].builtins)
    names = list(dict.fromkeys((*COMPARED_BUILTINS, env_kwargs.get("builtin", "greedy"))))
    if env_placement(env_id, env_kwargs) != SPLIT:
        names += [f"{name}/{SPLIT}" for name in COMPARED_WITH_SPLIT]
    if env_id == TUNE:
        names += COMPARED_WITH_PLACEMENTS
    return tuple(builtin_contender(name, env_id, env_kwargs) for name in names)


def shipped_builtins(env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[Contender, ...]:
    """All built-in algorithms that are shipped for an environment, its own one first.

    For the log-structured file system these are all policies with the environment's placement and with user/GC split,
    and for `kml/LfsTune-v0`, whose agents split the user's blocks too, those of `WITH_USER_SPLITS` with each placement
    that does so. `random` is left out: it looks at nothing, a yardstick of theory rather than anybody's choice.

    Args:
        env_id: The environment.
        env_kwargs: Its arguments.

    Raises:
        UserError: There is no such environment or built-in algorithm.
    """
    if env_id == PACING or env_id in DAMON_ENVIRONMENTS:
        names = list(BACKGROUNDS if env_id == PACING else DAMON_ENVIRONMENTS[env_id].builtins)
    else:
        own = env_placement(env_id, env_kwargs)
        policies = [name for name in BUILTIN_POLICIES if name != "random"]
        names = [*policies, *(f"{name}/{SPLIT}" for name in policies if own != SPLIT)]
        if env_id == TUNE:
            splitting = [name for name, rule in PLACEMENTS.items() if PlacementConfig(rule).user_logs > 1]
            names += [f"{name}/{placement}" for placement in splitting for name in WITH_USER_SPLITS]
    first = str(env_kwargs.get("builtin", names[0]))
    return tuple(builtin_contender(name, env_id, env_kwargs) for name in dict.fromkeys((first, *names)))


def listed_builtins(env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the built-in algorithms of the narrower list that the goals name; none where all are few."""
    if env_id == PACING or env_id in DAMON_ENVIRONMENTS:
        return ()
    ending = "" if env_placement(env_id, env_kwargs) == SPLIT else f"/{SPLIT}"
    return tuple(f"{name}{ending}" for name in LISTED_BUILTINS)


def named_contender(name: str, env_id: str, env_kwargs: Mapping[str, Any]) -> Contender:
    """What `evaluate.py --policy NAME` stands for.

    Args:
        name: A built-in algorithm, `clairvoyant`, `informed`, `random-action[:SEED]`, `constant:NUMBER[,NUMBER…]`, or,
            of `kml/LfsVictim-v0` and `kml/LfsPacing-v0`, `rule`: the linear rule that training begins with.
        env_id: The environment.
        env_kwargs: Its arguments.

    Raises:
        UserError: The name is none of these.
    """
    if name in ORACLES:
        if env_id not in (TUNE, VICTIM):
            raise UserError(f"policy '{name}': {env_id} has no such oracle to play: {TUNE} and {VICTIM} have")
        return Contender(ORACLES[name].value, env_id, env_kwargs, builtin=True, oracle=ORACLES[name])
    kind, colon, argument = name.partition(":")
    if name == "rule" and env_id in (VICTIM, PACING):
        from agents import pace_search, rule_search  # these import this module, and torch

        rule = rule_search.RulePolicy if env_id == VICTIM else pace_search.RulePolicy
        return Contender(name, env_id, env_kwargs, lambda space: rule())
    if kind == "random-action":
        seed = _seed(argument) if colon else 0
        return Contender(name, env_id, env_kwargs, lambda space: RandomPolicy(space, seed))
    if kind == "constant":
        action = _numbers(argument)
        return Contender(name, env_id, env_kwargs, lambda space: ConstantPolicy(space, action))
    return builtin_contender(name, env_id, env_kwargs)


def policy_names() -> tuple[str, ...]:
    """All names that `named_contender` accepts, but for their arguments."""
    return (*BUILTIN_POLICIES, *ORACLES, "random-action[:SEED]", "constant:NUMBERS")


def env_placement(env_id: str, env_kwargs: Mapping[str, Any]) -> str:
    """The placement of an environment of the log-structured file system.

    Raises:
        UserError: It is another environment.
    """
    if env_id == TUNE:
        return TUNE_PLACEMENT
    if env_id in (VICTIM, PACING):
        return str(env_kwargs.get("placement", "user-gc-split"))
    raise unknown_name("environment", env_id, (TUNE, VICTIM, PACING))


def suite_of(env_id: str, split: str) -> str:
    """The suite of workloads of an environment, for `train`, `validation` or `held-out`."""
    if env_id in DAMON_ENVIRONMENTS:
        return f"reclaim-{split}" if env_id == RECLAIM else f"memory-{split}"
    return f"paced-{split}" if env_id == PACING else split


def names_of(env_id: str, selection: str | Sequence[str]) -> tuple[str, ...]:
    """Expand suites and workloads of an environment into names; `trace:PATH` is a file of the user.

    Raises:
        UserError: A workload does not exist, or a file cannot be read.
    """
    chosen = [selection] if isinstance(selection, str) else list(selection)
    if env_id in DAMON_ENVIRONMENTS:
        names = memory_workload_names(name.replace("trace:", "accesses:", 1) for name in chosen)
        for name in names:
            make_memory_workload(name)
        return names
    names = workload_names(chosen)
    for name in names:
        make_workload(name)
    return names


def _pacing_contender(name: str, env_kwargs: Mapping[str, Any]) -> Contender:
    if name not in BACKGROUNDS:
        raise unknown_name("policy", name, (*BACKGROUNDS, "rule", "random-action[:SEED]"))
    # All are measured by the objective of the agent's environment.
    given = {key: env_kwargs[key] for key in ("builtin", "latency_limit_ms", "move_price_us") if key in env_kwargs}
    kwargs = {**env_kwargs, **PacingArguments(**given).cost()._asdict(), "builtin": name, "mode": "emergency"}
    for units_only in ("share", "probes"):
        kwargs.pop(units_only, None)
    return Contender(name, PACING, kwargs, builtin=True)


def _damon_contender(name: str, env_id: str, env_kwargs: Mapping[str, Any]) -> Contender:
    builtins = DAMON_ENVIRONMENTS[env_id].builtins
    if name not in builtins:
        raise unknown_name("policy", name, (*builtins, "random-action[:SEED]", "constant:NUMBERS"))
    kwargs = {key: value for key, value in env_kwargs.items() if key not in ("share", "probes")}
    return Contender(name, env_id, {**kwargs, "builtin": name, "mode": "emergency"}, builtin=True)


def _trigger_sections(env_id: str, env_kwargs: Mapping[str, Any]) -> int:
    rule = PLACEMENTS[env_placement(env_id, env_kwargs)]
    ages = env_kwargs.get("age_thresholds", PlacementConfig().age_thresholds)
    return LfsConfig(placement=PlacementConfig(rule, age_thresholds=tuple(ages))).trigger_sections


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise UserError(
            f"policy 'constant:{text}': numbers separated by commas are accepted, such as constant:0 or constant:0.5,1"
        ) from None


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"policy 'random-action:{text}': a whole number from 0 on is accepted, such as random-action:7")
    return int(text)
