"""What deployment would have done with a policy: the proxy in mode `auto`, and when it would have trusted it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from agents.baselines import PACING, VICTIM, Array, Contender, Policy
from agents.measures import percent_text
from agents.playing import Recommender, charged
from agents.tables import format_table
from agents.vector_env import make_native_env
from kml_envs.envs.domains import AUTOMATIC, comparison_of, has_domains
from kml_envs.long_episodes import episode_length, is_own, unit_of, window_of
from kml_envs.proxy.modes import Mode

EVALUATION_UNITS = {VICTIM: 40.0, PACING: 0.0}
"""Shorter ones or none for the evaluations of a training, where the agent is asked so often that they take long."""

_MEASURES = ("write_amplification", "score")

_OF_WHAT = {"volumes": " of user writes", "half minutes": " of the program", "windows": ""}

_SEEDS_APART = 1_000_000  # of the domains of a volume

ALL_EPISODES = "all episodes"
"""What stands for the workload in an environment without any to choose from."""


@dataclass(frozen=True)
class Outcome:
    """What became of R deployments.

    Attributes:
        workloads: Name of each one's workload.
        seeds: Each one's.
        mode: (R,) int8 `Mode` at the end.
        collaboration_after: (R,) float64, units after which the proxy first let the policy collaborate; NaN: never.
        recommendation_after: (R,) float64, units after which it first trusted the policy; NaN: never.
        degradations: (R,) int64, how often it took trust back.
        evidence: (R,) float64, logarithm of the evidence that the policy is better, at the end.
        evidence_needed: (R,) float64, what it takes to be trusted.
        paid: (R,) float64, what the proxy has charged, in the subsystem's cost unit.
        metrics: (R,) each, what the subsystem says of itself at the end; of the domains of a volume the mean.
    """

    workloads: tuple[str, ...]
    seeds: tuple[int, ...]
    mode: npt.NDArray[np.int8]
    collaboration_after: npt.NDArray[np.float64]
    recommendation_after: npt.NDArray[np.float64]
    degradations: npt.NDArray[np.int64]
    evidence: npt.NDArray[np.float64]
    evidence_needed: npt.NDArray[np.float64]
    paid: npt.NDArray[np.float64]
    metrics: Mapping[str, Array]

    @property
    def trusted(self) -> npt.NDArray[np.bool_]:
        """(R,) bool: the proxy has trusted the policy at some time."""
        return ~np.isnan(self.recommendation_after)

    def of(self, workload: str) -> npt.NDArray[np.bool_]:
        """(R,) bool: the deployments on a workload."""
        return np.array([name == workload for name in self.workloads])


class Deployments:
    """Deployments side by side, each on its workload and from its seed, which can be played again by other policies.

    Attributes:
        units: Their length.
        unit: What it counts in: see `kml_envs.long_episodes.unit_of`.
        comparison: How the proxy compares, in plain words.
    """

    def __init__(
        self, env_id: str, env_kwargs: Mapping[str, Any], workloads: Sequence[str], seeds: Sequence[int], units: float
    ) -> None:
        """Set the environment up.

        Args:
            env_id: The environment.
            env_kwargs: Its arguments; mode, efficiency, workloads and length of an episode are replaced.
            workloads: Each deployment's; none where the environment has no workloads to choose from.
            seeds: Each deployment's.
            units: Their length.

        Raises:
            UserError: The environment's arguments do not go with mode `auto`.
        """
        self.units, self.unit = units, unit_of(env_id)
        self._workloads = tuple(workloads) or (ALL_EPISODES,) * len(seeds)
        self._seeds = list(seeds)
        self._choose = bool(workloads)
        arguments = {key: value for key, value in env_kwargs.items() if key not in ("share", "probes", "workloads")}
        arguments |= {"mode": "auto", "efficiency": "none"}
        if has_domains(env_id):
            arguments.setdefault("domains", AUTOMATIC)
        self._domains, self.comparison = comparison_of(env_id, arguments)
        if workloads:
            arguments["workloads"] = list(dict.fromkeys(workloads))
        arguments |= {**episode_length(env_id, arguments, units), "autoreset_mode": "disabled"}
        environment: Any = make_native_env(env_id, len(self._seeds) * self._domains, arguments)
        self._environment: Any = environment.unwrapped
        self._environment.play_every_seed()
        self._unit_progress = self._environment.proxy.options.episode_progress / units

    @classmethod
    def on_every(cls, judged: Contender, workloads: Sequence[str], seeds: Sequence[int], units: float) -> Deployments:
        """One deployment from every seed on every workload, in a policy's environment; see the constructor."""
        rows = [workload for workload in workloads for _ in seeds]
        return cls(judged.env_id, judged.env_kwargs, rows, list(seeds) * max(len(workloads), 1), units)

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """What a policy recommends in one instance."""
        space: gymnasium.Space[Any] = self._environment.single_action_space
        return space

    def play(self, policy: Policy, *, until_trusted: bool = False) -> Outcome:
        """Play all of them from their beginnings, without exploration.

        Args:
            policy: The policy.
            until_trusted: Whether a deployment is over as soon as the proxy trusts the policy.
        """
        proxy = self._environment.proxy
        observations = self._begin()
        recommend = Recommender(self._environment, policy)
        over = np.zeros(len(self._seeds) * self._domains, np.bool_)
        while not over.all():
            observations, _, _, finished, infos = self._environment.step(recommend(observations))
            over |= finished
            if until_trusted and (trusted := (infos["mode"] == Mode.RECOMMENDATION) & ~over).any():
                proxy.stop(trusted)
                over |= trusted
        outcome = self._outcome()
        proxy.start(~proxy.life_cycle.running())
        return outcome

    def play_alone(self) -> npt.NDArray[np.float64]:
        """(R,) float64: what the built-in algorithm alone pays for all of them."""
        proxy = self._environment.proxy
        proxy.heartbeat(None)  # as long as no agent has come, every unit is the built-in algorithm's
        self._begin()
        assert proxy.finished.all()
        proxy.heartbeat(np.ones(len(proxy.finished), np.bool_))
        return self._paid()

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()

    def _begin(self) -> Array:
        """Begin every deployment, each on its own workload; returns the observations (R, F)."""
        seeds = [seed + _SEEDS_APART * domain for seed in self._seeds for domain in range(self._domains)]
        if not self._choose:
            return np.asarray(self._environment.reset(seed=seeds)[0])
        for workload in dict.fromkeys(self._workloads):
            rows = np.repeat([name == workload for name in self._workloads], self._domains)
            begun = self._environment.reset(seed=seeds, options={"workload": workload, "reset_mask": rows})
        return np.asarray(begun[0])

    def _outcome(self) -> Outcome:
        """How the deployments stand."""
        proxy = self._environment.proxy
        table = {name: values[:: self._domains] for name, values in proxy.table().items()}
        collaboration, recommendation = (
            np.where(table[name] < 0.0, np.nan, table[name] / self._unit_progress)
            for name in ("collaboration_after", "recommendation_after")
        )
        return Outcome(
            self._workloads,
            tuple(self._seeds),
            table["mode"],
            collaboration,
            recommendation,
            table["degradations"],
            table["evidence_better"],
            table["evidence_needed"],
            self._paid(),
            {
                name: self._of_deployments(values.astype(np.float64)).mean(axis=1)
                for name, values in proxy.subsystem.metrics().items()
            },
        )

    def _paid(self) -> npt.NDArray[np.float64]:
        """(R,) float64: what the proxy has charged."""
        return np.asarray(self._of_deployments(charged(self._environment)).sum(axis=1))

    def _of_deployments(self, values: Array) -> Array:
        """(R, D) of values (R * D,) of instances."""
        return values.reshape(-1, self._domains)


