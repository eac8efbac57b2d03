"""What a benchmark plays: an environment, its held-out workloads, and the built-in algorithms that agents must beat.

A suite has the name of the agent that is shipped for it: `python evaluate.py --suite lfs-tune` plays all training seeds
of that agent, `python -m agents.benchmark --only lfs-tune` trains them anew. Results carry the version of the workloads
(`kml_envs.suites.SUITE_VERSION`).

What a suite costs: an episode of a built-in algorithm is one call of native code, all episodes of a workload side by
side, so that the forty of `lfs-tune` take a minute of one core (a fifth of a second for each workload, most of it
warm-up). The oracles take less than that; agents take most, and their deployments most of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium

from agents import pace_search, q_learning_cleaner, rule_search
from agents.baselines import (
    PACING,
    TUNE,
    VICTIM,
    ConstantPolicy,
    Contender,
    Policy,
    listed_builtins,
    names_of,
    shipped_builtins,
    suite_of,
)
from agents.damon_environments import MONITOR, RECLAIM, TIER
from agents.evaluation import play_oracles
from agents.goals import DEPLOYMENT, Goal, GoalKind
from agents.hyperparameter_files import read_entry
from agents.measures import MEAN_SCORE, TAIL_LATENCY, WRITE_AMPLIFICATION, Measure
from agents.playing import evaluate, evaluate_together, is_asked_often
from agents.results import Evaluation, join
from kml_envs.errors import unknown_name
from kml_envs.lfs.oracle import OracleKind
from kml_envs.suites import SYNTHETIC_SUITES

EPISODE_SEEDS = (1001, 1002, 1003, 1004, 1005)
AGENT = "agent"
START = "start of the training"
RIVAL = "q-learning"
"""The tabular Q-learning cleaner of Kang et al. (TECS 2017), trained anew: an agent to beat."""
SKEWED = tuple(name for name in SYNTHETIC_SUITES["synthetic-held-out"] if name != "uniform")
"""The held-out synthetic workloads that write some blocks more often than others."""
_VOLUMES = {"episode_volumes": 60.0}
_HALF_AN_HOUR = {"episode_s": 1800.0}


_STARTS: dict[str, tuple[str, Callable[[gymnasium.Space[Any], Any], Policy]]] = {
    "initial_action": ("constant action", lambda space, numbers: ConstantPolicy(space, tuple(numbers))),
    "initial_weights": ("linear rule", lambda space, weights: rule_search.RulePolicy(weights)),
    "initial_rule": ("linear rule", lambda space, numbers: pace_search.RulePolicy(numbers)),
}
"""What training begins with, by the hyperparameter that names it: in words, and as a policy."""


@dataclass(frozen=True)
class BenchmarkSuite:
    """One table of the results.

    Attributes:
        name: Of the suite, and of the agent that is shipped for it.
        env_id: The environment.
        algo: What `agents.benchmark` trains with.
        measure: What is compared, whether less or more of it is better, and how workloads are averaged.
        goals: What is to be reached.
        deployment: Length of a deployment under mode `auto`, as arguments of the environment; empty: there is none.
        deployed_seeds: How many of the episodes' seeds are deployed; None: all.
        start: Arguments of the policy that replace those of the hyperparameter file: what training began with.
        rival_steps: Steps that the rival is trained for; 0: there is none.
        env_kwargs: Arguments of the environment.
        workloads: Suites or workloads to play; empty: the environment's held-out suite.
        episode_seeds: One episode each, on every workload.
    """

    name: str
    env_id: str
    algo: str
    measure: Measure = WRITE_AMPLIFICATION
    goals: tuple[Goal, ...] = ()
    deployment: Mapping[str, float] = field(default_factory=dict)
    deployed_seeds: int | None = None
    start: Mapping[str, Any] = field(default_factory=dict)
    rival_steps: int = 0
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    workloads: tuple[str, ...] = ()
    episode_seeds: tuple[int, ...] = EPISODE_SEEDS

    @property
    def played(self) -> tuple[str, ...]:
        """Names of the workloads that are played."""
        return names_of(self.env_id, self.workloads or suite_of(self.env_id, "held-out"))

    @property
    def builtins(self) -> tuple[Contender, ...]:
        """The built-in algorithms that are compared: all that are shipped, the environment's own one first."""
        return shipped_builtins(self.env_id, self.env_kwargs)

    @property
    def listed(self) -> tuple[str, ...]:
        """Names of those that the goals name: a narrower comparison beside that with all; none: there is none."""
        return listed_builtins(self.env_id, self.env_kwargs)


