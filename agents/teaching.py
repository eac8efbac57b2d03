"""A start for training: the policy learns to recommend, from what it sees, the action found for each training workload.

The actions come from a search (`python -m agents.action_search --each`) that knows the workload; the policy has to tell
workloads apart by its observations. What it sees depends on who acts, so that later rounds add observations made under
the policy itself, labelled in the same way (DAgger: Ross, Gordon and Bagnell 2011). PPO then goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from agents.action_search import read_actions
from agents.playing import make_environment
from agents.standardize import standardization
from agents.vector_env import NativeEnv
from kml_envs.errors import UserError
from kml_envs.suites import workload_names

TEACHERS = Path(__file__).parent / "teachers"
ROWS = 4  # episodes of a workload side by side
MIXED_PASSES = 4  # episodes under mixtures of the teachers' actions
OWN_PASSES = 2  # episodes under the policy
UPDATES = 2000  # of the network after each round
BATCH = 512
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-3
NOISE = 0.2  # on standardized observations: workloads that were never seen look a little different

Array = npt.NDArray[Any]
Acting = Callable[[Array], Array]
Teachers = Mapping[str, Array]
"""The action (A,) of each training workload."""


def find_teachers(policy: BasePolicy, env_id: str, file: Path | None = None) -> Teachers:
    """The teachers of an environment, if a policy can learn from them.

    Args:
        policy: The policy.
        env_id: The environment.
        file: The teachers; None: those that come with the package.

    Raises:
        UserError: There are none, they teach other actions, or the policy's mean action cannot be fitted.
    """
    space = policy.action_space
    if not isinstance(policy, ActorCriticPolicy) or not isinstance(space, spaces.Box):
        raise UserError("imitate: teachers recommend numbers, to a policy of ppo or a2c: leave it out, or set it false")
    file = TEACHERS / f"{env_id.rpartition('/')[2]}.yml" if file is None else file
    if not file.is_file():
        raise UserError(f"imitate: there are no teachers for {env_id}: {file}")
    known = set(workload_names("train"))
    teachers = {name: action for name, action in read_actions(file).items() if name in known}
    if not teachers:
        raise UserError(f"imitate: {file} has no action for any workload of the suite 'train'")
    for name, action in teachers.items():
        if action.shape != space.shape:
            raise UserError(f"imitate: {file}: {name} has {action.size} numbers, {env_id} takes {space.shape[0]}")
    return teachers


def learn_from_teachers(
    policy: ActorCriticPolicy,
    teachers: Teachers,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    *,
    seed: int,
    threads: int,
    check: Callable[[], None] = lambda: None,
) -> float:
    """Train the policy's mean action on the teachers of an environment.

    Args:
        policy: A policy of bounded numbers.
        teachers: What to recommend, and for which workloads.
        env_id: The environment.
        env_kwargs: Its arguments, but for workloads and mode.
        seed: Of episodes, mixtures, batches and noise.
        threads: Workloads that are played at the same time.
        check: Called before each step and each update, in several threads; what it raises ends the lesson.

    Returns:
        Mean squared difference from the teachers in the last batch.
    """
    workloads = [name for name in workload_names("train") if name in teachers]
    environments = {name: make_environment(env_id, env_kwargs, name, ROWS) for name in workloads}
    generator = np.random.default_rng(seed)
    observations: list[Array] = []
    actions: list[Array] = []

    def play_all(acting: Mapping[str, Acting], first_seed: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            seen = pool.map(lambda name: _observe(environments[name], acting[name], first_seed, check), workloads)
            for name, found in zip(workloads, seen, strict=True):
                observations.append(found)
                actions.append(np.tile(teachers[name], (len(found), 1)))

    difference = np.inf
    try:
        for number in range(MIXED_PASSES + OWN_PASSES):
            if number < MIXED_PASSES:
                acting = {name: _mixture(name, teachers, generator) for name in workloads}
            else:
                acting = dict.fromkeys(workloads, mean_action(policy))
            play_all(acting, seed + ROWS * number)
            if number >= MIXED_PASSES - 1:
                difference = _fit(policy, np.concatenate(observations), np.concatenate(actions), generator, check)
    finally:
        for environment in environments.values():
            environment.close()
    return difference


def mean_action(policy: ActorCriticPolicy) -> Acting:
    """The policy's mean action, for several threads."""
    lock = Lock()  # a policy of Stable-Baselines3 has one distribution, which every prediction overwrites

    def act(seen: Array) -> Array:
        with lock:
            return policy.predict(seen, deterministic=True)[0]

    return act


def _observe(environment: NativeEnv, acting: Acting, first_seed: int, check: Callable[[], None]) -> Array:
    """What is seen in one episode of each row, (steps * rows, F)."""
    seeds: Any = [first_seed + row for row in range(ROWS)]  # Gymnasium's annotation knows only one seed for all rows
    current, _ = environment.reset(seed=seeds)
    seen, finished = [], np.zeros(ROWS, np.bool_)
    while not finished.all():
        check()
        seen.append(current)
        current, _, _, finished, _ = environment.step(acting(current).astype(np.float32))
    return np.concatenate(seen)


def _mixture(name: str, teachers: Teachers, generator: np.random.Generator) -> Acting:
    """The workload's own action in two rows, that of another in one, and half and half in one."""
    other = teachers[str(generator.choice(list(teachers)))]
    share = np.array([[1.0], [1.0], [0.5], [0.0]])
    action = share * teachers[name] + (1.0 - share) * other
    return lambda seen: action


def _fit(
    policy: ActorCriticPolicy,
    observations: Array,
    actions: Array,
    generator: np.random.Generator,
    check: Callable[[], None],
) -> float:
    """Regress the mean action on the observations; the statistics of standardizing come from all of them."""
    order = generator.permutation(len(observations))
    seen = torch.as_tensor(observations[order], dtype=torch.float32)
    wanted = torch.as_tensor(actions[order], dtype=torch.float32)
    with standardization(policy, learning=True), torch.no_grad():
        policy.extract_features(seen, policy.pi_features_extractor)
    with torch.no_grad():
        features = policy.extract_features(seen, policy.pi_features_extractor)
    assert isinstance(features, torch.Tensor)
    noise = torch.Generator().manual_seed(int(generator.integers(2**31)))
    parameters = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    loss = torch.zeros(())
    for _ in range(UPDATES):
        check()
        rows = torch.as_tensor(generator.integers(len(features), size=BATCH))
        blurred = features[rows] + NOISE * torch.randn(BATCH, features.shape[1], generator=noise)
        mean = policy.action_net(policy.mlp_extractor.forward_actor(blurred))
        loss = torch.nn.functional.mse_loss(mean, wanted[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(loss.detach())