@dataclass(frozen=True)
class Deployed:
    """Deployments that are over.

    Attributes:
        units: Their length.
        unit: What it counts in.
        comparison: How the proxy compared, in plain words.
        outcome: What became of them.
        alone: (R,) float64, what the built-in algorithm alone would have paid.
    """

    units: float
    unit: str
    comparison: str
    outcome: Outcome
    alone: npt.NDArray[np.float64]

    @property
    def extra_cost(self) -> npt.NDArray[np.float64]:
        """(R,) float64, cost beyond the built-in algorithm's alone, as a share of that; NaN where it pays nothing."""
        unknown = np.full(len(self.alone), np.nan)
        return np.asarray(np.divide(self.outcome.paid - self.alone, self.alone, out=unknown, where=self.alone > 0.0))

    @property
    def text(self) -> str:
        """A table with one row per workload, and a sentence."""
        outcome = self.outcome
        measures = [name for name in _MEASURES if name in outcome.metrics][:1]
        header = ["workload", "trusted", f"after {self.unit}", "collaborating", "emergency", "degraded"]
        header += ["extra cost", "at most"]
        body = []
        for workload in dict.fromkeys(outcome.workloads):
            rows = outcome.of(workload)
            after = outcome.recommendation_after[rows & outcome.trusted]
            body.append(
                [
                    workload,
                    f"{after.size}/{rows.sum()}",
                    f"{np.median(after):.0f}" if after.size else "-",
                    f"{(outcome.mode[rows] == Mode.COLLABORATION).sum()}/{rows.sum()}",
                    f"{(outcome.mode[rows] == Mode.EMERGENCY).sum()}/{rows.sum()}",
                    f"{(outcome.degradations[rows] > 0).sum()}/{rows.sum()}",
                    *self._told_extra(rows),
                    *(f"{outcome.metrics[name][rows].mean():.3f}" for name in measures),
                ]
            )
        return "\n".join(
            [
                f"Deployment: the same policy under mode auto for {self.units:g} {self.unit}"
                f"{_OF_WHAT[self.unit]}, {self.comparison}",
                "(trusted: runs in which the proxy let it decide; the median of when; the other counts are of the end;",
                "extra cost: beyond what the built-in algorithm alone pays, of all runs together, and in a single one)",
                "",
                format_table([*header, *(name.replace("_", " ") for name in measures)], body),
                "",
                promotion_sentence(outcome),
            ]
        )

    def _told_extra(self, rows: npt.NDArray[np.bool_]) -> list[str]:
        """The extra cost of all the rows (R,) together, and the largest of a single one."""
        alone = self.alone[rows].sum()
        if not alone > 0.0:
            return ["-", "-"]
        together = self.outcome.paid[rows].sum() / alone - 1.0
        return [percent_text(share) for share in (together, np.nanmax(self.extra_cost[rows]))]


def deploy(judged: Contender, deployments: Deployments) -> Deployed:
    """Let a policy run behind a proxy that decides by itself how far it trusts it, and say what became of that.

    Args:
        judged: The policy.
        deployments: Deployments in its environment.

    Returns:
        What became of it.
    """
    outcome = deployments.play(judged.make_policy(deployments.action_space))
    return Deployed(deployments.units, deployments.unit, deployments.comparison, outcome, deployments.play_alone())


def promotion_sentence(outcome: Outcome) -> str:
    """Whether the proxy would have promoted the policy, in plain words."""
    return f"The proxy would have trusted it in {outcome.trusted.sum()} of {len(outcome.workloads)} runs."


def can_deploy(env_id: str, env_kwargs: Mapping[str, Any]) -> bool:
    """Whether an environment can run in mode `auto`: a subsystem of one's own needs a window for that."""
    return not is_own(env_id) or window_of(env_id, env_kwargs) > 0