SUITES: dict[str, BenchmarkSuite] = {
    suite.name: suite
    for suite in (
        BenchmarkSuite(
            "lfs-tune",
            TUNE,
            "ppo",
            goals=(
                Goal(GoalKind.BEST_OF_EACH, 0.15),
                Goal(GoalKind.WORST_WORKLOAD, -0.02),
                Goal(GoalKind.NORMALIZED_SCORE, 0.2, OracleKind.CLAIRVOYANT.value),
                Goal(GoalKind.NORMALIZED_SCORE, 0.5, OracleKind.INFORMED.value, SKEWED),
                DEPLOYMENT,
            ),
            deployment=_VOLUMES,
        ),
        BenchmarkSuite(
            "lfs-victim",
            VICTIM,
            "ppo_mask",
            goals=(Goal(GoalKind.BEST_OF_EACH, 0.08), Goal(GoalKind.WORST_WORKLOAD, -0.02), DEPLOYMENT),
            deployment=_VOLUMES,
        ),
        BenchmarkSuite(
            "lfs-pacing",
            PACING,
            "ppo",
            TAIL_LATENCY,
            goals=(
                Goal(GoalKind.OWN_BUILTIN, 0.4, TAIL_LATENCY.metric),
                Goal(GoalKind.OWN_BUILTIN, 0.7, "stall_ms"),
                Goal(GoalKind.OWN_BUILTIN, 0.0, WRITE_AMPLIFICATION.metric),
                DEPLOYMENT,
            ),
            deployment=_VOLUMES,
            # A window of the agent's has ten thousand decisions: all seeds would take two hours.
            deployed_seeds=1,
            rival_steps=q_learning_cleaner.TIMESTEPS,
        ),
        BenchmarkSuite(
            "damon-reclaim",
            RECLAIM,
            "ppo",
            MEAN_SCORE,
            goals=(Goal(GoalKind.BEST_SINGLE_SHARE, 0.2), Goal(GoalKind.SHARE_OF_ORACLE, 0.8), DEPLOYMENT),
            deployment=_HALF_AN_HOUR,
        ),
        BenchmarkSuite(
            "damon-monitor",
            MONITOR,
            "ppo",
            MEAN_SCORE,
            goals=(
                Goal(GoalKind.OWN_BUILTIN, 0.2, "access_error"),
                Goal(GoalKind.OWN_BUILTIN, 0.0, "monitor_cpu_share"),
                DEPLOYMENT,
            ),
            deployment=_HALF_AN_HOUR,
        ),
        BenchmarkSuite(
            "damon-tier",
            TIER,
            "ppo",
            MEAN_SCORE,
            goals=(Goal(GoalKind.OWN_BUILTIN, 0.3, "slowdown"), DEPLOYMENT),
            deployment=_HALF_AN_HOUR,
        ),
    )
}


def find_suite(name: str) -> BenchmarkSuite:
    """Look a suite up.

    Raises:
        UserError: There is none of this name.
    """
    if name not in SUITES:
        raise unknown_name("benchmark suite", name, SUITES)
    return SUITES[name]


def measure_of(env_id: str) -> Measure:
    """What agents of an environment are judged by."""
    return next((suite.measure for suite in SUITES.values() if suite.env_id == env_id), WRITE_AMPLIFICATION)


def play_references(suite: BenchmarkSuite) -> Evaluation:
    """Play the built-in algorithms and, where there are any, oracles, rival and start of the training."""
    workloads, seeds = suite.played, suite.episode_seeds
    parts = [evaluate(contender, workloads, seeds) for contender in suite.builtins]
    parts += play_oracles(suite.env_id, suite.env_kwargs, parts[0])
    if suite.rival_steps:
        cleaner = q_learning_cleaner.trained_cleaner(suite.rival_steps)
        parts.append(
            evaluate(Contender(RIVAL, suite.env_id, suite.env_kwargs, lambda space: cleaner), workloads, seeds)
        )
    if (start := start_contender(suite)) is not None:
        parts.append(evaluate(start, workloads, seeds))
    return join(parts)


def start_contender(suite: BenchmarkSuite) -> Contender | None:
    """What training begins with, before it has learned anything; None where the hyperparameters name nothing."""
    if (found := start_of(suite)) is None:
        return None
    make, numbers = _STARTS[found[0]][1], found[1]
    return Contender(START, suite.env_id, suite.env_kwargs, lambda space: make(space, numbers))


def start_text(suite: BenchmarkSuite) -> str:
    """What it is: a constant action, or a linear rule."""
    found = start_of(suite)
    return "start" if found is None else _STARTS[found[0]][0]


def start_of(suite: BenchmarkSuite) -> tuple[str, Any] | None:
    """The hyperparameter that names it, and its value."""
    given = {**read_entry(suite.algo, suite.env_id).get("policy_kwargs", {}), **suite.start}
    return next(((name, given[name]) for name in _STARTS if name in given), None)


def play_agent(suite: BenchmarkSuite, policy: Policy) -> Evaluation:
    """Play an agent that always acts."""
    contender = Contender(AGENT, suite.env_id, suite.env_kwargs, lambda space: policy)
    return evaluate(contender, suite.played, suite.episode_seeds)


def play_alone(suite: BenchmarkSuite) -> Evaluation | None:
    """Play the built-in algorithm alone for the length of a deployment; None where the suite has no deployment."""
    if not suite.deployment:
        return None
    kwargs = {**suite.env_kwargs, **suite.deployment, "mode": "emergency"}
    return _deployed(suite, Contender("built-in", suite.env_id, kwargs))


def play_deployment(suite: BenchmarkSuite, policy: Policy, alone: Evaluation | None = None) -> Evaluation | None:
    """Play an agent behind a proxy that decides by itself how far it trusts it, and the built-in algorithm alone.

    Args:
        suite: The suite.
        policy: The agent.
        alone: The built-in algorithm, if it has played already.

    Returns:
        Two rows, of the same writes; None where the suite has no deployment.
    """
    alone = play_alone(suite) if alone is None else alone
    if alone is None:
        return None
    kwargs = {**suite.env_kwargs, **suite.deployment, "mode": "auto"}
    auto = Contender(AGENT, suite.env_id, kwargs, lambda space: policy)
    return join([_deployed(suite, auto), alone])


def _deployed(suite: BenchmarkSuite, contender: Contender) -> Evaluation:
    """Play a deployment's episodes; where the agent is asked often, all in one environment."""
    play = evaluate_together if is_asked_often(suite.env_id) else evaluate
    return play(contender, suite.played, suite.episode_seeds[: suite.deployed_seeds])
