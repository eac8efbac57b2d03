"""`evaluate.py --explain`: what drives an agent, what its choices look like, and what that is in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.baselines import TUNE, Contender
from agents.benchmark_suites import measure_of
from agents.explanation_pictures import draw_choices
from agents.importance import Importance, feature_kinds, importance_of_features, parts_of, worth_of_parts
from agents.measures import Measure
from agents.playing import make_environment
from agents.shipped import CARD, find_agent
from agents.statistics import FloatArray
from agents.tables import format_table
from agents.watching import Decisions, decisions_of
from kml_envs.files import make_writable_folder

EPISODES = 2
PLAIN_WORDS = "## In plain words"
_SEED = re.compile(
    r"training seed (\d+)"
)  # which seed a card's plain words are about; the first one where none is told
DEFAULT_FOLDER = Path("logs/explanations")
_LEANS = 2  # features named beside a number of the action, at most
_CLEAR = 0.5  # correlation from which they are


def explain(
    judged: Contender,
    workloads: Sequence[str],
    seeds: Sequence[int],
    *,
    name: str,
    shipped: str | None,
    folder: Path | None,
    tell: Callable[[str], None],
) -> str:
    """Explain an agent, and draw its choices.

    Args:
        judged: The agent and its environment.
        workloads: Names.
        seeds: Of the episodes on each of them.
        name: What pictures are called after.
        shipped: The shipped agent, as `agents.shipped.load_agent` takes it, whose model card is quoted; None: it is
            another one.
        folder: Where pictures go; None: below `DEFAULT_FOLDER`.
        tell: Told what plays.

    Raises:
        UserError: The folder cannot be written.
    """
    folder = DEFAULT_FOLDER / name if folder is None else folder
    make_writable_folder(folder, "--output")
    measure, (features, numbers) = measure_of(judged.env_id), _names(judged, workloads[0])
    decisions: dict[str, Decisions] = {}
    values = []
    for workload in workloads:
        tell(f"{judged.name} on {workload}")
        decisions[workload], infos = decisions_of(judged, workload, seeds)
        values.append(float(np.asarray(infos[measure.metric], np.float64).mean()))
    own = np.array(values)
    kinds = importance_of_features(judged, feature_kinds(features, judged.env_id), decisions, measure, seeds, tell)
    parts = [
        f"{judged.name} on {judged.env_id}, {len(workloads)} workload{'s' * (len(workloads) != 1)}, "
        f"{len(seeds)} episode{'s' * (len(seeds) != 1)} each; {measure.title}: "
        f"{measure.value_text(float(measure.mean(own)))} in {measure.average}.",
        _features_text(kinds, own, tuple(workloads), measure, discrete=not numbers),
    ]
    if numbers:
        tell("parts of its action")
        parts += _actions_text(judged, decisions, own, features, numbers, measure, seeds)
    tell("pictures")
    pictures = draw_choices(folder, name, judged, decisions, seeds, numbers)
    if shipped is not None and (words := words_of(shipped)):
        parts.append(words)
    parts.append("Pictures: " + ", ".join(map(str, pictures)))
    return "\n\n".join(parts)


def words_of(shipped: str) -> str:
    """What the model card of a shipped agent says in plain words, and whether of the training seed that is looked at.

    Args:
        shipped: Name, as `agents.shipped.load_agent` takes it.
    """
    name, _, given = shipped.partition(":")
    agent = find_agent(name)
    if not (words := plain_words((agent.folder / CARD).read_text())):
        return ""
    seed, told = int(given) if given else agent.seeds[0], _SEED.search(words)
    other = int(told[1]) if told else agent.seeds[0]
    note = "" if seed == other else f" (of training seed {other}: {name}:{other}, while all above is of seed {seed})"
    return f"In plain words{note}\n\n{words}"


def plain_words(card: str) -> str:
    """The section of a model card that says in plain words what an agent does; empty where there is none."""
    _, found, rest = card.partition(f"{PLAIN_WORDS}\n")
    return rest.partition("\n## ")[0].strip() if found else ""


def _names(judged: Contender, workload: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the features, and of the numbers of the action; none where it is a choice."""
    environment = make_environment(judged.env_id, judged.env_kwargs, workload, 1)
    proxy: Any = getattr(environment.unwrapped, "proxy")  # noqa: B009 (Gymnasium's type has none)
    subsystem = proxy.subsystem
    environment.close()
    return tuple(subsystem.observation.names), tuple(getattr(subsystem.recommendation, "names", ()))


