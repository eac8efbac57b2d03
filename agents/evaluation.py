"""How good a policy is: built-in algorithms, the policy and the oracles on the same episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.baselines import PACING, Contender, Policy, compared_builtins
from agents.damon_environments import CLAIRVOYANT, DAMON_ENVIRONMENTS
from agents.memory_scores import describe_scores, evaluate_bound
from agents.pacing_tables import describe_pacing
from agents.playing import evaluate, evaluate_oracle
from agents.results import Comparison, Evaluation, join
from agents.tables import describe
from kml_envs.errors import UserError
from kml_envs.lfs.oracle import OracleKind, can_play
from kml_envs.suites import make_workload

Progress = Callable[[str], None]


def compare(
    judged: Contender, workloads: Sequence[str], seeds: Sequence[int], *, progress: Progress | None = None
) -> Comparison:
    """Play the judged policy, the built-in algorithms of its environment, and the oracles.

    Args:
        judged: The policy.
        workloads: Names.
        seeds: One episode each, on every workload.
        progress: Told the name of each policy before it plays.

    Raises:
        UserError: The environment is not one of `kml_envs`.
    """
    references = compared_builtins(judged.env_id, judged.env_kwargs)
    contenders = {contender.name: contender for contender in (*references, judged) if contender.oracle is None}
    tell = progress or (lambda name: None)
    parts = []
    for contender in contenders.values():
        tell(contender.name)
        parts.append(evaluate(contender, workloads, seeds))
    parts += play_oracles(judged.env_id, judged.env_kwargs, parts[0], tell)
    reference = references[0].name
    if not judged.builtin or judged.oracle is not None:
        reference = str(judged.env_kwargs.get("builtin", reference))
    builtins = tuple(contender.name for contender in contenders.values() if contender.builtin)
    return Comparison(join(parts), judged.name, reference, builtins, judged.env_id)


def check_oracle(judged: Contender, workloads: Sequence[str]) -> None:
    """Find out, before anything is played, whether an oracle is judged on what it knows nothing of.

    Args:
        judged: The policy.
        workloads: Names.

    Raises:
        UserError: It is.
    """
    if (kind := judged.oracle) is not None:
        for name in workloads:
            if not can_play(kind, make_workload(name)):
                raise UserError(f"the {kind.value} knows nothing about '{name}': choose others by --workload")


def play_oracles(
    env_id: str, env_kwargs: Mapping[str, Any], like: Evaluation, tell: Progress = lambda name: None
) -> list[Evaluation]:
    """Play the oracles that an environment has.

    Args:
        env_id: The environment.
        env_kwargs: Its arguments.
        like: What another policy achieved on the same episodes.
        tell: Told the name of each oracle before it plays.
    """
    if (known := DAMON_ENVIRONMENTS.get(env_id)) is not None:
        if known.bound is None:
            return []
        tell(CLAIRVOYANT)
        return [evaluate_bound(known.bound, env_id, env_kwargs, like)]
    parts = []
    for kind in OracleKind if env_id != PACING else ():  # these know nothing of time
        tell(kind.value)
        parts.append(evaluate_oracle(kind, env_id, env_kwargs, like.workloads, like.seeds))
    return parts


def closing_report(
    env_id: str,
    env_kwargs: Mapping[str, Any],
    policy: Policy,
    *,
    workloads: Sequence[str],
    seeds: Sequence[int],
    algo: str,
    progress: Progress | None = None,
) -> str:
    """What a training prints at its end: the table, and in plain words whether the agent won.

    Args:
        env_id: The environment.
        env_kwargs: Its arguments.
        policy: The agent.
        workloads: Names.
        seeds: One episode each, on every workload.
        algo: What the agent is called.
        progress: Told the name of each policy before it plays; what it raises ends the report.
    """
    judged = Contender(f"agent ({algo})", env_id, env_kwargs, lambda space: policy)
    return report(compare(judged, workloads, seeds, progress=progress))


def report(comparison: Comparison) -> str:
    """The closing table in the right measure: a score or latencies where there are any, else write amplification."""
    if "score" in comparison.results.metrics:
        return describe_scores(comparison)
    return describe_pacing(comparison) if "latency_p999_ms" in comparison.results.metrics else describe(comparison)
