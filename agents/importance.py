"""What drives a policy: permutation importance of what it sees, and the worth of the parts of what it recommends.

Permutation importance (Breiman 2001): a feature is replaced by what the policy saw of it at another moment, drawn from
all workloads, and the rest is left as it is. Features of one kind (the bars of a histogram, the same number of
each candidate) are replaced together, since each of them alone can be told from the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import gymnasium
import numpy as np

from agents.baselines import PACING, TUNE, Array, Contender, Policy
from agents.measures import Measure
from agents.playing import evaluate
from agents.statistics import FloatArray
from agents.watching import Changed, Decisions
from kml_envs.lfs.pace import RULES

JUDGED_DECISIONS = 2000  # of which the changes of the action are taken
_DRAWS = 4  # replacements of each of them
# Of one kind, but with words in the place of numbers.
_BARS = re.compile(r"(in_force|(?:fast_|slow_)?accessed|level)_.*")

PARTS: dict[str, dict[str, tuple[int, ...]]] = {
    TUNE: {
        "victim score": tuple(range(8)),
        "thresholds of moved blocks": (8, 9, 11),
        "split of the user's blocks": (10,),
    },
}
"""Numbers of an environment's action that belong together; elsewhere each stands for itself."""

CANDIDATE_NAMES: dict[str, tuple[str, ...]] = {
    # Longer names first: one begins with another.
    PACING: tuple(sorted((rule.name.lower() for rule in RULES), key=len, reverse=True)),
}
"""What the features of candidates begin with, where candidates have names."""


@dataclass(frozen=True)
class Importance:
    """What depends on a kind of features, or on a part of the action.

    Attributes:
        name: Of the features or of the part.
        action: How much the action changes without them: mean absolute change as a share of the action's range, or
            the share of choices that change. NaN of parts of the action.
        values: (W,) the measure without them, mean over episodes.
    """

    name: str
    action: float
    values: FloatArray


def feature_kinds(names: Sequence[str], env_id: str = "") -> dict[str, tuple[int, ...]]:
    """Columns by kind of feature: names that differ in numbers only are of one kind, named without them.

    So are the settings in force, and the bars of DAMON's histograms of accesses.

    Args:
        names: Of the features.
        env_id: Their environment; where it names candidates by the rules that choose them, the same number of all
            candidates is of one kind too.
    """
    rules = "|".join(CANDIDATE_NAMES.get(env_id, ()))
    kinds: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        kind = re.sub(rf"^({rules})_", "candidate_", name) if rules else name
        bars = _BARS.fullmatch(kind)
        kinds.setdefault(bars[1] if bars else re.sub(r"_?\d+", "", kind), []).append(column)
    return {name: tuple(columns) for name, columns in kinds.items()}


def importance_of_features(
    contender: Contender,
    kinds: Mapping[str, tuple[int, ...]],
    decisions: Mapping[str, Decisions],
    measure: Measure,
    seeds: Sequence[int],
    tell: Callable[[str], None],
) -> list[Importance]:
    """Permutation importance of each kind of features, that of the action largest first.

    Args:
        contender: The policy and its environment.
        kinds: Columns by name.
        decisions: What the policy saw and did, by workload.
        measure: What it is judged by.
        seeds: Of the episodes that it plays without each of them.
        tell: Told what plays.
    """
    pool = np.concatenate([each.observations.reshape(-1, each.observations.shape[-1]) for each in decisions.values()])
    result = []
    for name, columns in kinds.items():
        tell(f"without {name}")
        blind = _without(contender, columns, pool)
        result.append(
            Importance(name, _change(contender, columns, decisions), _values(blind, decisions, measure, seeds))
        )
    return sorted(result, key=lambda each: -each.action)


def worth_of_parts(
    contender: Contender,
    parts: Mapping[str, tuple[int, ...]],
    instead: Array,
    workloads: Sequence[str],
    measure: Measure,
    seeds: Sequence[int],
) -> list[Importance]:
    """What becomes of the measure when a part of the action is replaced.

    Args:
        contender: The policy and its environment, whose actions are numbers.
        parts: Numbers of the action by name.
        instead: (A,) what they are replaced by.
        workloads: Names.
        measure: What the policy is judged by.
        seeds: Of the episodes.
    """
    return [
        Importance(name, float("nan"), _values(_held(contender, numbers, instead), workloads, measure, seeds))
        for name, numbers in parts.items()
    ]


def parts_of(env_id: str, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Parts of an environment's action."""
    return PARTS.get(env_id) or {name: (number,) for number, name in enumerate(names)}


def _change(contender: Contender, columns: Sequence[int], decisions: Mapping[str, Decisions]) -> float:
    """How much the action changes when features are replaced, everything else being as it was."""
    generator = np.random.default_rng(0)
    seen = np.concatenate([each.observations.reshape(-1, each.observations.shape[-1]) for each in decisions.values()])
    acted = np.concatenate([each.actions.reshape(-1, *each.actions.shape[2:]) for each in decisions.values()])
    masked = [each.masks.reshape(-1, each.masks.shape[-1]) for each in decisions.values() if each.masks is not None]
    rows = generator.permutation(len(seen))[:JUDGED_DECISIONS]
    masks = np.concatenate(masked)[rows] if masked else None
    policy = Changed(_policy(contender))
    total = 0.0
    for _ in range(_DRAWS):
        changed = seen[rows]
        changed[:, columns] = seen[np.ix_(generator.integers(len(seen), size=len(rows)), np.array(columns))]
        actions, _state = policy.predict(changed, action_masks=masks)
        if actions.ndim == 1:
            total += float((actions != acted[rows]).mean())
        else:
            total += float(np.abs(actions - acted[rows]).mean()) / 2.0  # of -1 to 1
    return total / _DRAWS


def _policy(contender: Contender) -> Policy:
    # A trained agent brings its own action space.
    return contender.make_policy(gymnasium.spaces.Discrete(1))


def _without(contender: Contender, columns: Sequence[int], pool: Array) -> Contender:
    def make(space: gymnasium.Space[object]) -> Policy:
        generator = np.random.default_rng(0)

        def see(observation: Array) -> Array:
            changed = observation.copy()
            changed[:, columns] = pool[np.ix_(generator.integers(len(pool), size=len(observation)), np.array(columns))]
            return changed

        return Changed(contender.make_policy(space), see=see)

    return replace(contender, make_policy=make)


def _held(contender: Contender, numbers: Sequence[int], instead: Array) -> Contender:
    def recommend(action: Array) -> Array:
        changed = np.array(action)
        changed[:, numbers] = instead[list(numbers)]
        return changed

    return replace(contender, make_policy=lambda space: Changed(contender.make_policy(space), recommend=recommend))


def _values(
    contender: Contender, workloads: Sequence[str] | Mapping[str, Decisions], measure: Measure, seeds: Sequence[int]
) -> FloatArray:
    values: FloatArray = evaluate(contender, tuple(workloads), seeds).metrics[measure.metric][0].mean(axis=1)
    return values