def _features_text(
    kinds: Sequence[Importance], own: FloatArray, workloads: tuple[str, ...], measure: Measure, *, discrete: bool
) -> str:
    what = "share of its choices that change" if discrete else "mean change of its numbers, as a share of their range"
    header = ["without", "action", measure.average, *workloads]
    body = [[each.name, f"{100 * each.action:.1f} %", *_changes(each, own, measure)] for each in kinds]
    return (
        f"What drives it: features replaced by those of another moment. 'action': {what}; then the change of the "
        f"{measure.title}\n\n{format_table(header, body)}"
    )


def _actions_text(
    judged: Contender,
    decisions: Mapping[str, Decisions],
    own: FloatArray,
    features: tuple[str, ...],
    numbers: tuple[str, ...],
    measure: Measure,
    seeds: Sequence[int],
) -> list[str]:
    """What it recommends, number by number, and what each part of that is worth."""
    flat = {workload: each.actions.reshape(-1, len(numbers)) for workload, each in decisions.items()}
    everything = np.concatenate(list(flat.values()))
    means = np.stack([actions.mean(axis=0) for actions in flat.values()])
    seen = np.concatenate([each.observations.reshape(-1, len(features)) for each in decisions.values()])
    body = []
    for number, label in enumerate(numbers):
        column = means[:, number]
        ends = [f"{column[place]:+.2f} ({tuple(flat)[place]})" for place in (column.argmin(), column.argmax())]
        body.append(
            [label, f"{everything[:, number].mean():+.2f}", *ends, _leans(everything[:, number], seen, features)]
        )
    header = ["number", "mean", "lowest", "highest", "goes with"]
    texts = [
        f"What it recommends: mean over all decisions, and over those on one workload\n\n{format_table(header, body)}"
    ]
    parts = parts_of(judged.env_id, numbers)
    whole = {"all of it": tuple(range(len(numbers)))} if len(parts) > 1 else {}
    replacements = {"its mean over all decisions: what adapting is worth": everything.mean(axis=0)}
    if judged.env_id == TUNE:
        replacements["the zero action, which is greedy without a split of the user's blocks"] = np.zeros(len(numbers))
    workloads = tuple(decisions)
    for what, instead in replacements.items():
        worth = worth_of_parts(judged, {**parts, **whole}, instead, workloads, measure, seeds)
        rows = [[each.name, *_changes(each, own, measure)] for each in worth]
        table = format_table(["replaced", measure.average, *workloads], rows)
        texts.append(f"Change of the {measure.title} when a part of the action is replaced by {what}\n\n{table}")
    return texts


def _leans(column: FloatArray, seen: FloatArray, features: tuple[str, ...]) -> str:
    """The features with which a number of the action rises (+) or falls (-) most clearly."""
    if column.std() < 1e-6:
        return ""
    spread = seen.std(axis=0)
    centred = (seen - seen.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
    correlation = centred.T @ ((column - column.mean()) / column.std()) / len(column)
    order = np.argsort(-np.abs(correlation))[:_LEANS]
    return ", ".join(
        f"{'-' if correlation[k] < 0 else '+'}{features[k]}" for k in order if abs(correlation[k]) >= _CLEAR
    )


def _changes(each: Importance, own: FloatArray, measure: Measure) -> list[str]:
    """The change of the measure, in average and by workload."""
    average = float(measure.change(measure.mean(each.values), measure.mean(own)))
    return [measure.change_text(value) for value in (average, *measure.change(each.values, own).tolist())]
