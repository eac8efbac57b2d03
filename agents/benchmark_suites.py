"""What a benchmark plays: an environment, its held-out workloads, and the built-in algorithms that agents must beat.

A suite has the name of the agent that is shipped for it: `python evaluate.py --suite lfs-tune` plays all training seeds
of that agent. Results carry the version of the workloads (`kml_envs.suites.SUITE_VERSION`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.baselines import PACING, TUNE, VICTIM, Contender, Policy, builtin_contender, compared_builtins, suite_of
from agents.playing import evaluate, evaluate_oracle
from agents.results import Evaluation, join
from kml_envs.errors import unknown_name
from kml_envs.lfs.oracle import OracleKind
from kml_envs.suites import workload_names

EPISODE_SEEDS = (1001, 1002, 1003, 1004, 1005)
AGENT = "agent"
_MORE_BUILTINS = ("fifo", "d-choices")
_SPLIT = "user-gc-split"


@dataclass(frozen=True)
class BenchmarkSuite:
    """One table of the results.

    Attributes:
        name: Of the suite, and of the agent that is shipped for it.
        env_id: The environment.
        algo: What `agents.benchmark` trains with.
        metric: What is compared, lower is better: a name of `agents.results`.
        more_builtins: Built-in algorithms beside those of a closing table.
        deployment_volumes: Length of a deployment under mode `auto`, in volumes of user writes; 0: there is none.
        env_kwargs: Arguments of the environment.
        workloads: Suites or workloads to play; empty: the environment's held-out suite.
        episode_seeds: One episode each, on every workload.
    """

    name: str
    env_id: str
    algo: str
    metric: str = "write_amplification"
    more_builtins: tuple[str, ...] = ()
    deployment_volumes: float = 60.0
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    workloads: tuple[str, ...] = ()
    episode_seeds: tuple[int, ...] = EPISODE_SEEDS

    @property
    def played(self) -> tuple[str, ...]:
        """Names of the workloads that are played."""
        return workload_names(self.workloads or suite_of(self.env_id, "held-out"))

    @property
    def builtins(self) -> tuple[Contender, ...]:
        """The built-in algorithms that are compared, the environment's own one first."""
        more = (builtin_contender(name, self.env_id, self.env_kwargs) for name in self.more_builtins)
        return (*compared_builtins(self.env_id, self.env_kwargs), *more)


SUITES: dict[str, BenchmarkSuite] = {
    suite.name: suite
    for suite in (
        BenchmarkSuite(
            "lfs-tune",
            TUNE,
            "ppo",
            more_builtins=(
                *_MORE_BUILTINS,
                *(f"{name}/{_SPLIT}" for name in ("cost-benefit-sqrt", "atgc", *_MORE_BUILTINS)),
            ),
        ),
        BenchmarkSuite("lfs-victim", VICTIM, "ppo_mask", more_builtins=_MORE_BUILTINS),
        BenchmarkSuite("lfs-pacing", PACING, "ppo_mask", metric="latency_p999_ms", deployment_volumes=0.0),
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


def play_references(suite: BenchmarkSuite) -> Evaluation:
    """Play the built-in algorithms and, where there are any, the oracles."""
    workloads, seeds = suite.played, suite.episode_seeds
    parts = [evaluate(contender, workloads, seeds) for contender in suite.builtins]
    for kind in OracleKind if suite.env_id != PACING else ():  # oracles know nothing of time
        parts.append(evaluate_oracle(kind, suite.env_id, suite.env_kwargs, workloads, seeds))
    return join(parts)


def play_agent(suite: BenchmarkSuite, policy: Policy) -> Evaluation:
    """Play an agent that always acts."""
    contender = Contender(AGENT, suite.env_id, suite.env_kwargs, lambda space: policy)
    return evaluate(contender, suite.played, suite.episode_seeds)


def play_deployment(suite: BenchmarkSuite, policy: Policy) -> Evaluation | None:
    """Play an agent behind a proxy that decides by itself how far it trusts it, and the built-in algorithm alone.

    Returns:
        Two rows, of the same writes; None where the suite has no deployment.
    """
    if not suite.deployment_volumes:
        return None
    kwargs = {**suite.env_kwargs, "episode_volumes": suite.deployment_volumes}
    auto = Contender(AGENT, suite.env_id, {**kwargs, "mode": "auto"}, lambda space: policy)
    alone = Contender("built-in", suite.env_id, {**kwargs, "mode": "emergency"})
    return join([evaluate(each, suite.played, suite.episode_seeds) for each in (auto, alone)])
